"""The loop's body: looks at all schedules, claims what is due, and starts a process for each claim."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from endcap.errors import EndcapError, TransientError
from endcap.processes import is_alive
from endcap.runs import find_run, make_run_name
from endcap.runs.record import CANCELED, FAILED, SUCCEEDED
from endcap.schedules.clock_times import find_next_time
from endcap.schedules.decide import decide, needs_version
from endcap.schedules.ledger import LedgerEntry, RunClaim, ScheduleLedger, read_ledger, update_ledger
from endcap.schedules.versions import read_version
from endcap.spec.load import Loaded
from endcap.spec.schedule import PartSchedule
from endcap.store import Store

STILL = 60.0
"""Seconds without a sign of life after which a run's process counts as dead."""


@dataclass(frozen=True)
class ScheduledPart:
    """A part of a recommender's schedule: what is looked at by itself."""

    loaded: Loaded = field(repr=False)
    part: str
    schedule: PartSchedule = field(repr=False)

    @property
    def recommender(self) -> str:
        return self.loaded.recommender.name

    @property
    def name(self) -> str:
        """The recommender's name and that of the part."""
        return f"{self.recommender}/{self.part}"


class StartedProcess(Protocol):
    """A process that was started for a claim."""

    def poll(self) -> int | None:
        """Return its exit code; None while it lives."""


@dataclass(frozen=True)
class SchedulerSurroundings:
    """What a scheduler asks of its machine. Tests have others.

    Attributes
    ----------
    now, monotonic
        The clocks: UTC, and seconds that never go back.
    host, pid
        Who this scheduler is.
    is_alive
        Whether a process of this host lives.
    read_version
        As `endcap.schedules.versions.read_version`.
    """

    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    monotonic: Callable[[], float] = time.monotonic
    host: str = field(default_factory=socket.gethostname)
    pid: int = field(default_factory=os.getpid)
    is_alive: Callable[[int], bool] = is_alive
    read_version: Callable[[Loaded, str, PartSchedule, Store], str] = read_version


@dataclass(frozen=True)
class ScheduleNews:
    """What a look found: an entry of a ledger, or a fault that kept the schedule from being looked at."""

    name: str
    entry: LedgerEntry | None = None
    fault: EndcapError | None = None


class Scheduler:
    """Looks at schedules.

    Parameters
    ----------
    parts
        The schedules.
    store
        Holds their ledgers.
    start
        Starts the process for a claim. Raises OSError or EndcapError.
    at_once
        The most runs that go on at once, of all these schedules.
    surroundings
        The machine.

    Notes
    -----
    Several schedulers may look at the same schedules. Each step is one change of one ledger; who comes second decides
    on the ledger as it is then.
    """

    def __init__(
        self,
        parts: Sequence[ScheduledPart],
        store: Store,
        start: Callable[[ScheduledPart, RunClaim], StartedProcess],
        *,
        at_once: int = 1,
        surroundings: SchedulerSurroundings | None = None,
    ) -> None:
        self.parts = parts
        self._store, self._start, self._at_once = store, start, at_once
        self._here = surroundings or SchedulerSurroundings()
        self._processes: dict[str, StartedProcess] = {}
        self._next_poll: dict[str, datetime] = {}
        self._last_beats: dict[str, tuple[object, float]] = {}

    def look(self, woken: Iterable[str] = ()) -> list[ScheduleNews]:
        """Look at all schedules once.

        Parameters
        ----------
        woken
            Names of shops for which a notification came: their data are looked at now.

        Returns
        -------
        list of ScheduleNews
            What was decided, and faults. One schedule's fault does not keep the others from being looked at.
        """
        news: list[ScheduleNews] = []
        versions: dict[object, str] = {}
        ledgers: dict[str, ScheduleLedger] = {}
        shops = set(woken)
        for part in self.parts:
            try:
                ledgers[part.name] = self._look_at(part, part.loaded.shop.name in shops, versions, news)
            except EndcapError as error:
                news.append(ScheduleNews(part.name, fault=error))
        self._claim_due(ledgers, news)
        self._processes = {run: process for run, process in self._processes.items() if process.poll() is None}
        return news

    def find_next_look(self) -> datetime:
        """Find when the next look is due, if nothing wakes it up."""
        now = self._here.now()
        times = [find_next_time(part.schedule, now) for part in self.parts]
        return min([moment for moment in (*times, *self._next_poll.values()) if moment is not None], default=now)

    @property
    def is_busy(self) -> bool:
        """Whether a process that this scheduler started lives."""
        return any(process.poll() is None for process in self._processes.values())

    @property
    def has_ended_process(self) -> bool:
        """Whether a process has ended since the last look."""
        return any(process.poll() is not None for process in self._processes.values())

    def _look_at(
        self, part: ScheduledPart, is_woken: bool, versions: dict[object, str], news: list[ScheduleNews]
    ) -> ScheduleLedger:
        now = self._here.now()
        ledger = read_ledger(self._store, part.recommender, part.part)
        if ledger.claim is not None and self._is_dead(part, ledger.claim):
            ledger = self._mend(part, ledger.claim, news)
        version = self._read_version(part, ledger, now, is_woken, versions)
        if decide(now, part.schedule, ledger, version) is ledger:
            return ledger
        return self._change(part, lambda before: decide(now, part.schedule, before, version), news)

    def _read_version(
        self, part: ScheduledPart, ledger: ScheduleLedger, now: datetime, is_woken: bool, versions: dict[object, str]
    ) -> str | None:
        arrival = part.schedule.arrival
        is_polled = arrival is not None and (
            (is_woken and arrival.notifications) or now >= self._next_poll.get(part.name, now)
        )
        if not is_polled and not needs_version(now, part.schedule, ledger):
            return None
        if arrival is not None:
            # Set first: a place that does not answer is not asked all the time.
            self._next_poll[part.name] = now + arrival.poll
        marker = arrival.marker if arrival is not None else ""
        key = (part.loaded.shop.name, marker, part.recommender if part.part == "batch" else "")
        if key not in versions:
            versions[key] = self._here.read_version(part.loaded, part.part, part.schedule, self._store)
        version = versions[key]
        if arrival is not None and version not in ("", ledger.arrived) and part.schedule.settle:
            self._next_poll[part.name] = min(now + part.schedule.settle, self._next_poll[part.name])
        elif arrival is not None and ledger.arrived_at is not None:
            settled_at = ledger.arrived_at + part.schedule.settle
            if now < settled_at:
                self._next_poll[part.name] = min(settled_at, self._next_poll[part.name])
        return version

    def _claim_due(self, ledgers: Mapping[str, ScheduleLedger], news: list[ScheduleNews]) -> None:
        """Claim what is due, the longest first, as long as runs may begin."""
        running = sum(ledger.claim is not None for ledger in ledgers.values())
        waiting = [part for part in self.parts if part.name in ledgers and _is_waiting(ledgers[part.name])]
        waiting.sort(key=lambda part: ledgers[part.name].queue[0].at)
        for part in waiting[: max(0, self._at_once - running)]:
            try:
                self._claim(part, news)
            except EndcapError as error:
                news.append(ScheduleNews(part.name, fault=error))

    def _claim(self, part: ScheduledPart, news: list[ScheduleNews]) -> None:
        run, now = make_run_name(part.recommender), self._here.now()
        ledger = self._change(part, lambda before: before.claim_next(run, self._here.host, self._here.pid, now), news)
        self._start_claimed(part, ledger, run, news)

    def _start_claimed(
        self, part: ScheduledPart, ledger: ScheduleLedger, run: str, news: list[ScheduleNews]
    ) -> ScheduleLedger:
        """Start the process of a claim, if it is this scheduler's."""
        claim = ledger.claim
        if claim is None or claim.run != run:
            return ledger
        try:
            self._processes[run] = self._start(part, claim)
        except OSError as error:
            now = self._here.now()
            news.append(ScheduleNews(part.name, fault=_make_start_error(part, run, error)))
            return self._change(part, lambda before: before.settle(run, "failed", "cannot-start", now), news)
        return ledger

    def _mend(self, part: ScheduledPart, claim: RunClaim, news: list[ScheduleNews]) -> ScheduleLedger:
        """Settle the claim of a dead process by the run's record, or take it over."""
        now = self._here.now()
        run = find_run(self._store, claim.run)
        state = "" if run is None else str(run.document.get("state", ""))
        if state in (SUCCEEDED, FAILED, CANCELED):
            reason = claim.end or (run.fault.code if run is not None and run.fault is not None else "")
            step = {SUCCEEDED: "succeeded", FAILED: "failed"}.get(state, "canceled")
            return self._change(part, lambda before: before.settle(claim.run, step, reason, now), news)  # type: ignore[arg-type]
        if claim.ends_by is not None and now >= claim.ends_by:
            return self._change(part, lambda before: before.settle(claim.run, "failed", "deadline", now), news)
        again = make_run_name(part.recommender)
        ledger = self._change(
            part, lambda before: before.take_over(claim, again, self._here.host, self._here.pid, now), news
        )
        return self._start_claimed(part, ledger, again, news)

    def _is_dead(self, part: ScheduledPart, claim: RunClaim) -> bool:
        """Tell whether the process that answers for a claim is gone.

        Of another machine only its signs of life tell, by this machine's own clock. They tell here as well, where the
        system gave the process's number to another one.
        """
        own = self._processes.get(claim.run)
        if own is not None and own.poll() is not None:
            return True
        is_here = claim.host == self._here.host
        if is_here and claim.pid == self._here.pid:
            return own is None  # a scheduler before this one had the same number
        if is_here and not self._here.is_alive(claim.pid):
            return True
        sign, now = (claim.run, claim.pid, claim.beat), self._here.monotonic()
        last, since = self._last_beats.get(part.name, (None, now))
        if sign != last:
            self._last_beats[part.name] = (sign, now)
            return False
        return now - since > STILL

    def _change(
        self,
        part: ScheduledPart,
        change: Callable[[ScheduleLedger], ScheduleLedger],
        news: list[ScheduleNews],
    ) -> ScheduleLedger:
        """Change a ledger, and report the entries that this change made."""
        own: list[LedgerEntry] = []

        def apply(before: ScheduleLedger) -> ScheduleLedger:
            after = change(before)
            own[:] = _list_new_entries(before, after)
            return after

        ledger = update_ledger(self._store, part.recommender, part.part, apply)
        news += [ScheduleNews(part.name, entry) for entry in own]
        return ledger


def list_parts(specs: Iterable[Loaded]) -> list[ScheduledPart]:
    """List the parts of the schedules of recommenders."""
    return [
        ScheduledPart(loaded, part, schedule)
        for loaded in specs
        for part, schedule in loaded.recommender.schedule.parts.items()
    ]


def _is_waiting(ledger: ScheduleLedger) -> bool:
    return ledger.claim is None and bool(ledger.queue)


def _list_new_entries(before: ScheduleLedger, after: ScheduleLedger) -> list[LedgerEntry]:
    known = {id(entry) for entry in before.entries}
    return [entry for entry in after.entries if id(entry) not in known]


def _make_start_error(part: ScheduledPart, run: str, error: OSError) -> TransientError:
    return TransientError(
        f"{part.name}: no process could be started for the run {run} ({error.strerror}). Free memory or processes. "
        "Then `endcap schedule retrigger` starts it again",
        code="schedule.cannot-start",
        schedule=part.name,
        run=run,
        reason=str(error.strerror),
    )
