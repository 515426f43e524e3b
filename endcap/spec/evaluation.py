"""What models are asked in the evaluation, and how the answers are counted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from endcap.spec.base import Mistake, Strict, check

Protocol = Literal["every-prefix", "leave-one-out", "basket"]


Order = Literal["sets", "file"]


Basket = Literal["complete", "next"]


class SampledNegatives(Strict):
    """Each target competes with random items that occur neither in its session nor in its customer's events."""

    count: Annotated[int, Field(ge=1, le=100_000)] = 99
    """The number of items in a draw. If there are fewer such items, the draw has all of them."""
    draws: Annotated[int, Field(ge=1, le=100)] = 5
    """The number of draws. Each metric is the mean over them."""


class GivenNegatives(Strict):
    """Each target competes with the items that a file names for its customer. Some papers publish such files."""

    path: str
    """The file: a path relative to the spec's file, or an address in a bucket. It has a row for each customer and item,
    in any format that events may have."""
    customer: str = "customer"
    """The column of the customer's id."""
    item: str = "item"
    """The column of the item's id."""


class Evaluation(Strict):
    """How models are evaluated on the test part."""

    protocol: Protocol | None = None
    """What models predict. `every-prefix`: each event of a test session, from the events before it. `leave-one-out`:
    only the last event. `basket`: items of a basket, which have no order; see `evaluation.basket`. Left out:
    leave-one-out if `split.by` is leave-one-out, else every-prefix."""
    order: Order = "sets"
    """The order of events that have the same session and time. `sets`: they have none. Models predict each item of the
    next moment from the moments before it, and the weights of a moment's items add up to 1. `file`: the order of the
    rows in the files, as in published results, after `events.columns.order` where the shop names such a column. If all
    rows of a basket have one time, this is the order that the till wrote."""
    basket: Basket | None = None
    """What models predict if the protocol is `basket`. `complete`: one hidden item of each test session, from its other
    items in a random order. `next`: all items of a customer's basket, from all earlier events of the customer. Left
    out: complete."""
    negatives: SampledNegatives | GivenNegatives | None = None
    """The items that each target competes with. Left out: the whole catalogue, which is better. Metrics on few items
    mislead, and cannot be compared with metrics on other items."""
    cutoffs: Annotated[list[Annotated[int, Field(ge=1, le=1000)]], Field(min_length=1)] = [5, 10, 20]
    """The lengths of the rankings to measure: mrr@20 is measured on the first 20 items."""
    bootstrap: Annotated[int, Field(ge=100)] = 1000
    """How many times the sessions are resampled for the intervals."""
    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.95
    """The level of confidence of the intervals."""

    @check
    def _basket_fits_the_protocol(self) -> Iterator[Mistake]:
        if self.basket is not None and self.protocol != "basket":
            actual = f"{self.basket!r}, and evaluation.protocol is {self.protocol or 'left out'}"
            yield Mistake(("basket",), actual, "no value, or evaluation.protocol: basket", code="conflict")

    @check
    def _order_fits_the_protocol(self) -> Iterator[Mistake]:
        if self.order == "file" and self.protocol == "basket":
            actual = "'file', and evaluation.protocol is 'basket', which ignores the order within a basket"
            yield Mistake(("order",), actual, "'sets'", code="conflict")
