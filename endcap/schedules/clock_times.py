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
_NEAR = timedelta(days=2)
"""Longer than any clock was ever changed by."""


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
    for moment in _iterate_times(schedule, until, backwards=True):
        if moment <= after or len(times) == MOST_TIMES:
            break
        if moment <= until and moment not in times[-1:]:
            times.append(moment)
    return times[::-1]


def find_next_time(schedule: PartSchedule, after: datetime) -> datetime | None:
    """Find the first time of a schedule after a moment (UTC); None if there is none."""
    times = _iterate_times(schedule, after, backwards=False)
    return next((moment for moment in times if moment > after), None)


def _iterate_times(schedule: PartSchedule, start: datetime, *, backwards: bool) -> Iterator[datetime]:
    """Iterate over times in UTC from a moment on, and over some on its other side.

    The zone's clock is applied here, so that the rule above holds for all expressions. Near a change of the clock the
    times around `start` are not in the order of the clock, so the iteration begins by the change before it.
    """
    # Imported when it is needed: most processes have no schedule.
    from cronsim import CronSim

    if schedule.cron is None:
        return
    zone = ZoneInfo(schedule.time_zone)
    offsets = [(start + near).astimezone(zone).utcoffset() or timedelta() for near in (-_NEAR, timedelta(), _NEAR)]
    margin = max(offsets) - min(offsets) + timedelta(seconds=1)
    local_start = start.astimezone(zone).replace(tzinfo=None)
    local_start += margin if backwards else -margin
    for local in CronSim(schedule.cron, local_start, reverse=backwards):
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
