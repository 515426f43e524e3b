"""Processes that a supervisor starts, watches and ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

OWN_ERROR = "endcap: "
"""What a line begins with that tells why a process of Endcap ends."""
_LEASH = Path(__file__).with_name("leash.py")


class Process:
    """A child in a process group of its own that dies with this process, its output in a log file.

    In its own group, because Ctrl-C in a terminal reaches a whole group: the supervisor alone shall decide the order.
    Start it from a thread that outlives it (see leash.py).
    """

    def __init__(
        self, name: str, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.log = log
        leash = [sys.executable, "-I", "-S", str(_LEASH), str(os.getpid())]
        with log.open("ab") as output:
            self._child = subprocess.Popen(
                [*leash, *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                process_group=0,
                env={**os.environ, **(environment or {})},
            )

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def ended(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        return self._child.poll()

    def how_it_ended(self) -> str:
        """The exit status in words, and the last words of its log."""
        status = self.ended
        if status is None:
            return "it runs"
        said = f"ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        return f"{said}, its last words in {self.log}:\n{tail(self.log)}"

    def ask_to_end(self) -> None:
        if self.ended is None:
            self._child.terminate()

    def end(self, patience: float) -> None:
        """Wait `patience` seconds for the end, then kill."""
        try:
            self._child.wait(max(patience, 0))
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()


def end_all(processes: Iterable[Process], patience: float = 5.0) -> None:
    """End processes together: ask all, give them `patience` seconds between them, kill the rest."""
    running = list(processes)
    for process in running:
        process.ask_to_end()
    deadline = time.monotonic() + patience
    for process in running:
        process.end(deadline - time.monotonic())


def tail(log: Path, lines: int = 10) -> str:
    """A log's last lines, indented; where it ends with an error of Endcap's own, that error alone."""
    try:
        with log.open("rb") as handle:
            handle.seek(max(0, handle.seek(0, os.SEEK_END) - 8192))
            text = handle.read().decode(errors="replace")
    except OSError as error:
        return f"  ({error})"
    last = text.strip().splitlines()
    own = [number for number, line in enumerate(last) if line.startswith(OWN_ERROR)]
    return "\n".join(f"  {line}" for line in (last[own[-1] :] if own else last[-lines:]))
