"""The ledger of a schedule: what is due, what runs, and what was decided. It is looked up before anything is created.

A ledger is one document, `schedules/<recommender>/<part>`. Each step is one change of it (`Store.update_document`): of
two schedulers one loses, and decides anew on what the other one wrote. After a kill a step is there or not.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, ValidationError

from endcap.errors import IntegrityError
from endcap.schedules.ledger_records import (
    DataArrival,
    DueRun,
    Fate,
    LedgerEntry,
    LedgerRecord,
    Place,
    RunClaim,
    Step,
    StrayRun,
)
from endcap.store import Store

Json = dict[str, Any]
ENTRIES, VERSIONS = 30, 2_000
"""So many of the latest entries, and of the latest versions of the data, are kept."""
MOST_ATTEMPTS = 5
"""After so many processes that were killed, a run counts as failed."""
STRAYS, STRAY_AGE = 50, timedelta(days=1)
"""So many runs are watched for a twin, so long after their end. No request to KFP is on its way for a day."""


def _split_fates(value: Any) -> Any:
    return [entry.split(" ") for entry in value.splitlines()] if isinstance(value, str) else value


def _join_fates(fates: tuple[tuple[str, Fate], ...]) -> str:
    return "\n".join(" ".join(entry) for entry in fates)


Fates = Annotated[tuple[tuple[str, Fate], ...], BeforeValidator(_split_fates), PlainSerializer(_join_fates)]
"""Versions with their fates. A document has them as one text, because there are many and each change writes all."""


class ScheduleLedger(LedgerRecord):
    """Where a schedule stands.

    Attributes
    ----------
    last_number
        The number of the run that became due last.
    cursor
        Times up to this one have been decided on; None: the schedule was never looked at.
    arrived, arrived_at
        The version of the data that was met last, and since when it is so.
    fates
        What became of each version of the data, oldest first.
    queue
        Runs that are due, in their order.
    claim
        The run that goes on.
    entries
        The latest decisions, oldest first.
    counts
        How often each step was taken, with its reason.
    succeeded_at
        When a run succeeded last; None: none has.
    strays
        Runs on KFP of which a twin may still appear.
    """

    last_number: int = 0
    cursor: datetime | None = None
    arrived: str = ""
    arrived_at: datetime | None = None
    fates: Fates = ()
    queue: tuple[DueRun, ...] = ()
    claim: RunClaim | None = None
    entries: tuple[LedgerEntry, ...] = ()
    counts: dict[str, int] = Field(default_factory=dict)
    succeeded_at: datetime | None = None
    strays: tuple[StrayRun, ...] = ()

    def change(self, **values: Any) -> ScheduleLedger:
        """Return a ledger with other values."""
        return self.model_copy(update=values)

    def add(self, entry: LedgerEntry) -> ScheduleLedger:
        """Return the ledger with one more entry."""
        return self.count(entry.step, entry.reason).change(entries=(*self.entries, entry)[-ENTRIES:])

    def count(self, step: str, reason: str) -> ScheduleLedger:
        """Return the ledger with a step counted. Polls that find nothing new have no entry of their own."""
        name = f"{step}:{reason}" if reason else step
        return self.change(counts={**self.counts, name: self.counts.get(name, 0) + 1})

    def mark(self, version: str, fate: Fate) -> ScheduleLedger:
        """Return the ledger with what became of a version."""
        if not version:
            return self
        if self.find_fate(version) is None:
            return self.change(fates=(*self.fates, (version, fate))[-VERSIONS:])
        return self.change(fates=tuple((name, fate if name == version else was) for name, was in self.fates))

    def find_fate(self, version: str) -> Fate | None:
        """Return what became of a version; None if it never came to a decision."""
        return next((fate for name, fate in self.fates if name == version), None)

    def note(
        self, step: Step, due: DueRun, now: datetime, *, reason: str = "", run: str = "", created: str = ""
    ) -> ScheduleLedger:
        """Return the ledger with an entry on a due run."""
        slot = due.at if due.cause == "cron" else None
        entry = LedgerEntry(
            at=now,
            step=step,
            cause=due.cause,
            number=due.number,
            reason=reason,
            version=due.version,
            slot=slot,
            run=run,
            created=created,
            by=due.by,
            why=due.why,
        )
        return self.add(entry)

    def claim_next(
        self,
        run: str,
        host: str,
        pid: int,
        now: datetime,
        *,
        place: Place = "here",
        arrival: DataArrival | None = None,
    ) -> ScheduleLedger:
        """Claim the first due run, unless one goes on.

        Parameters
        ----------
        run, host, pid, place, arrival
            As in `RunClaim`.
        now
            UTC.
        """
        if self.claim is not None or not self.queue:
            return self
        due, *rest = self.queue
        tries = int(place == "kfp")  # who claims a run there creates it at once
        claim = RunClaim(due=due, arrival=arrival, run=run, attempt=1, host=host, pid=pid, place=place, tries=tries)
        ledger = self.change(queue=tuple(rest), claim=claim)
        if due.until is None:
            ledger = ledger.mark(due.version, "runs")
        return ledger.note("started", due, now, run=run)

    def confirm(self, run: str, host: str, pid: int, now: datetime, deadline: timedelta) -> ScheduleLedger:
        """Let the run's own process take the claim over; nothing changes if the claim is no longer of this run."""
        claim = self.claim
        if claim is None or claim.run != run or claim.begun is not None or claim.end:
            return self
        ends_by = claim.ends_by or now + deadline
        update = {"host": host, "pid": pid, "begun": now, "ends_by": ends_by, "beat": claim.beat + 1}
        return self.change(claim=claim.model_copy(update=update))

    def beat(self, run: str) -> ScheduleLedger:
        """Show that the run's process lives."""
        if self.claim is None or self.claim.run != run:
            return self
        return self.change(claim=self.claim.model_copy(update={"beat": self.claim.beat + 1}))

    def settle(
        self, run: str, step: Literal["succeeded", "failed", "canceled"], reason: str, now: datetime
    ) -> ScheduleLedger:
        """Record how a run ended; nothing changes if it is not the claimed one."""
        if self.claim is None or self.claim.run != run:
            return self
        claim, due = self.claim, self.claim.due
        ledger = self.change(claim=None, succeeded_at=now if step == "succeeded" else self.succeeded_at)
        if claim.place == "kfp" and (claim.tries > 1 or not claim.created):
            stray = StrayRun(claim=claim, since=now)
            ledger = ledger.change(strays=(*ledger.strays, stray)[-STRAYS:])
        if due.until is None:
            ledger = ledger.mark(due.version, "ran" if step == "succeeded" else "failed")
        return ledger.note(step, due, now, reason=reason, run=run, created=claim.created)

    def try_again(self, before: RunClaim, host: str, pid: int, now: datetime) -> ScheduleLedger:
        """Begin the creation of a run on KFP again, also for a scheduler that died; nothing changes if somebody else
        was faster, the run is known, or it is to end.

        The run keeps its name, by which KFP shows whether an earlier attempt created it after all.
        """
        claim = self.claim
        if claim is None or claim.created or claim.end:
            return self
        if (claim.run, claim.host, claim.pid, claim.tries) != (before.run, before.host, before.pid, before.tries):
            return self
        update = {"host": host, "pid": pid, "tries": claim.tries + 1, "beat": claim.beat + 1}
        ledger = self.change(claim=claim.model_copy(update=update))
        if (host, pid) == (before.host, before.pid):
            return ledger
        return ledger.note("again", claim.due, now, reason="scheduler-died", run=claim.run)

    def delay(self, run: str, reason: str, now: datetime) -> ScheduleLedger:
        """Record that a run could not be created yet. Only the first time has an entry of its own."""
        claim = self.claim
        if claim is None or claim.run != run:
            return self
        if claim.tries > 1:
            return self.count("delayed", reason)
        return self.note("delayed", claim.due, now, reason=reason, run=run)

    def adopt(self, run: str, created: str, now: datetime, deadline: timedelta) -> ScheduleLedger:
        """Record the id of the run on KFP that counts; nothing changes if there is one, or the claim is another's."""
        claim = self.claim
        if claim is None or claim.run != run or claim.created:
            return self
        update = {"created": created, "begun": now, "ends_by": now + deadline}
        return self.change(claim=claim.model_copy(update=update))

    def ask_end(self, run: str, reason: str) -> ScheduleLedger:
        """Record that a run is to end; nothing changes if it is not the claimed one, or already is to end."""
        claim = self.claim
        if claim is None or claim.run != run or claim.end:
            return self
        return self.change(claim=claim.model_copy(update={"end": reason}))

    def drop_old_strays(self, now: datetime) -> ScheduleLedger:
        """Return the ledger without runs of which no twin can appear any more."""
        strays = tuple(stray for stray in self.strays if now - stray.since <= STRAY_AGE)
        return self if len(strays) == len(self.strays) else self.change(strays=strays)

    def take_over(self, before: RunClaim, run: str, host: str, pid: int, now: datetime) -> ScheduleLedger:
        """Claim a run again whose process died; nothing changes if somebody else was faster.

        Finished steps are artifacts, which the new attempt meets again.
        """
        claim = self.claim
        if claim is None or (claim.run, claim.pid, claim.host) != (before.run, before.pid, before.host):
            return self
        if claim.end:
            return self.settle(claim.run, "failed" if claim.end == "deadline" else "canceled", claim.end, now)
        if claim.attempt >= MOST_ATTEMPTS:
            return self.settle(claim.run, "failed", "killed-too-often", now)
        # An attempt that never began does not count.
        attempt = claim.attempt + (claim.begun is not None)
        again = RunClaim(
            due=claim.due,
            arrival=claim.arrival,
            run=run,
            attempt=attempt,
            host=host,
            pid=pid,
            ends_by=claim.ends_by,
        )
        return self.change(claim=again).note("again", claim.due, now, reason="process-died", run=run)

    def retrigger(self, by: str, why: str, version: str, now: datetime) -> ScheduleLedger:
        """Make a run due because a person wants it, whatever ran before."""
        number = self.last_number + 1
        due = DueRun(number=number, cause="retrigger", at=now, version=version, by=by, why=why)
        ledger = self.change(last_number=number, queue=(*self.queue, due))
        return ledger.note("retriggered", due, now)


def name_ledger(recommender: str, part: str) -> str:
    """Return the name of a ledger's document."""
    return f"schedules/{recommender}/{part}"


def read_ledger(store: Store, recommender: str, part: str) -> ScheduleLedger:
    """Read a ledger; an empty one if there is none. Raises IntegrityError if it is damaged."""
    name = name_ledger(recommender, part)
    return _parse(store.read_document(name), name, store)


def update_ledger(
    store: Store, recommender: str, part: str, change: Callable[[ScheduleLedger], ScheduleLedger]
) -> ScheduleLedger:
    """Change a ledger in one step, and return it.

    Parameters
    ----------
    store, recommender, part
        Where it lies.
    change
        Gets the present ledger and returns the next one. It may be called again with a newer one. If it returns the
        ledger that it got, nothing is written.

    Raises
    ------
    IntegrityError
        The ledger is damaged (`schedule.ledger-damaged`).
    TransientError, StorageError
        As of `Store.update_document`.
    """
    name = name_ledger(recommender, part)

    def apply(document: Json | None) -> Json:
        before = _parse(document, name, store)
        after = change(before)
        if document is not None and after == before:
            return document
        return after.model_dump(mode="json", exclude_defaults=True)

    return _parse(store.update_document(name, apply), name, store)


def _parse(document: Json | None, name: str, store: Store) -> ScheduleLedger:
    try:
        return ScheduleLedger.model_validate(document or {})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        cause = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise IntegrityError(
            f"{name} in {store.root} cannot be read ({cause}). Restore it from a backup. If you delete it, "
            "the schedule begins anew: at its next time, or with the data that are there",
            code="schedule.ledger-damaged",
            document=name,
            store=store.root,
            reason=cause,
        ) from None
