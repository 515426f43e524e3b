"""Processes that a supervisor starts, watches and ends."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from endcap.errors import EndcapError
from endcap_serving.json_log import CANNOT_RUN
from endcap_serving.parent_death import bind_to_parent

TAIL_LINES, TAIL_BYTES = 10, 8192
_DIES_WITHIN = 5.0


class Process:
    """A child process that writes to a log and dies with this process.

    Make it in a thread that outlives it (see parent_death.py). It runs in a process group of its own, because Ctrl-C in
    a terminal reaches a whole group, and only the supervisor shall decide in which order its processes end.

    Parameters
    ----------
    name
        The process's name in errors.
    command
        A program and its arguments.
    log
        The file for its output. Only its owner may read it. If it cannot be written, the process runs without a log.
    environment
        Variables that are added to those of this process.
    folder
        Where the process runs; None: where this one does.
    output
        A file descriptor that gets the standard output instead of the log.
    umask
        The process's umask. -1: that of this process.

    Raises
    ------
    OSError
        The process cannot be started.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        environment: Mapping[str, str] | None = None,
        *,
        folder: Path | None = None,
        output: int | None = None,
        umask: int = -1,
    ) -> None:

        self.name = name
        self.log = log
        with _open_log(log) as output_file:
            # An earlier process may have written to the log.
            self._begin = output_file.tell()
            self._child = subprocess.Popen(
                bind_to_parent(command),
                stdin=subprocess.DEVNULL,
                stdout=output_file if output is None else output,
                stderr=output_file,
                process_group=0,
                cwd=folder,
                umask=umask,
                env={**os.environ, **(environment or {})},
            )

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._child.pid

    @property
    def exit_status(self) -> int | None:
        """The exit status, or the negative number of the signal that ended the process. None while it runs."""
        return self._child.poll()

    def read_failure(self) -> EndcapError:
        """Read why the process ended. Call it once it has.

        Returns
        -------
        EndcapError
            The error that a process of Endcap logged as its last one. For all others `serving.process-ended`, with the
            exit status and the last lines of the log.
        """
        status = self.exit_status
        ending = f"ended by {signal.Signals(-status).name}" if status and status < 0 else f"ended with status {status}"
        lines = self._last_lines()
        report = next(filter(None, map(_parse_logged_error, reversed(lines))), None)
        description = "\n".join([f"{ending}; the last lines of {self.log}:", *(f"  {line}" for line in lines)])
        error = EndcapError(
            f"{ending}: {report['error']}\n(log: {self.log})" if report else description,
            code="serving.process-ended",
            process=self.name,
            status=status,
            log=str(self.log),
        )
        if report:
            error.code = report["code"]
            error.fields |= report.get("fields", {})
        return error

    def _last_lines(self) -> list[str]:
        """Read the last lines that this process wrote."""
        try:
            with self.log.open("rb") as handle:
                end = handle.seek(0, os.SEEK_END)
                # A log that was rotated is shorter than before.
                handle.seek(max(self._begin if self._begin <= end else 0, end - TAIL_BYTES))
                return handle.read().decode(errors="replace").strip().splitlines()[-TAIL_LINES:]
        except OSError as error:
            return [f"({error})"]

    def ask_to_end(self) -> None:
        """Send SIGTERM, if the process runs."""
        if self.exit_status is None:
            self._child.terminate()

    def end(self, patience: float) -> None:
        """Wait `patience` seconds for the end, then kill the process."""
        try:
            self._child.wait(max(patience, 0))
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """Send SIGKILL, which alone reaches a process that is stopped."""
        self._child.kill()
        # A process that waits for a disk ends only when the disk has answered.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(_DIES_WITHIN)


def end_processes(processes: Iterable[Process], patience: float = 5.0) -> None:
    """End processes together: ask all, wait `patience` seconds for all of them, and kill the others."""
    running = list(processes)
    for process in running:
        process.ask_to_end()
    deadline = time.monotonic() + patience
    for process in running:
        process.end(deadline - time.monotonic())


def _open_log(log: Path) -> IO[bytes]:
    """Open a log to append to it. If that fails, open the null device: a process matters more than its log."""
    try:
        return open(log, "ab", opener=open_private)
    except OSError:
        return Path(os.devnull).open("ab")


def open_private(path: str, flags: int) -> int:
    """Open a file, with mode 600 if it is made. For `open(..., opener=open_private)`."""
    return os.open(path, flags, 0o600)


def _parse_logged_error(line: str) -> dict[str, Any] | None:
    """Parse the log line by which a process of Endcap says why it ends; None for any other line."""
    try:
        report = json.loads(line)
    except ValueError:
        return None
    return report if isinstance(report, dict) and report.get("message") == CANNOT_RUN else None
