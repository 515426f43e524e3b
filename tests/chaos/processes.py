"""Processes of an attack: seen by their ids, measured, and ended with all that they started."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

KIB = 1024
PR_SET_CHILD_SUBREAPER = 36
LAST_WORDS = 20.0
"""Seconds that a process is given to say what it has seen so far."""


class Child:
    """A process that is ended with all below it, also with what outlived those that started it."""

    def __init__(self, command: Sequence[str]) -> None:
        # Whoever loses its parent becomes a child of this process, where it is found.
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self._process = subprocess.Popen(command)

    def wait(self, limit: float) -> int | None:
        """Its exit status; None where it did not end within `limit` seconds and was ended, first by SIGTERM."""
        try:
            return self._process.wait(limit)
        except subprocess.TimeoutExpired:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(LAST_WORDS)
            return None
        finally:
            end_below(os.getpid())
            self._process.wait()


def end_below(pid: int) -> None:
    """Kill all processes below one, whatever groups they are in."""
    for each in descendants(pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(each, signal.SIGKILL)


def end_tree(pid: int) -> None:
    """Kill a process of ours and all below it."""
    end_below(pid)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def descendants(pid: int) -> list[int]:
    """Ids of all living processes below one, the nearest first."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError):
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                parents.setdefault(int(parent), []).append(int(stat.parent.name))
    below: list[int] = []
    level = [pid]
    while level:
        level = [child for each in level for child in parents.get(each, ())]
        below += level
    return below


def command_line(pid: int) -> str:
    """Empty where it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def memory(pid: int) -> int:
    """Bytes of its resident memory; 0 where it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((KIB * int(line.split()[1]) for line in lines if line.startswith("VmRSS:")), 0)
