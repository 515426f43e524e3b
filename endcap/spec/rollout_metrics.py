"""What a rollout watches: metrics of shoppers and operational guardrails."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field

from endcap.spec.base import Duration, Mistake, Name, Strict, check

EventType = Annotated[str, Field(min_length=1, max_length=1024)]
EventTypes = Annotated[list[EventType], Field(min_length=1)]


class RolloutMetricSpec(Strict):
    """What all metrics of shoppers share.

    Clicks and carts are counted by ranking, purchases and revenue by visit; all are summed up by shopper.
    """

    direction: Literal["up", "down"] = "up"
    """Which way is better: up: more of the metric; down: less of it, as for returns."""
    window: Duration = Field(default="30m", validate_default=True)
    """The attribution window: outcomes count until so long after the ranking was seen."""
    delay: Duration = Field(default="5m", validate_default=True)
    """How late the shop reports outcomes at most. A ranking counts once its window and the delay are over."""
    budget: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    """The metric's part of error_budget. Left out: an equal part of what the other metrics leave."""

    @check
    def _window_is_not_empty(self) -> Iterator[Mistake]:
        if self.window <= timedelta(0):
            yield Mistake(("window",), "0s", "a duration above 0, such as 30m", code="not-allowed")

    @property
    def settles_after(self) -> timedelta:
        """How long after a ranking was seen its outcomes are known."""
        return self.window + self.delay


class CtrSpec(RolloutMetricSpec):
    """Click-through rate: rankings with a click on one of their items, of the rankings that were seen."""

    kind: Literal["ctr"]
    name: Name = "ctr"
    types: EventTypes = ["click", "view"]
    """Types of events that are a click on an item of the ranking."""
    first: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Only items of the first so many places count. Left out: all places."""
    after: Annotated[int, Field(ge=0, le=999)] = 0
    """Items of the first so many places do not count."""

    @check
    def _a_place_is_left(self) -> Iterator[Mistake]:
        if self.first is not None and self.after >= self.first:
            actual = f"{self.after}, and first is {self.first}"
            yield Mistake(("after",), actual, "less than first, so that a place is left", code="conflict")


class AddToCartSpec(RolloutMetricSpec):
    """Items of the ranking that the shopper put into the cart, per ranking that was seen."""

    kind: Literal["add_to_cart"]
    name: Name = "add-to-cart"
    types: EventTypes = ["cart", "add_to_cart"]
    """Types of events that put an item into the cart."""
    window: Duration = Field(default="2h", validate_default=True)


class ConversionSpec(RolloutMetricSpec):
    """Visits with a purchase. A visit begins with a ranking that lies in no earlier visit, and lasts for the window."""

    kind: Literal["conversion"]
    name: Name = "conversion"
    types: EventTypes = ["purchase"]
    """Types of events that are a purchase. The intake makes one of each line of an order."""
    window: Duration = Field(default="1d", validate_default=True)


class RevenueSpec(RolloutMetricSpec):
    """What a shopper spent in a visit: price times quantity of the orders' lines. Visits are as for conversion."""

    kind: Literal["revenue"]
    name: Name = "revenue"
    types: EventTypes = ["purchase"]
    """Types of events that are a purchase."""
    window: Duration = Field(default="1d", validate_default=True)


MetricSpec = Annotated[CtrSpec | AddToCartSpec | ConversionSpec | RevenueSpec, Field(discriminator="kind")]


class GuardrailSpec(Strict):
    """What all operational guardrails share."""

    budget: Annotated[float, Field(gt=0.0, le=0.1)] = 0.0025
    """How often the guardrail may take back a faultless version: a probability over the whole rollout."""


class RateGuardrailSpec(GuardrailSpec):
    """A rate of requests is held against a limit and against the stable version's rate at the same time."""

    limit: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.005
    """A share of the requests that is allowed in any case."""
    times: Annotated[float, Field(ge=1.0, le=100.0)] = 3.0
    """So many times the stable version's rate of the same seconds is allowed too."""


class ErrorsGuardrailSpec(RateGuardrailSpec):
    """Requests that the version answered with a server error, or not in time."""

    kind: Literal["errors"]
    name: Name = "errors"


class EmptyAnswersGuardrailSpec(RateGuardrailSpec):
    """Answers without an item."""

    kind: Literal["empty_answers"]
    name: Name = "empty-answers"
    limit: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.01


class FallbacksGuardrailSpec(RateGuardrailSpec):
    """Answers with items that the model did not choose."""

    kind: Literal["fallbacks"]
    name: Name = "fallbacks"
    limit: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.01


class LatencyGuardrailSpec(GuardrailSpec):
    """Requests that are slower than a quantile of the stable version's last five minutes."""

    kind: Literal["latency"]
    name: Name = "latency"
    quantile: Annotated[float, Field(ge=0.5, lt=1.0)] = 0.99
    """Requests above this quantile of the stable version's are slow: one of a hundred of its own."""
    times: Annotated[float, Field(gt=1.0, le=100.0)] = 1.5
    """The version may have so many times the stable version's share of slow requests."""
    ignore_below: Duration = Field(default="10ms", validate_default=True)
    """A request that is faster than this is never slow."""


class ScoreDriftGuardrailSpec(GuardrailSpec):
    """How far the distribution of the version's scores moves from that of its own first hours."""

    kind: Literal["score_drift"]
    name: Name = "score-drift"
    limit: Annotated[float, Field(gt=0.0, le=10.0)] = 0.25
    """The population stability index that is allowed: 0.1 is a small shift, 0.25 a large one."""


AnyGuardrailSpec = Annotated[
    ErrorsGuardrailSpec
    | LatencyGuardrailSpec
    | EmptyAnswersGuardrailSpec
    | FallbacksGuardrailSpec
    | ScoreDriftGuardrailSpec,
    Field(discriminator="kind"),
]
