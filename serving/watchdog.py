"""Whether a child still answers: a thread asks it again and again, and says so when it hangs.

A process that is stopped, or waits for itself, has not ended: nobody would start it again. It hangs where it has left
several questions in a row without an answer. One that computes meanwhile is busy, and is given longer. A machine that
slept, or had no time for this process either, proves nothing: then the count begins anew.
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
"""Seconds between an answer, or the lack of one, and the next question."""
WITHIN = 2.0
"""Seconds that an answer may take."""
MISSED = 5
"""Questions in a row without an answer: from then on a process hangs that does not compute."""
MISSED_BUSY = 30
"""And one that computes."""
_SLACK = 3.0
"""Seconds by which a question may last longer than it should, before the machine counts as having slept."""


class Watchdog:
    """Asks the process `pid` until `close`. One that has not answered yet is starting, and does not hang."""

    def __init__(self, name: str, pid: int, ask: Callable[[float], bool]) -> None:
        """ask: is given the seconds that an answer may take, and says whether there was one; from another thread."""
        self._name, self._pid, self._ask = name, pid, ask
        self._every, self._within, self._most, self._most_busy = EVERY, WITHIN, MISSED, MISSED_BUSY
        self._count = MissedAnswers(pid)
        self._heard = False
        self._end = threading.Event()
        threading.Thread(target=self._run, name=f"pulse-{name}", daemon=True).start()

    @property
    def hung(self) -> EndcapError | None:
        """That the process hangs, once it does."""
        missed = self._count.missed
        if missed < (self._most_busy if self._count.busy else self._most):
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
        """Somebody else got an answer: the process has started, and may hang from now on."""
        self._heard = True

    def close(self) -> None:
        self._end.set()

    def _run(self) -> None:
        while True:
            began = _clocks()
            if self._end.wait(self._every):
                return
            try:
                answered = self._ask(self._within)
            except Exception:  # Whatever a question fails by, it has no answer.
                answered = False
            took = max(after - before for before, after in zip(began, _clocks(), strict=True))
            self._heard |= answered
            if answered or not self._heard or took > self._every + self._within + _SLACK:
                self._count = MissedAnswers(self._pid)
            else:
                self._count.add()


class MissedAnswers:
    """Signs of life in a row that a process did not give, and whether it computed meanwhile."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._since = time.monotonic()
        self._first: float | None = None
        self._last: float | None = None
        self.missed = 0

    def add(self) -> None:
        self.missed += 1
        self.look()

    def look(self) -> None:
        """Note its processor time. Later ones are compared with the first, which is of after its last sign."""
        self._last = read_processor_time(self._pid)
        if self._first is None:
            self._first = self._last

    @property
    def looked(self) -> bool:
        return self._first is not None

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._since

    @property
    def busy(self) -> bool:
        """Where the system does not say, everybody may be busy."""
        return self._first is None or self._last is None or self._last > self._first


def read_processor_time(pid: int) -> float | None:
    """Ticks of processor time that a process has used; None where the system does not say."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return float(fields[11]) + float(fields[12])
    except (OSError, ValueError, IndexError):
        return None


def make_http_check(address: str) -> Callable[[float], bool]:
    """A question: GET `address` is answered 200."""

    def ask(within: float) -> bool:
        try:
            with urllib.request.urlopen(address, timeout=within) as answer:  # noqa: S310
                return bool(answer.status == 200)
        except (OSError, http.client.HTTPException):
            return False

    return ask


def _clocks() -> tuple[float, float]:
    """One that stands still while the machine sleeps, on Linux, and one that does not."""
    return time.monotonic(), time.time()
