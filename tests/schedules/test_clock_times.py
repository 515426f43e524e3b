"""Times of cron expressions through both changes of the clock."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from endcap.schedules.clock_times import MOST_TIMES, find_next_time, list_times
from endcap.spec.schedule import PartSchedule


def _at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def _list(cron: str, zone: str, after: str, until: str) -> list[str]:
    schedule = PartSchedule(cron=cron, time_zone=zone)
    return [f"{moment:%d %H:%M}" for moment in list_times(schedule, _at(after), _at(until))]


def test_a_skipped_time_runs_once_at_the_end_of_the_skipped_hour() -> None:
    # 2026-03-29 in Berlin: 02:00 is 03:00 at once, which is 01:00 UTC.
    assert _list("30 2 * * *", "Europe/Berlin", "2026-03-27T12:00", "2026-03-30T12:00") == [
        "28 01:30",
        "29 01:00",
        "30 00:30",
    ]
    # Four skipped times and that at 03:00 are one.
    assert _list("*/15 * * * *", "Europe/Berlin", "2026-03-29T00:30", "2026-03-29T01:15") == [
        "29 00:45",
        "29 01:00",
        "29 01:15",
    ]


def test_a_time_that_comes_twice_runs_the_first_time() -> None:
    # 2026-10-25 in Berlin: from 01:00 UTC on it is 02:00 again.
    assert _list("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00", "2026-10-26T12:00") == ["25 00:30", "26 01:30"]
    assert _list("*/30 * * * *", "Europe/Berlin", "2026-10-24T23:45", "2026-10-25T02:10") == [
        "25 00:00",
        "25 00:30",
        "25 02:00",
    ]


def test_a_skipped_day_runs_at_its_end() -> None:
    # Samoa had no 30 December 2011.
    assert _list("0 9 * * *", "Pacific/Apia", "2011-12-29T18:00", "2011-12-31T12:00") == [
        "29 19:00",
        "30 10:00",
        "30 19:00",
    ]


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC"])
@pytest.mark.parametrize("cron", ["17 2 * * *", "0 * * * *", "0 3 1 * *", "30 1 * * 0"])
def test_times_of_a_year_do_not_depend_on_where_one_looks_from(zone: str, cron: str) -> None:
    schedule = PartSchedule(cron=cron, time_zone=zone)
    begin, end = _at("2026-01-01T00:00"), _at("2026-12-31T00:00")
    whole = list_times(schedule, begin, end)
    assert whole == sorted(set(whole))
    stepped, cursor = [], begin
    while (moment := find_next_time(schedule, cursor)) is not None and moment <= end:
        stepped.append(moment)
        cursor = moment
        if len(stepped) == 400:
            break
    assert stepped == whole[: len(stepped)]


def test_a_long_absence_is_bounded() -> None:
    schedule = PartSchedule(cron="* * * * *")
    times = list_times(schedule, _at("2020-01-01T00:00"), _at("2026-01-01T00:00"))
    assert len(times) == MOST_TIMES
    assert times[-1] == _at("2026-01-01T00:00")
