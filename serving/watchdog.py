"""A thread that asks a child process again and again whether it is well, and reports when it hangs.

A process that is stopped or deadlocked has not ended, so nobody would start it again. It hangs if it leaves several
questions in a row without an answer. A process that computes meanwhile is busy and gets more time. If the machine
slept, or had no time for this process either, missing answers prove nothing, and the count begins anew.
"""

from __future__ import annotations

import http.client
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

from endcap.errors import EndcapError

EVERY = 1.0
"""Seconds between the end of one question and the next question."""
WITHIN = 2.0
"""Seconds that an answer may take."""
MISSED = 5
"""Questions in a row without an answer after which an idle process hangs."""
MISSED_BUSY = 30
"""Questions in a row without an answer after which a computing process hangs."""
_SLACK = 3.0
"""Seconds by which a question may exceed its time before the machine counts as having slept."""


class Watchdog:
    """Asks a process until `close`. A process that has not answered yet is starting and does not hang.

    Parameters
    ----------
    name
        The process's name in the error.
    pid
        The process's id.
    ask
        Asks the process once and returns whether it answered. It gets the seconds that the answer may take, and runs
        in the watchdog's thread.
    """

    def __init__(self, name: str, pid: int, ask: Callable[[float], bool]) -> None:
        self._name, self._pid, self._ask = name, pid, ask
        self._every, self._within, self._limit, self._busy_limit = EVERY, WITHIN, MISSED, MISSED_BUSY
        self._count = MissedAnswers(pid)
        self._has_answered = False
        self._end = threading.Event()
        threading.Thread(target=self._run, name=f"pulse-{name}", daemon=True).start()

    @property
    def hang(self) -> EndcapError | None:
        """The error `serving.hung` if the process hangs; None if it does not."""
        missed = self._count.missed
        if missed < (self._busy_limit if self._count.is_busy else self._limit):
            return None
        seconds = round(self._count.seconds, 1)
        return EndcapError(
            f"process {self._pid} has not answered {missed} questions in a row, for {seconds:.0f} s; it is killed",
            code="serving.hung",
            process=self._name,
            pid=self._pid,
            missed=missed,
            seconds=seconds,
        )

    def note_answer(self) -> None:
        """Note that somebody else got an answer: the process has started, and may hang from now on."""
        self._has_answered = True

    def close(self) -> None:
        """Ask no more."""
        self._end.set()

    def _run(self) -> None:
        while True:
            began = _read_clocks()
            if self._end.wait(self._every):
                return
            try:
                has_answered = self._ask(self._within)
            except Exception:  # Whatever a question fails by, it has no answer.
                has_answered = False
            duration = max(after - before for before, after in zip(began, _read_clocks(), strict=True))
            self._has_answered |= has_answered
            if has_answered or not self._has_answered or duration > self._every + self._within + _SLACK:
                self._count = MissedAnswers(self._pid)
            else:
                self._count.add()


class MissedAnswers:
    """Counts the answers in a row that a process did not give, and measures whether it computed meanwhile.

    Parameters
    ----------
    pid
        The process's id.

    Attributes
    ----------
    missed
        Answers in a row that did not come.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._since = time.monotonic()
        self._first: float | None = None
        self._last: float | None = None
        self.missed = 0

    def add(self) -> None:
        """Count one more missing answer."""
        self.missed += 1
        self.measure()

    def measure(self) -> None:
        """Read the process's processor time. Later values are compared with the first one."""
        self._last = read_processor_time(self._pid)
        if self._first is None:
            self._first = self._last

    @property
    def is_measured(self) -> bool:
        """Whether the processor time was read."""
        return self._first is not None

    @property
    def seconds(self) -> float:
        """Seconds since the count began."""
        return time.monotonic() - self._since

    @property
    def is_busy(self) -> bool:
        """Whether the process computed meanwhile. True if the system does not say."""
        return self._first is None or self._last is None or self._last > self._first


def read_processor_time(pid: int) -> float | None:
    """Read the processor time of a process.

    Returns
    -------
    float or None
        Clock ticks in user and kernel mode together, from ``/proc/<pid>/stat``. None if the system does not say.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return float(fields[11]) + float(fields[12])
    except (OSError, ValueError, IndexError):
        return None


def make_http_check(address: str) -> Callable[[float], bool]:
    """Make a check for `Watchdog`: whether GET at an address is answered with 200.

    Parameters
    ----------
    address
        The URL.

    Returns
    -------
    Callable
        Takes the seconds that the answer may take.
    """

    def ask(timeout: float) -> bool:
        try:
            with urllib.request.urlopen(address, timeout=timeout) as answer:  # noqa: S310
                return bool(answer.status == 200)
        except (OSError, http.client.HTTPException):
            return False

    return ask


def _read_clocks() -> tuple[float, float]:
    """Read a clock that stands still while a Linux machine sleeps, and one that does not."""
    return time.monotonic(), time.time()
