"""The loop's body: looks at all schedules, claims what is due, and has each claim's run started and followed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from endcap.errors import EndcapError
from endcap.events.data_version import DataListing
from endcap.runs import make_run_name
from endcap.schedules.arrivals import find_arrival, keep_listing
from endcap.schedules.clock_times import find_next_time
from endcap.schedules.decide import decide, needs_version
from endcap.schedules.ledger import ScheduleLedger
from endcap.schedules.part_look import (
    ClaimedRuns,
    PartLook,
    ScheduledPart,
    ScheduleNews,
    SchedulerSurroundings,
    do_at_once,
)
from endcap.spec.load import Loaded
from endcap.store import Store

PREPARING = 0.5
"""Seconds of a look for what makes later starts faster."""


class Scheduler:
    """Looks at schedules.

    Parameters
    ----------
    parts
        The schedules.
    store
        Holds their ledgers.
    runs
        Starts and follows the runs of claims.
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
        runs: ClaimedRuns,
        *,
        at_once: int = 1,
        surroundings: SchedulerSurroundings | None = None,
    ) -> None:
        self.parts, self.runs = parts, runs
        self._store, self._at_once = store, at_once
        self._here = surroundings or SchedulerSurroundings()
        self._next_poll: dict[str, datetime] = {}
        self._listings: dict[str, DataListing] = {}
        self._is_prepared = False

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
        looks = [look for look in do_at_once(lambda part: self._begin_look(part, news), self.parts) if look]
        self.runs.survey(looks)
        listings = self._list_data(looks, set(woken))
        clear = do_at_once(lambda look: self._attend(look, listings.get(look.part.name)), looks)
        self._claim_due(
            [look for look, is_clear in zip(looks, clear, strict=True) if is_clear],
            sum(look.ledger.claim is not None for look in looks),
        )
        if not woken:
            self._prepare()
        return news

    def find_next_look(self) -> datetime:
        """Find when the next look is due, if nothing wakes it up."""
        now = self._here.now()
        if not self._is_prepared and self.runs.can_start():
            return now
        times = [find_next_time(part.schedule, now) for part in self.parts]
        return min([moment for moment in (*times, *self._next_poll.values()) if moment is not None], default=now)

    def _begin_look(self, part: ScheduledPart, news: list[ScheduleNews]) -> PartLook | None:
        try:
            return PartLook(part, self._store, news)
        except EndcapError as error:
            news.append(ScheduleNews(part.name, fault=error))
            return None

    def _attend(self, look: PartLook, listing: DataListing | EndcapError | None) -> bool:
        """Look after the claimed run of a part, and decide what is due. Returns whether that was possible."""
        try:
            self.runs.follow(look)
        except EndcapError as error:
            look.report(error)
        if isinstance(listing, EndcapError):
            look.report(listing)
            return False
        now, schedule = self._here.now(), look.part.schedule
        version = None if listing is None else listing.version
        if listing is not None:
            self._listings[look.part.name] = listing
            self._plan_poll(look, listing.version, now)
        try:
            if decide(now, schedule, look.ledger, version) is not look.ledger:
                look.change(lambda before: decide(now, schedule, before, version))
        except EndcapError as error:
            look.report(error)
            return False
        return True

    def _list_data(self, looks: Sequence[PartLook], woken: set[str]) -> dict[str, DataListing | EndcapError]:
        """List the data of the parts of which it is time, each place once. Returns the listings by the parts' names."""
        now = self._here.now()
        by_place: dict[object, list[ScheduledPart]] = {}
        for look in looks:
            part, arrival = look.part, look.part.schedule.arrival
            is_woken = arrival is not None and arrival.notifications and part.loaded.shop.name in woken
            is_polled = arrival is not None and (is_woken or now >= self._next_poll.get(part.name, now))
            if not is_polled and not needs_version(now, part.schedule, look.ledger):
                continue
            if arrival is not None:
                # Set first: a place that does not answer is not asked all the time.
                self._next_poll[part.name] = now + arrival.poll
            marker = arrival.marker if arrival is not None else ""
            place = (part.loaded.shop.name, marker, part.recommender if part.part == "batch" else "")
            by_place.setdefault(place, []).append(part)
        listings = do_at_once(self._list_place, [parts[0] for parts in by_place.values()])
        return {
            part.name: listing for parts, listing in zip(by_place.values(), listings, strict=True) for part in parts
        }

    def _list_place(self, part: ScheduledPart) -> DataListing | EndcapError:
        try:
            return self._here.read_listing(part.loaded, part.part, part.schedule, self._store)
        except EndcapError as error:
            return error

    def _plan_poll(self, look: PartLook, version: str, now: datetime) -> None:
        """Look again sooner than the poll says at data that are to settle."""
        schedule, ledger, name = look.part.schedule, look.ledger, look.part.name
        if schedule.arrival is None:
            return
        if version not in ("", ledger.arrived):
            settled_at = now + schedule.settle
        elif ledger.arrived_at is not None:
            settled_at = ledger.arrived_at + schedule.settle
        else:
            return
        if now < settled_at:
            self._next_poll[name] = min(settled_at, self._next_poll[name])

    def _claim_due(self, looks: Sequence[PartLook], running: int) -> None:
        """Claim what is due, the longest first, as long as runs may begin."""
        waiting = sorted((look for look in looks if _is_waiting(look.ledger)), key=lambda look: look.ledger.queue[0].at)
        due = waiting[: max(0, self._at_once - running)]
        claimed = do_at_once(self._claim_safely, due)
        # Afterwards: no run waits for it.
        do_at_once(self._keep_listing, [look for look, is_claimed in zip(due, claimed, strict=True) if is_claimed])

    def _claim_safely(self, look: PartLook) -> bool:
        try:
            return self.runs.can_start() and self._claim(look)
        except EndcapError as error:
            look.report(error)
            return False

    def _prepare(self) -> None:
        """Make later starts faster, for a moment."""
        end = self._here.monotonic() + PREPARING
        while not self._is_prepared and self.runs.can_start():
            self._is_prepared = not self.runs.prepare(self.parts)
            if self._here.monotonic() >= end:
                return

    def _claim(self, look: PartLook) -> bool:
        """Claim a run and start it. Returns whether the run is told what came."""
        run, now = make_run_name(look.part.recommender), self._here.now()
        host, pid, place = self._here.host, self._here.pid, self.runs.place
        listing = self._listings.get(look.part.name)
        arrival = None if listing is None else find_arrival(self._store, look.part.recommender, look.part.part, listing)
        claim = look.change(lambda before: before.claim_next(run, host, pid, now, place=place, arrival=arrival)).claim
        if claim is None or claim.run != run:
            return False
        self.runs.start(look, claim)
        return arrival is not None

    def _keep_listing(self, look: PartLook) -> None:
        part = look.part
        try:
            keep_listing(self._store, part.recommender, part.part, self._listings[part.name])
        except EndcapError as error:
            look.report(error)


def list_parts(specs: Iterable[Loaded]) -> list[ScheduledPart]:
    """List the parts of the schedules of recommenders."""
    return [
        ScheduledPart(loaded, part, schedule)
        for loaded in specs
        for part, schedule in loaded.recommender.schedule.parts.items()
    ]


def _is_waiting(ledger: ScheduleLedger) -> bool:
    return ledger.claim is None and bool(ledger.queue)
