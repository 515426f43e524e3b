"""The section `schedule`: what is refused, and that no artifact depends on it."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from endcap.spec.schedule import ScheduleSpec


@pytest.mark.parametrize(
    "part",
    [
        {},
        {"cron": "0 3 * *"},
        {"cron": "0 0 3 * * *"},
        {"cron": "0 25 * * *"},
        {"cron": "0 0 30 2 *"},
        {"cron": "0 3 * * *", "time_zone": "Europe/Atlantis"},
        {"cron": "0 3 * * *", "time_zone": "../etc/passwd"},
        {"cron": "0 3 * * *", "deadline": "0s"},
        {"cron": "0 3 * * *", "late_after": "0s"},
        {"cron": "0 3 * * *", "late_after": "24h"},
        {"cron": "30 5 * * 1-5", "late_after": "26h"},
        {"cron": "0 3 * * *", "catch_up": "all", "concurrency": "skip"},
        {"arrival": {"poll": "10ms"}},
        {"arrival": {"marker": "day=*/_SUCCESS"}},
        {"arrival": {}, "settle": "soon"},
    ],
)
def test_a_wrong_schedule_is_refused(part: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ScheduleSpec.model_validate({"train": part})


@pytest.mark.parametrize(
    "part",
    [
        {"cron": "0 3 * * *", "late_after": "26h"},
        {"cron": "30 5 * * 1-5", "late_after": "75h"},
        {"cron": "30 5 * * 1-5", "late_after": "26h", "arrival": {}},
        {"arrival": {}, "late_after": "1h"},
    ],
)
def test_a_limit_for_the_alert_fits_the_times(part: dict[str, Any]) -> None:
    schedule = ScheduleSpec.model_validate({"train": part}).parts["train"]
    assert ScheduleSpec.model_validate({"train": schedule.model_dump()}).parts["train"] == schedule


def test_the_parts_are_those_that_are_set() -> None:
    spec = ScheduleSpec.model_validate({"train": {"cron": "0 3 * * 1-5"}, "batch": {"arrival": {}}})
    assert list(spec.parts) == ["train", "batch"]
