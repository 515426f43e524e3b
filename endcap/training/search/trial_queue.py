"""Decides which trial of one model is next, what waits, and what continues when the time is up. Ray asks it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Literal

from endcap.ray_driver import Emit
from endcap.spec.search import SearchSpec
from endcap.spec.settings import TrainSettings
from endcap.spec.tunable import Values, change_parameters, dump_parameters, list_domains
from endcap.tables import format_bytes
from endcap.training.search.cost_model import (
    PROCESS_BYTES,
    TrialCost,
    estimate_cost,
    estimate_process_bytes,
)
from endcap.training.search.job import SearchJob
from endcap.training.search.record import WRITTEN, ModelTrials, Trial
from endcap.training.search.sampler import Sampler
from endcap.training.search.throughput import Throughput
from endcap.training.search.trial import find_member

Next = tuple[int, Values] | Literal["wait", "done"]
STEP_BYTES = 2**30
"""Memory that the step and Ray's own processes take."""


class TrialQueue:
    """The trials of one model in the order in which they start.

    Until the job's time is up, or too many trials failed, the job's own trials start, then samples: as many at once as
    are of use and fit into memory, and none that could not end an epoch any more. Then only the model as the spec has
    it and its best rival continue, to their own ends, for as long as the job allows.

    Parameters
    ----------
    job
        The search of the model.
    emit
        Takes events: each trial's start, epochs and end, and the changes above.
    clock
        Returns the time in seconds.
    """

    def __init__(self, job: SearchJob, emit: Emit, clock: Callable[[], float] = time.monotonic) -> None:
        settings = TrainSettings.model_validate_json(job.task.settings)
        search = settings.search or SearchSpec()
        self._job, self._tell, self._clock = job, emit, clock
        self._member = find_member(job.task)
        space = list_domains(settings.model, search)[job.task.label]
        self._sampler = Sampler(space, dump_parameters(self._member), settings.seed, job.trials)
        self._first = list(job.first)
        # Of those that an earlier attempt began, what they reached.
        begun = [trial for trial in job.first if trial.value is not None]
        self._part = ModelTrials({trial.number: trial for trial in [*job.known, *begun]})
        for known in job.known:
            self._sampler.add_known(known)
        numbers = [trial.number for trial in [*job.first, *job.known]]
        self._number = max(numbers, default=0) + 1
        self._candidate: tuple[int, Values] | None = None
        self._pace = Throughput(job.concurrency, job.seconds, clock)
        self._end = clock() + job.seconds + job.finish
        self._last = clock() + job.seconds + max(job.finish, job.first_epoch)
        self._running: dict[int, float] = {}
        """Numbers, and the bytes that each takes."""
        self._finishing: list[int] | None = None
        """None until nothing more is tried."""
        self._queue: list[int] = []
        self._cut_numbers: set[int] = set()

    def next(self) -> Next:
        """Return the next trial, which counts as started.

        `wait`: there is none now, and a running one will end. `done`: nothing is left.
        """
        while True:
            if self._finishing is None and self._pace.left <= 0:
                self._begin_finish()
            if self._finishing is not None:
                return self._choose_next_to_finish()
            if len(self._part.of("failed")) > self._job.most_failed:
                self._begin_finish()
                continue
            if len(self._running) >= self._pace.at_once:
                return "wait"
            candidate = self._candidate = self._candidate or self._choose_candidate()
            if candidate is None:
                if self._running:
                    return "wait"
                self._begin_finish()
                continue
            number, values = candidate
            if self._skip_if_too_large(number, values):
                self._candidate = None
                continue
            cost = self._estimate_cost(values)
            if self._running and not (self._has_room(cost) and self._pace.ends_in_time(cost.work)):
                return "wait"
            if number != WRITTEN and not self._pace.ends_in_time(cost.work):
                self._begin_finish()
                continue
            self._candidate = None
            return self._start(number, values)

    def add_epoch(self, number: int, what: dict[str, Any], epoch: int | None = None, best: float | None = None) -> None:
        """Note that a trial ended an epoch.

        Parameters
        ----------
        number
            The trial's number.
        what
            Its report (`trial.run`).
        epoch
            The epoch's number; None: not known.
        best
            The best value of its epochs up to this one.
        """
        if number not in self._running:
            return
        if epoch is not None and best is not None:
            self._sampler.report_epoch(number, epoch, best)
        before = self._pace.at_once
        self._pace.end_epoch(number, what.get("waited"))
        self._emit({"event": "row", "number": number, "row": what["row"]})
        if self._pace.at_once != before:
            self._emit({"event": "pace", "at_once": self._pace.at_once})

    def end_trial(self, number: int, what: dict[str, Any]) -> None:
        """Note that a trial ended. what: its state, and what belongs to it."""
        if self._running.pop(number, None) is None:
            return
        self._pace.end_trial(number, complete=what["state"] == "complete")
        self._sampler.end_trial(number, what["state"], what.get("value"))
        self._emit({"event": "ended", "number": number, **what})

    def is_spared(self, number: int) -> bool:
        """Return whether a trial may not be stopped for falling behind."""
        if self._finishing is not None or number == WRITTEN:
            return True
        return number <= self._job.spared and not self._pace.is_short(self._job.spared)

    def check_time(self) -> None:
        """Do what the time demands; call it again and again while trials run."""
        if self._finishing is None and self._pace.left <= 0:
            self._begin_finish()
        if self.over:
            self._cut(list(self._running))
        elif self._finishing is not None and self._clock() >= self._end:
            self._cut([number for number in self._running if number != WRITTEN])

    def was_cut(self, number: int) -> bool:
        """Return whether a trial was running when its time was up, and has to end."""
        return number in self._cut_numbers

    @property
    def over(self) -> bool:
        """Whether nothing may run any more."""
        if self._finishing is None:
            return False
        return not self._finishing or self._clock() >= (self._last if self._is_without_epoch() else self._end)

    def _is_without_epoch(self) -> bool:
        """Return whether the model as the spec has it runs, and has not ended any epoch yet."""
        written = self._part.written
        return WRITTEN in self._running and (written is None or written.value is None)

    def _choose_candidate(self) -> tuple[int, Values] | None:
        if self._first:
            trial = self._first.pop(0)
            self._sampler.add_point(trial.number, trial.parameters)
            return trial.number, trial.parameters
        number = self._number
        values = self._sampler.suggest(number) if number <= self._job.trials else None
        if values is None:
            return None
        self._number += 1
        return number, values

    def _start(self, number: int, values: Values) -> tuple[int, Values]:
        cost = self._estimate_cost(values)
        self._running[number] = estimate_process_bytes(self._job.size, cost)
        self._pace.start_trial(number, cost.work)
        self._emit({"event": "started", "number": number, "parameters": values})
        return number, values

    def _begin_finish(self) -> None:
        """Try nothing more, and cut off what does not continue."""
        self._finishing = self._part.list_unfinished() if self._job.finish > 0 else []
        self._cut([number for number in self._running if number not in self._finishing])
        self._queue = [number for number in self._finishing if number not in self._running]
        self._emit({"event": "finishing", "numbers": self._finishing})

    def _choose_next_to_finish(self) -> Next:
        if not self._queue or self.over:
            return "wait" if self._running else "done"
        number = self._queue[0]
        known: Trial | None = self._part.trials.get(number)
        values = self._job.written if known is None else known.parameters
        if self._running and (
            len(self._running) >= self._pace.at_once or not self._has_room(self._estimate_cost(values))
        ):
            return "wait"
        self._queue.pop(0)
        if self._skip_if_too_large(number, values):
            return self._choose_next_to_finish()
        return self._start(number, values)

    def _cut(self, numbers: list[int]) -> None:
        for number in numbers:
            self._cut_numbers.add(number)
            self.end_trial(number, {"state": "cut"})

    def _estimate_cost(self, values: Values) -> TrialCost:
        return estimate_cost(change_parameters(self._member, values), self._job.size)

    def _skip_if_too_large(self, number: int, values: Values) -> bool:
        """Return whether a trial cannot fit into memory; it has then ended."""
        memory, cost = self._job.memory, self._estimate_cost(values)
        if memory is None or cost.bytes <= memory:
            return False
        reason = f"its fit takes about {format_bytes(cost.bytes)} of memory, and there are {format_bytes(memory)} here"
        self._start(number, values)
        self.end_trial(number, {"state": "skipped", "error": reason})
        return True

    def _has_room(self, cost: TrialCost) -> bool:
        """Return whether one more trial fits into memory."""
        memory = self._job.memory
        if memory is None:
            return True
        return sum(self._running.values()) + estimate_process_bytes(self._job.size, cost) <= max(
            memory - STEP_BYTES, PROCESS_BYTES
        )

    def _emit(self, event: dict[str, Any]) -> None:
        if "number" in event:
            self._part.take(event)
        self._tell(event)
