"""The times that a cron expression means, through changes of the clock.

The rule: a time that the clock skips counts as the end of the skipped hour; a time that comes twice counts once, the
first time. Times that so become equal count once. So nothing is left out and nothing runs twice, which is also what
Debian's cron does with jobs of fixed times.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from endcap.spec.schedule import PartSchedule

MOST_TIMES = 10_000
"""So many times are looked back at. Of a cron expression that means each minute, these are a week."""
_MARGIN = timedelta(days=2)
"""More than any clock was ever changed by."""


def list_times(schedule: PartSchedule, after: datetime, until: datetime) -> list[datetime]:
    """List the times of a schedule after one moment and up to another.

    Parameters
    ----------
    schedule
        The schedule. Without `cron` there are no times.
    after, until
        UTC.

    Returns
    -------
    list of datetime
        UTC, in order; if there are more than `MOST_TIMES`, the latest of them.
    """
    times: list[datetime] = []
    if until <= after:
        return times
    for moment in _iterate_times(schedule, until + _MARGIN, backwards=True):
        if moment <= after or len(times) == MOST_TIMES:
            break
        if moment <= until and moment not in times[-1:]:
            times.append(moment)
    return times[::-1]


def find_next_time(schedule: PartSchedule, after: datetime) -> datetime | None:
    """Find the first time of a schedule after a moment (UTC); None if there is none."""
    times = _iterate_times(schedule, after - _MARGIN, backwards=False)
    return next((moment for moment in times if moment > after), None)


def _iterate_times(schedule: PartSchedule, start: datetime, *, backwards: bool) -> Iterator[datetime]:
    """Iterate over times in UTC. The zone's clock is applied here, so that the rule above holds for all expressions."""
    # Imported when it is needed: most processes have no schedule.
    from cronsim import CronSim

    if schedule.cron is None:
        return
    zone = ZoneInfo(schedule.time_zone)
    for local in CronSim(schedule.cron, start.astimezone(zone).replace(tzinfo=None), reverse=backwards):
        yield _convert_to_utc(local, zone)


def _convert_to_utc(local: datetime, zone: ZoneInfo) -> datetime:
    """Convert a time of a zone's clock to UTC by the rule of this module."""
    moment = local.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if moment.astimezone(zone).replace(tzinfo=None) == local:
        return moment
    # The clock skips this time. With fold=0 the offset before the change counts, so `moment` lies after the change;
    # with fold=1 that after it, so the other one lies before. The change is looked up between the two.
    before, after = local.replace(tzinfo=zone, fold=1).astimezone(UTC), moment
    offset = after.astimezone(zone).utcoffset()
    while after - before > timedelta(seconds=1):
        middle = (before + (after - before) / 2).replace(microsecond=0)
        if middle.astimezone(zone).utcoffset() == offset:
            after = middle
        else:
            before = middle
    return after
