"""When a recommender's pipelines run by themselves: at times, when data arrive, or both."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import islice, pairwise
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field

from endcap.spec.base import Allowed, Duration, Mistake, Strict, check, format_duration

PARTS = {"features": "features", "train": "training", "batch": "recommend"}
"""The pipeline that each part of a schedule runs."""
_EMPTY = timedelta(0)
_FIELDS = 5
_TIMES = 400
"""So many times of an expression are compared. Of one a day, these are more than a year."""


def _check_cron(text: str) -> str:
    # Imported when a spec has a schedule: nothing else needs it.
    from cronsim import CronSim, CronSimError

    if len(text.split()) != _FIELDS:
        raise ValueError("five fields: minute, hour, day of the month, month, day of the week, such as 0 3 * * *")
    try:
        CronSim(text, datetime(2000, 1, 1))
    except CronSimError as error:
        raise ValueError(f"a cron expression such as 0 3 * * * ({error})") from None
    return text


def _find_longest_gap(cron: str) -> timedelta:
    """Find the longest time between two of many times of an expression, from a fixed day on; 0 if there are none."""
    from cronsim import CronSim

    times = list(islice(CronSim(cron, datetime(2000, 1, 1)), _TIMES))
    return max((later - earlier for earlier, later in pairwise(times)), default=_EMPTY)


def _check_time_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError("a name of the IANA time zone data base, such as Europe/Berlin or UTC") from None
    return name


Cron = Annotated[str, AfterValidator(_check_cron), Allowed("a cron expression of five fields, such as 0 3 * * *")]
TimeZone = Annotated[str, AfterValidator(_check_time_zone), Allowed("a time zone, such as Europe/Berlin or UTC")]


class ArrivalSpec(Strict):
    """How a schedule learns that there are new data."""

    poll: Duration = Field(default="10m", validate_default=True)
    """How often the files of the shop are listed. No file is opened for it."""
    marker: str = ""
    """The name of a file that says that the files beside it are complete, such as _SUCCESS. If it is set, these files
    alone say whether there is something new."""
    notifications: bool = False
    """Whether notifications of the bucket wake up the schedule between two polls."""

    @check
    def _values_are_allowed(self) -> Iterator[Mistake]:
        if self.poll < timedelta(seconds=1):
            yield Mistake(("poll",), "a shorter time", "at least 1s", code="not-allowed")
        if not re.fullmatch(r"[^/*?\[\]\s]*", self.marker):
            yield Mistake(
                ("marker",), repr(self.marker), "a file's name without folder and wildcards", code="not-allowed"
            )


class PartSchedule(Strict):
    """When a pipeline runs by itself. Give `cron`, `arrival`, or both: then each of them starts runs."""

    cron: Cron | None = None
    """The times at which it runs, by the clock of time_zone: minute, hour, day of the month, month, day of the week."""
    time_zone: TimeZone = "UTC"
    """The time zone of `cron`. A time that a clock change skips counts as the end of the skipped hour. A time that
    comes twice counts once, the first time."""
    arrival: ArrivalSpec | None = None
    """Runs when there are new data."""
    settle: Duration = Field(default="0s", validate_default=True)
    """How long new data must stay unchanged before they start a run."""
    catch_up: Literal["skip", "last", "all"] = "last"
    """What happens to times that passed while no scheduler ran or while a run went on. `skip`: nothing. `last`: the
    latest one runs. `all`: each one runs, in order, with the events before it."""
    deadline: Duration = Field(default="1d", validate_default=True)
    """How long a run may take. Then it is ended, and counts as failed."""
    late_after: Duration | None = None
    """An alert fires if no run has succeeded for so long, whatever the reason: 26h for a schedule of each night. If it
    is not set, no alert watches this schedule. With `cron` alone it must be longer than the time between two runs."""
    concurrency: Literal["wait", "skip", "replace"] = "wait"
    """What happens if a run is due while another one of this schedule goes on. `wait`: it runs afterwards. `skip`: it
    does not run. `replace`: the run that goes on is ended."""

    @check
    def _something_starts_it(self) -> Iterator[Mistake]:
        if self.cron is None and self.arrival is None:
            yield Mistake(("cron",), "neither cron nor arrival", "at least one of the two", code="missing")

    @check
    def _durations_are_not_empty(self) -> Iterator[Mistake]:
        if self.deadline <= _EMPTY:
            yield Mistake(("deadline",), "0s", "a duration above 0, such as 6h", code="not-allowed")
        if self.late_after is not None and self.late_after <= _EMPTY:
            yield Mistake(("late_after",), "0s", "a duration above 0, such as 26h", code="not-allowed")

    @check
    def _limit_exceeds_gaps(self) -> Iterator[Mistake]:
        """With times alone, a shorter limit would be exceeded before each run."""
        if self.late_after is None or self.cron is None or self.arrival is not None:
            return
        gap = _find_longest_gap(self.cron)
        if _EMPTY < self.late_after <= gap:
            allowed = f"more than {format_duration(gap)}, the longest time between two times of cron"
            yield Mistake(("late_after",), repr(format_duration(self.late_after)), allowed, code="not-allowed")

    @check
    def _all_waits(self) -> Iterator[Mistake]:
        if self.catch_up == "all" and self.concurrency != "wait":
            allowed = "'wait', because catch_up is 'all'"
            yield Mistake(("concurrency",), repr(self.concurrency), allowed, code="conflict")


class ScheduleSpec(Strict):
    """What `endcap schedule run` starts by itself. No artifact depends on it."""

    features: PartSchedule | None = None
    """When the dataset is made: `endcap run --pipeline features`."""
    train: PartSchedule | None = None
    """When a model is trained, judged and deployed: `endcap run`."""
    batch: PartSchedule | None = None
    """When lists are made for all customers: `endcap recommend`."""

    @property
    def parts(self) -> dict[str, PartSchedule]:
        """The schedules that are set, by the name of their part."""
        schedules = {name: getattr(self, name) for name in PARTS}
        return {name: schedule for name, schedule in schedules.items() if schedule is not None}
