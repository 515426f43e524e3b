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
    """A child in a process group of its own that dies with this process, its output in a log file.

    In its own group, because Ctrl-C in a terminal reaches a whole group: the supervisor alone shall decide the order.
    Start it from a thread that outlives it (see parent_death.py).
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
        """log: gets what it writes, and nobody but its owner may read it. folder: where it runs. output: a file
        descriptor that gets its standard output instead. umask: -1: this process's.

        Raises OSError where no process can be started. One whose log cannot be written runs all the same.
        """
        self.name = name
        self.log = log
        with _open_log(log) as output_file:
            # An earlier process may have written to it.
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
        return self._child.pid

    @property
    def exit_status(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        return self._child.poll()

    def read_failure(self) -> EndcapError:
        """Why it ended, once it has: the error that a process of Endcap logged; else exit status and last words."""
        status = self.exit_status
        ending = f"ended by {signal.Signals(-status).name}" if status and status < 0 else f"ended with status {status}"
        lines = self._last_lines()
        report = next(filter(None, map(_parse_logged_error, reversed(lines))), None)
        description = "\n".join([f"{ending}, its last words in {self.log}:", *(f"  {line}" for line in lines)])
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
        """The last lines that this process wrote."""
        try:
            with self.log.open("rb") as handle:
                end = handle.seek(0, os.SEEK_END)
                # It is shorter than it was where it has been rotated.
                handle.seek(max(self._begin if self._begin <= end else 0, end - TAIL_BYTES))
                return handle.read().decode(errors="replace").strip().splitlines()[-TAIL_LINES:]
        except OSError as error:
            return [f"({error})"]

    def ask_to_end(self) -> None:
        if self.exit_status is None:
            self._child.terminate()

    def end(self, patience: float) -> None:
        """Wait `patience` seconds for the end, then kill."""
        try:
            self._child.wait(max(patience, 0))
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End it at once: SIGKILL alone reaches a process that is stopped."""
        self._child.kill()
        # One that waits for a disk dies when the disk has answered.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(_DIES_WITHIN)


def end_processes(processes: Iterable[Process], patience: float = 5.0) -> None:
    """End processes together: ask all, give them `patience` seconds between them, kill the rest."""
    running = list(processes)
    for process in running:
        process.ask_to_end()
    deadline = time.monotonic() + patience
    for process in running:
        process.end(deadline - time.monotonic())


def _open_log(log: Path) -> IO[bytes]:
    """The log, to be added to; where it cannot be, what nobody keeps: a process is worth more than its log."""
    try:
        return open(log, "ab", opener=open_private)
    except OSError:
        return Path(os.devnull).open("ab")


def open_private(path: str, flags: int) -> int:
    """An `opener`: a file that is made has mode 600."""
    return os.open(path, flags, 0o600)


def _parse_logged_error(line: str) -> dict[str, Any] | None:
    """The log line in which a process of Endcap told why it ends, read; None for any other."""
    try:
        report = json.loads(line)
    except ValueError:
        return None
    return report if isinstance(report, dict) and report.get("message") == CANNOT_RUN else None
