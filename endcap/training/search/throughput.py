"""How fast trials run on their machine: how many at once help, and which can still end an epoch."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import mean, median

_QUIET = 0.9
"""Share of its time that a trial has a core, from which on another trial at once would have one too."""
_SHORT = 0.5
"""Time is short when the settings known to be good would alone take more than this share of it."""
_EPOCHS = 10
"""That a trial runs, as long as none has come to its end."""


@dataclass
class _RunningTrial:
    work: float
    begun: float
    epochs: int = 0
    last_epoch: float = 0.0
    """When its last epoch ended."""
    core: float | None = None
    """Share of its last epoch that it was not kept waiting for a core; None: not known."""


class Throughput:
    """Measures the trials of one model. All times are those of `clock`, in seconds.

    Parameters
    ----------
    at_once
        Most trials at once.
    seconds
        Time for all trials together.
    clock
        Returns the time.

    Attributes
    ----------
    at_once
        Trials at once that are of use now.
    """

    def __init__(self, at_once: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = self.at_once = at_once
        """at_once: trials at the same time that are of use now."""
        self._clock, self._end, self._seconds = clock, clock() + seconds, seconds
        self._running: dict[int, _RunningTrial] = {}
        self._first: list[float] = []
        """Seconds to the end of the first epoch, for a unit of work."""
        self._epochs: list[float] = []
        self._lengths: list[int] = []

    @property
    def left(self) -> float:
        """Seconds until the time is up."""
        return max(0.0, self._end - self._clock())

    def start_trial(self, number: int, work: float) -> None:
        """Note that a trial starts. work: see `TrialCost`."""
        self._running[number] = _RunningTrial(work, self._clock())

    def end_epoch(self, number: int, waited: float | None) -> None:
        """Note that a trial ended an epoch. waited: share of its time without a core; None: not known."""
        run = self._running.get(number)
        if run is None:
            return
        now = self._clock()
        if run.epochs:
            self._epochs.append(now - run.last_epoch)
        else:
            self._first.append((now - run.begun) / run.work)
        run.epochs, run.last_epoch = run.epochs + 1, now
        run.core = None if waited is None else 1.0 - waited
        self._adapt()

    def end_trial(self, number: int, *, complete: bool) -> None:
        """Note that a trial ended. complete: whether it ended by itself, and well."""
        run = self._running.pop(number, None)
        if run is None or not complete:
            return
        if run.epochs:
            self._lengths.append(run.epochs)
        else:
            self._first.append((self._clock() - run.begun) / run.work)

    def estimate_first_epoch(self, work: float) -> float:
        """Return the seconds to the end of a trial's first epoch: as measured, or at least as long as those without one
        ran.
        """
        if self._first:
            return median(self._first) * work
        return max(((self._clock() - run.begun) / run.work * work for run in self._running.values()), default=0.0)

    def ends_in_time(self, work: float) -> bool:
        """Return whether a trial that started now would end an epoch."""
        return self.estimate_first_epoch(work) <= self.left

    def is_short(self, starts: int) -> bool:
        """Return whether `starts` trials that run to their ends would take most of the time."""
        if not self._epochs:
            return False
        epochs = mean(self._lengths) if self._lengths else _EPOCHS
        return starts * epochs * median(self._epochs) / self.at_once > _SHORT * self._seconds

    def _adapt(self) -> None:
        """Adapt the number of trials at once: trials that wait for each other's cores are no faster than fewer trials
        would be.
        """
        cores = [run.core for run in self._running.values() if run.core is not None]
        if not cores or len(cores) < len(self._running):
            return
        if len(cores) >= self.at_once and mean(cores) >= _QUIET:
            self.at_once = min(self._most, self.at_once + 1)
        else:
            self.at_once = min(self.at_once, max(1, round(sum(cores)))) if len(cores) > 1 else self.at_once
