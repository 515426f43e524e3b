"""Claimed runs as processes of this machine: each is started, and claimed again or settled when it died."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from endcap.errors import TransientError
from endcap.runs import find_run, make_run_name
from endcap.runs.record import CANCELED, FAILED, SUCCEEDED
from endcap.schedules.ledger_records import Place, RunClaim
from endcap.schedules.part_look import PartLook, ScheduledPart, SchedulerSurroundings
from endcap.store import Store

STILL = 60.0
"""Seconds without a sign of life after which whoever answers for a claim counts as dead."""


class StartedProcess(Protocol):
    """A process that was started for a claim."""

    def poll(self) -> int | None:
        """Return its exit code; None while it lives."""


class LifeSigns:
    """Tells whether the process that answers for a claim lives. Of another machine only its signs of life tell, by
    this machine's own clock. They tell here as well, where the system gave the process's number to another one."""

    def __init__(self, here: SchedulerSurroundings) -> None:
        self._here = here
        self._last_beats: dict[str, tuple[object, float]] = {}

    def is_dead(self, name: str, claim: RunClaim) -> bool:
        """Tell whether the process is gone. name: the part's. A process with this one's number was before it."""
        if claim.host == self._here.host and (claim.pid == self._here.pid or not self._here.is_alive(claim.pid)):
            return True
        sign, now = (claim.run, claim.pid, claim.beat), self._here.monotonic()
        last, since = self._last_beats.get(name, (None, now))
        if sign != last:
            self._last_beats[name] = (sign, now)
            return False
        return now - since > STILL


class ProcessRuns:
    """Does the runs of claims in processes.

    Parameters
    ----------
    start
        Starts the process for a claim. Raises OSError or EndcapError.
    store
        Holds the runs' records.
    surroundings
        The machine.
    """

    place: Place = "here"

    def __init__(
        self,
        start: Callable[[ScheduledPart, RunClaim], StartedProcess],
        store: Store,
        surroundings: SchedulerSurroundings | None = None,
    ) -> None:
        self._start, self._store = start, store
        self._here = surroundings or SchedulerSurroundings()
        self._life = LifeSigns(self._here)
        self._processes: dict[str, StartedProcess] = {}

    def survey(self, looks: Sequence[PartLook]) -> None:
        """Drop the processes that have ended. Their claims tell by the process's number that it is gone."""
        self._processes = {run: process for run, process in self._processes.items() if process.poll() is None}

    def follow(self, look: PartLook) -> None:
        """Settle the claim of a dead process by the run's record, or take it over."""
        claim = look.ledger.claim
        if claim is None or claim.place != self.place or not self._is_dead(look.part.name, claim):
            return
        now = self._here.now()
        run = find_run(self._store, claim.run)
        state = "" if run is None else str(run.document.get("state", ""))
        if state in (SUCCEEDED, FAILED, CANCELED):
            reason = claim.end or (run.fault.code if run is not None and run.fault is not None else "")
            step = {SUCCEEDED: "succeeded", FAILED: "failed"}.get(state, "canceled")
            look.change(lambda before: before.settle(claim.run, step, reason, now))  # type: ignore[arg-type]
        elif claim.ends_by is not None and now >= claim.ends_by:
            look.change(lambda before: before.settle(claim.run, "failed", "deadline", now))
        else:
            name = make_run_name(look.part.recommender)
            again = look.change(
                lambda before: before.take_over(claim, name, self._here.host, self._here.pid, now)
            ).claim
            if again is not None and again.run == name:
                self.start(look, again)

    def start(self, look: PartLook, claim: RunClaim) -> None:
        """Start the process of a claim."""
        try:
            self._processes[claim.run] = self._start(look.part, claim)
        except OSError as error:
            now = self._here.now()
            look.report(_make_start_error(look.part, claim.run, error))
            look.change(lambda before: before.settle(claim.run, "failed", "cannot-start", now))

    def can_start(self) -> bool:
        """Tell that a process can be started at any time."""
        return True

    def prepare(self, parts: Sequence[ScheduledPart]) -> bool:
        """Do nothing: no process is prepared."""
        return False

    def is_busy(self) -> bool:
        """Tell whether a process that this scheduler started lives."""
        return any(process.poll() is None for process in self._processes.values())

    def has_ended_process(self) -> bool:
        """Tell whether a process has ended since the last look."""
        return any(process.poll() is not None for process in self._processes.values())

    def _is_dead(self, name: str, claim: RunClaim) -> bool:
        own = self._processes.get(claim.run)
        if own is not None and own.poll() is not None:
            return True
        if own is not None and (claim.host, claim.pid) == (self._here.host, self._here.pid):
            return False  # it has not taken its claim over yet
        return self._life.is_dead(name, claim)


def _make_start_error(part: ScheduledPart, run: str, error: OSError) -> TransientError:
    return TransientError(
        f"{part.name}: no process could be started for the run {run} ({error.strerror}). Free memory or processes. "
        "Then `endcap schedule retrigger` starts it again",
        code="schedule.cannot-start",
        schedule=part.name,
        run=run,
        reason=str(error.strerror),
    )
