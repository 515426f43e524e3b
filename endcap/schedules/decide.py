"""What is due: a pure function of the time, the schedule, its ledger and the version of the data.

Each skip has a reason:

- ``missed``: the time passed while no scheduler ran, and `catch_up` is `skip`.
- ``superseded``: a later run of this schedule was due before this one could run.
- ``no-new-data``: this version of the data has run, or was skipped.
- ``no-data``: there are no data, or no marker.
- ``run-goes-on``: a run went on, and `concurrency` is `skip`.
- ``not-settled``: new data have not been unchanged for long enough. They are looked at again.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal

from endcap.schedules.clock_times import list_times
from endcap.schedules.ledger import ScheduleLedger
from endcap.schedules.ledger_records import Cause, DueRun, LedgerEntry
from endcap.spec.schedule import PartSchedule

LATE = timedelta(minutes=10)
"""A time that nobody looked at for so long has passed while no scheduler ran."""
Reason = Literal["missed", "superseded", "no-new-data", "no-data", "run-goes-on", "not-settled"]


def decide(now: datetime, schedule: PartSchedule, ledger: ScheduleLedger, version: str | None = None) -> ScheduleLedger:
    """Decide what is due now.

    Parameters
    ----------
    now
        UTC.
    schedule
        The schedule.
    ledger
        The ledger as it is.
    version
        The version of the data now; empty: there are none; None: nobody looked, so that arrivals are not decided on.

    Returns
    -------
    ScheduleLedger
        The next ledger: with more in its queue, and an entry for each time that was skipped. The same ledger if there
        is nothing to decide.
    """
    if ledger.cursor is None:
        # A new schedule begins now. Times before it are nobody's.
        ledger = ledger.change(cursor=now)
    ledger = _decide_on_times(now, schedule, ledger, version)
    if schedule.arrival is not None and version is not None:
        ledger = _decide_on_arrival(now, schedule, ledger, version)
    return ledger


def needs_version(now: datetime, schedule: PartSchedule, ledger: ScheduleLedger) -> bool:
    """Tell whether a time has come that depends on the version of the data."""
    return ledger.cursor is not None and bool(list_times(schedule, ledger.cursor, now))


def _decide_on_times(
    now: datetime, schedule: PartSchedule, ledger: ScheduleLedger, version: str | None
) -> ScheduleLedger:
    assert ledger.cursor is not None
    times = list_times(schedule, ledger.cursor, now)
    if not times:
        return ledger
    ledger = ledger.change(cursor=times[-1])
    if schedule.catch_up == "all":
        for moment in times:
            ledger = _enqueue(ledger, "cron", moment, version or "", until=moment)
        return ledger
    if schedule.catch_up == "skip":
        for moment in (moment for moment in times if now - moment > LATE):
            ledger = _skip(ledger, now, "cron", "missed", version, moment)
        times = [moment for moment in times if now - moment <= LATE]
    for moment in times[:-1]:
        ledger = _skip(ledger, now, "cron", "superseded", version, moment)
    for moment in times[-1:]:
        if version == "":
            ledger = _skip(ledger, now, "cron", "no-data", version, moment)
        elif version and _is_done(ledger, version, again_after_failure=True):
            ledger = _skip(ledger, now, "cron", "no-new-data", version, moment)
        else:
            ledger = _admit(now, schedule, ledger, "cron", moment, version or "")
    return ledger


def _decide_on_arrival(now: datetime, schedule: PartSchedule, ledger: ScheduleLedger, version: str) -> ScheduleLedger:
    if not version:
        return ledger.count("skipped", "no-data")
    if version != ledger.arrived:
        ledger = ledger.change(arrived=version, arrived_at=now)
    if _is_done(ledger, version, again_after_failure=False):
        return ledger
    assert ledger.arrived_at is not None
    if now - ledger.arrived_at < schedule.settle:
        return ledger.count("skipped", "not-settled")
    return _admit(now, schedule, ledger, "arrival", now, version)


def _is_done(ledger: ScheduleLedger, version: str, *, again_after_failure: bool) -> bool:
    """Tell whether a version ran, runs, waits or was skipped. A time is a new chance for what failed; new data are
    not, because each poll meets them again."""
    fate = ledger.find_fate(version)
    if any(due.version == version and due.until is None for due in ledger.queue):
        return True
    return fate is not None and not (again_after_failure and fate in ("failed", "skipped"))


def _admit(
    now: datetime, schedule: PartSchedule, ledger: ScheduleLedger, cause: Cause, moment: datetime, version: str
) -> ScheduleLedger:
    """Make a run due, by what is to happen while another one goes on or waits."""
    if schedule.catch_up == "all":
        return _enqueue(ledger, cause, moment, version)
    claim = ledger.claim
    if claim is not None and schedule.concurrency == "skip":
        return _skip(ledger, now, cause, "run-goes-on", version, moment).mark(version, "skipped")
    for waiting in (due for due in ledger.queue if due.cause != "retrigger"):
        ledger = ledger.note("skipped", waiting, now, reason="superseded")
    ledger = ledger.change(queue=tuple(due for due in ledger.queue if due.cause == "retrigger"))
    if claim is not None and schedule.concurrency == "replace" and not claim.end:
        ledger = ledger.change(claim=claim.model_copy(update={"end": "replaced"}))
    return _enqueue(ledger, cause, moment, version)


def _enqueue(
    ledger: ScheduleLedger, cause: Cause, moment: datetime, version: str, *, until: datetime | None = None
) -> ScheduleLedger:
    number = ledger.last_number + 1
    due = DueRun(number=number, cause=cause, at=moment, version=version, until=until)
    return ledger.change(last_number=number, queue=(*ledger.queue, due))


def _skip(
    ledger: ScheduleLedger, now: datetime, cause: Cause, reason: Reason, version: str | None, moment: datetime
) -> ScheduleLedger:
    slot = moment if cause == "cron" else None
    return ledger.add(LedgerEntry(at=now, step="skipped", cause=cause, reason=reason, version=version or "", slot=slot))
