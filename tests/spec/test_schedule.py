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
        {"cron": "0 3 * * *", "catch_up": "all", "concurrency": "skip"},
        {"arrival": {"poll": "10ms"}},
        {"arrival": {"marker": "day=*/_SUCCESS"}},
        {"arrival": {}, "settle": "soon"},
    ],
)
def test_a_wrong_schedule_is_refused(part: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ScheduleSpec.model_validate({"train": part})


def test_the_parts_are_those_that_are_set() -> None:
    spec = ScheduleSpec.model_validate({"train": {"cron": "0 3 * * 1-5"}, "batch": {"arrival": {}}})
    assert list(spec.parts) == ["train", "batch"]
