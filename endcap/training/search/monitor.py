"""Follows a job for the step: notes its trials, keeps them, and reports them while they run."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from endcap.ray_driver import RayProcess
from endcap.training.search import messages
from endcap.training.search.allocation import TrialShare
from endcap.training.search.job import SearchJob
from endcap.training.search.mlflow_runs import SearchRuns
from endcap.training.search.record import WRITTEN, ModelTrials, SearchRecord

_LINE_EVERY = 5.0
"""Seconds between two lines of how the search stands."""
_OVERDUE = 20.0
"""Seconds after a job's time in which Ray has to end it, where there is another."""


@dataclass(frozen=True)
class TrialHooks:
    """What is done with a trial's events: the record, MLflow, and removal of needless checkpoints."""

    record: SearchRecord
    runs: SearchRuns
    prune: Callable[[ModelTrials], None]
    refuse: Callable[[ModelTrials], None]
    """Called where too many trials of the only model failed."""


class JobMonitor:
    """Follows one job.

    Parameters
    ----------
    process
        The process that has Ray.
    own
        The model's share of the search.
    part
        Its trials.
    job
        The job.
    kept
        What is done with events.
    tell
        Takes lines for people.
    """

    def __init__(
        self,
        process: RayProcess,
        own: TrialShare,
        part: ModelTrials,
        job: SearchJob,
        kept: TrialHooks,
        tell: Callable[[str], None],
    ) -> None:
        self._process, self._own, self._part, self._job = process, own, part, job
        self._hooks, self._tell = kept, tell
        self._begun = self._last_line = time.monotonic()
        self._running: set[int] = set()

    def follow(self, *, is_last: bool) -> None:
        """Start the job and handle its events until it is over.

        Parameters
        ----------
        is_last
            Whether it is the last job: then its end is not awaited when its time is up.

        Raises
        ------
        TransientError, UserError
            See `RayProcess.next_event`.
        """
        self._process.begin(self._job)
        job = self._job
        limit = job.seconds + max(job.finish, job.first_epoch) + _OVERDUE
        while self._elapsed < limit and not (is_last and self._is_up()):
            event = self._process.next_event(0.5)
            if time.monotonic() - self._last_line > _LINE_EVERY:
                self._last_line = time.monotonic()
                self._tell(self._describe_standing())
            if event is None:
                continue
            if event["event"] == "over":
                return
            self._take(event)
        self._process.kill()

    def _is_up(self) -> bool:
        """Return whether the time is up, and nothing is awaited beyond it."""
        written = self._part.written
        waits = WRITTEN in self._running and written is not None and written.value is None
        return not waits and self._elapsed >= self._job.seconds + self._job.finish

    @property
    def _elapsed(self) -> float:
        return time.monotonic() - self._begun

    def _describe_standing(self) -> str:
        whole = self._job.seconds + (self._job.finish if self._part.finishing else 0.0)
        return messages.describe_progress(self._own, self._part, self._running, self._elapsed, whole)

    def _take(self, event: dict[str, Any]) -> None:
        if event["event"] == "finishing":
            self._finish(event["numbers"])
        elif event["event"] == "pace":
            self._tell(f"trials wait for each other's cores: {event['at_once']} at once from now on")
        else:
            self._note(event)

    def _note(self, event: dict[str, Any]) -> None:
        """Note a trial's event."""
        trial, record = self._part.take(event), self._hooks.record
        if event["event"] != "ended":
            self._running.add(event["number"])
            record.save_soon()
            return
        self._running.discard(event["number"])
        record.save()
        if trial is not None:
            self._hooks.runs.write_trial(self._own.label, trial)
            left = max(0.0, self._job.seconds - self._elapsed)
            self._tell(messages.describe_end(self._own, trial, self._part, left))
            self._hooks.prune(self._part)
        if not self._own.label and len(self._part.of("failed")) > self._job.most_failed:
            self._hooks.refuse(self._part)

    def _finish(self, numbers: list[int]) -> None:
        """Note that nothing more is tried, and that these trials continue."""
        self._part.finishing = numbers
        if not numbers:
            return
        self._hooks.record.begin_finish()
        self._hooks.record.save()
        if self._part.best is None and self._own.label:
            self._tell(
                f"warning: no trial of {self._own.label} ended an epoch in its share of the time; it continues "
                "with its settings in the spec"
            )
        left = self._job.seconds + self._job.finish - self._elapsed
        self._tell(messages.describe_finishing(self._own.label, self._part, numbers, left))
