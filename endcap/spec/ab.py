"""The policy of an A/B test: how shoppers move to the versions that work, and what becomes of the best one."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field

from endcap.spec.base import Duration, Mistake, Strict, check, format_duration

_USUAL_FLOOR = 0.1
_PartOfShoppers = Annotated[float, Field(ge=0.0, lt=1.0)]


class AbSpec(Strict):
    """How `endcap ab start` compares versions. Metrics and guardrails are those of the section `rollout`."""

    epoch: Duration = Field(default="1d", validate_default=True)
    """How long shares stay as they are. They change between two epochs alone."""
    floor: Annotated[float, Field(gt=0.0, le=0.5)] | None = None
    """The smallest share of an arm, of the shoppers. Times the number of arms, it must be at most 1. Left out: 0.1, or
    a third of an equal share if that is less."""
    dead_band: _PartOfShoppers = 0.05
    """Shares stay as they are if less of the shoppers than this would move."""
    move_error: Annotated[float, Field(gt=0.0, le=0.4)] = 0.1
    """How often a test may move shoppers although all its arms are equal, over all epochs together."""
    max_moved: Annotated[float, Field(gt=0.0, le=1.0)] = 0.25
    """At most so much of the shoppers moves from an epoch to the next."""
    draws: Annotated[int, Field(ge=1_000, le=1_000_000)] = 100_000
    """How many draws tell how probable it is that an arm is the best. The same seed gives the same draws."""
    look_every: Duration = Field(default="10m", validate_default=True)
    """How often guardrails and the effects' bands are looked at."""
    min_epochs: Annotated[int, Field(ge=1, le=1_000)] = 7
    """The test ends by itself after so many epochs at the earliest, so that each day of a week counts."""
    longest: Duration = Field(default="14d", validate_default=True)
    """The test ends by itself after so long at the latest."""
    at_end: Literal["promote", "keep"] = "promote"
    """promote: the most probably best challenger becomes the champion if it is shown to be better than the champion.
    keep: the champion goes on in any case."""

    @check
    def _durations_are_not_empty(self) -> Iterator[Mistake]:
        for key in ("epoch", "look_every"):
            if getattr(self, key) <= timedelta(0):
                yield Mistake((key,), "0s", "a duration above 0, such as 1d", code="not-allowed")

    @check
    def _looks_come_within_an_epoch(self) -> Iterator[Mistake]:
        if self.look_every > self.epoch:
            actual = f"{format_duration(self.look_every)}, and ab.epoch is {format_duration(self.epoch)}"
            yield Mistake(("look_every",), actual, "at most ab.epoch", code="conflict")

    @check
    def _epochs_come_within_the_test(self) -> Iterator[Mistake]:
        if self.epoch > self.longest:
            actual = f"{format_duration(self.epoch)}, and ab.longest is {format_duration(self.longest)}"
            yield Mistake(("epoch",), actual, "at most ab.longest", code="conflict")

    @check
    def _first_end_comes_within_the_test(self) -> Iterator[Mistake]:
        if timedelta(0) < self.epoch <= self.longest < self.min_epochs * self.epoch:
            actual = (
                f"{self.min_epochs}, and ab.longest ({format_duration(self.longest)}) has "
                f"{self.longest // self.epoch} epochs of {format_duration(self.epoch)}"
            )
            yield Mistake(("min_epochs",), actual, "at most as many epochs as ab.longest has", code="conflict")

    @property
    def most_arms(self) -> float:
        """How many arms can have the floor, the champion's among them; ``inf``: any number."""
        return math.inf if self.floor is None else int(1 / self.floor + 1e-9)

    def find_floor(self, arms: int) -> float:
        """Return the smallest share of each of so many arms."""
        return min(_USUAL_FLOOR, 1 / (3 * arms)) if self.floor is None else self.floor
