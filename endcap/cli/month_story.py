"""What happens in the month of `endcap demo-month`, day by day: files that arrive, and what a person changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

FIRST = datetime(2026, 3, 1, tzinfo=UTC)
"""The month's first day, a Sunday."""
DAYS = 31
HISTORY = 3
"""Days of the log before the first day."""
FileState = Literal["whole", "half", "short", "dirty", "broken"]


@dataclass(frozen=True)
class Upload:
    """A day's file arrives, or takes the place of an earlier one.

    Attributes
    ----------
    at
        The time of the day.
    back
        How many days ago the file's day is.
    state
        `whole`; `half`: the rest is still on its way; `short`: its evening is missing; `dirty`: one of 200 rows is
        bad; `broken`: one of five rows is bad.
    """

    at: timedelta
    back: int = 1
    state: FileState = "whole"


_NIGHT = timedelta(minutes=20)


@dataclass(frozen=True)
class RecipeChange:
    """A model's recipe, as keys of the spec that differ, and how shoppers decide on it.

    Attributes
    ----------
    sets
        As of `endcap run --set`.
    phase, reasons
        How its rollout ends, as in `follow_rollout`; empty: it has none.
    """

    sets: Sequence[str] = ()
    phase: Literal["", "promoted", "rolled-back"] = ""
    reasons: Sequence[str] = ()


RECIPES: Mapping[str, RecipeChange] = {
    "first": RecipeChange(),
    "worse": RecipeChange(("model={name: vsknn, sample: 1, neighbours: 1, last_events: 1}",)),
    "better": RecipeChange(("model={name: sequential-rules}",), "promoted", ("shown-superior",)),
    "harmful": RecipeChange(
        ("model={name: vsknn, sample: 500, neighbours: 100, last_events: 5}", "exclude=none"),
        "rolled-back",
        ("metric-harmed", "metric-harmed-early"),
    ),
}
"""Known tastes say how good they are: docs/month.md has the numbers."""


@dataclass(frozen=True)
class StoryDay:
    """A day.

    Attributes
    ----------
    says
        What is special.
    uploads
        The files that arrive, in order of time.
    recipe
        A person takes this recipe in the evening before; empty: the one of the day before.
    kills
        Whether the process of the day's run is killed.
    cleans
        Whether old data are removed at its end.
    explains
        Whether a version is explained and rebuilt at its end.
    forgets
        Whether a customer is forgotten at its end.
    """

    says: str = ""
    uploads: Sequence[Upload] = (Upload(_NIGHT),)
    recipe: str = ""
    kills: bool = False
    cleans: bool = False
    explains: bool = False
    forgets: bool = False


STORY: Mapping[int, StoryDay] = {
    1: StoryDay("the shop opens its log: three days at once", [Upload(_NIGHT, back) for back in range(HISTORY, 0, -1)]),
    2: StoryDay(
        "the file is broken, and comes again in the morning",
        [Upload(_NIGHT, state="broken"), Upload(timedelta(hours=9, minutes=10))],
    ),
    3: StoryDay("the file is late", [Upload(timedelta(hours=14, minutes=10))]),
    5: StoryDay("the file comes in two parts", [Upload(_NIGHT, state="half"), Upload(timedelta(minutes=40))]),
    6: StoryDay("some rows of the file are bad", [Upload(_NIGHT, state="dirty")]),
    8: StoryDay("old data are removed each Sunday", cleans=True),
    9: StoryDay("the file lacks its evening, and nobody notices", [Upload(_NIGHT, state="short")]),
    10: StoryDay("no file comes", []),
    11: StoryDay("the files of two days come at once", [Upload(_NIGHT, 2), Upload(_NIGHT)]),
    12: StoryDay("the shop replaces the short file", [Upload(_NIGHT), Upload(timedelta(hours=15), 4)]),
    14: StoryDay("a person takes a recipe that is worse", recipe="worse"),
    15: StoryDay("the recipe of before is back", recipe="first", cleans=True),
    17: StoryDay("a person takes a better recipe, and shoppers decide", recipe="better"),
    20: StoryDay("a recipe that is better offline, and worse for shoppers", recipe="harmful"),
    21: StoryDay("the better recipe is back", recipe="better"),
    22: StoryDay(cleans=True),
    23: StoryDay("a customer asks to be forgotten", forgets=True),
    24: StoryDay("the run's process is killed", kills=True),
    27: StoryDay("the version that serves is explained and rebuilt", explains=True),
    31: StoryDay("old data are removed, and what stays still works", cleans=True, explains=True),
}
"""The days that are special."""


def get_day(number: int) -> StoryDay:
    """Return a day of the month, from 1 on."""
    return STORY.get(number, StoryDay())


def get_recipe(number: int) -> str:
    """Return the name of the recipe that is in force on a day."""
    return next((STORY[day].recipe for day in range(number, 0, -1) if day in STORY and STORY[day].recipe), "first")


def is_rolled_out(number: int) -> bool:
    """Tell whether shoppers decide on the version of a day: on the first day of a recipe that has a rollout."""
    recipe = get_day(number).recipe
    return bool(recipe and RECIPES[recipe].phase) and recipe not in {get_recipe(day) for day in range(1, number)}


def get_date(number: int) -> datetime:
    """Return the midnight with which a day begins (UTC)."""
    return FIRST + timedelta(days=number - 1)
