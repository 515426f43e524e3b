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
    """Each next item competes with items drawn uniformly out of those that its session and customer never met."""

    count: Annotated[int, Field(ge=1, le=100_000)] = 99
    """Items of each draw; where fewer were never met, all of those."""
    draws: Annotated[int, Field(ge=1, le=100)] = 5
    """Figures are the mean over so many draws."""


class GivenNegatives(Strict):
    """Each next item competes with the items that a file names for its customer, as some papers publish them."""

    path: str
    """A file with a row for each customer and item, in a format that events may have: a path, from the spec's file on,
    or an address in a bucket."""
    customer: str = "customer"
    """The column of the customer's id."""
    item: str = "item"


class Evaluation(Strict):
    protocol: Protocol | None = None
    """What is predicted: each event of a test session from those before it, its last event alone, or of baskets, whose
    lines have no order, what `basket` says. Left out: as the split: leave-one-out where it is by that, else
    every-prefix."""
    order: Order = "sets"
    """Of events of one session and time: `sets`: no order; each item of the next moment is predicted from the moments
    before it, and counts 1 / the items of the moment. `file`: the order of the log's files, as published figures have
    it; where the lines of a basket have one time, that is the order in which a till sorted them."""
    basket: Basket | None = None
    """Of the protocol `basket`: `complete`: an item of each test session, hidden, from its others in an order drawn by
    the seed; `next`: all items of a customer's basket from all that the customer did before. Left out: complete."""
    negatives: SampledNegatives | GivenNegatives | None = None
    """Left out: the whole catalogue is ranked. Figures on a few items mislead and compare with no others."""
    cutoffs: Annotated[list[Annotated[int, Field(ge=1, le=1000)]], Field(min_length=1)] = [5, 10, 20]
    bootstrap: Annotated[int, Field(ge=100)] = 1000
    """Resamples of the sessions for each interval."""
    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.95

    @check
    def _a_form_is_of_the_protocol(self) -> Iterator[Mistake]:
        if self.basket is not None and self.protocol != "basket":
            actual = f"{self.basket!r}, and evaluation.protocol is {self.protocol or 'left out'}"
            yield Mistake(("basket",), actual, "no value, or evaluation.protocol: basket", code="conflict")

    @check
    def _baskets_have_no_order(self) -> Iterator[Mistake]:
        if self.order == "file" and self.protocol == "basket":
            actual = "'file', and evaluation.protocol is 'basket', which looks at no order within a basket"
            yield Mistake(("order",), actual, "'sets'", code="conflict")
