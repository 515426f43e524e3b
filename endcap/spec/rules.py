"""The business rules of a shop: which items may be shown to whom.

The shop's file says which rules there are. Their data, such as the blacklist and the stock, are in files that change
while a model serves. `endcap refresh` publishes them without a training or a restart.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from endcap.errors import ProblemCode
from endcap.spec.base import Duration, Mistake, Name, Strict, check, find_repeats, select_known
from endcap.spec.source import SourceSpec

BLACKLIST, STOCK, OWNED = "blacklist", "stock", "owned"
"""The names of the rules that have none of their own, in reports on what removed an item."""


class Blacklist(Strict):
    """Items that are never shown."""

    sources: Annotated[list[SourceSpec], Field(min_length=1)]
    """Where the blacklist comes from: tables with one row for each item."""
    column: str = "item"
    """The column of the item's id."""

    @check
    def _sources_are_files(self) -> Iterator[Mistake]:
        allowed = "files, which path names"
        for number, source in select_known(self.sources).items():
            if source.simulated is not None:
                yield Mistake(("sources", number, "simulated"), "a simulated shop", allowed, code="not-allowed")
            if source.step is not None:
                hint = "A blacklist is read again while a model serves, and no pipeline runs then."
                yield Mistake(("sources", number, "step"), "a step of SQL", allowed, hint, code="not-allowed")
            if source.bigquery is not None:
                yield Mistake(("sources", number, "bigquery"), "a table of BigQuery", allowed, code="not-allowed")


class Stock(Strict):
    """Hides items with too little stock. An item whose stock is not known is shown."""

    attribute: str = "stock"
    """The numeric attribute of the item table that has the stock."""
    at_least: float = 1.0
    """The least stock of an item that is shown."""


class Owned(Strict):
    """Hides items that the customer already owns."""

    types: Annotated[list[str], Field(min_length=1)]
    """The types of the events by which a customer owns an item, such as [purchase]."""
    keep: Duration | None = None
    """How long the item is hidden. Left out: for ever."""


class AttributeRule(Strict):
    """Shows only items with certain values of an attribute, or never those. Give either `only` or `never`."""

    name: Name
    """The rule's name, in reports on what removed an item."""
    attribute: str
    """The categorical attribute of the item table, such as category."""
    only: list[str] | None = None
    """The values of the items that may be shown."""
    never: list[str] | None = None
    """The values of the items that may not be shown."""
    surfaces: list[str] | None = None
    """Where the rule applies: to requests whose `surface` is one of these. Left out: to all requests."""

    @check
    def _has_only_or_never(self) -> Iterator[Mistake]:
        if (self.only is None) == (self.never is None):
            actual = "neither only nor never" if self.only is None else "both only and never"
            code: ProblemCode = "missing" if self.only is None else "conflict"
            yield Mistake((), actual, "exactly one of only and never", code=code)


class Rules(Strict):
    """Rules on which items may be shown. They apply to all recommenders of the shop, in evaluation, in lists made ahead
    of time and in serving. A rule can only hide items."""

    blacklist: Blacklist | None = None
    """Items that are never shown."""
    stock: Stock | None = None
    """Hides items with too little stock."""
    owned: Owned | None = None
    """Hides items that the customer already owns."""
    attributes: list[AttributeRule] = []
    """Rules on the values of attributes."""

    @check
    def _names_differ(self) -> Iterator[Mistake]:
        taken = [BLACKLIST, STOCK, OWNED]
        names = [*taken, *(rule.name for rule in self.attributes)]
        for number in find_repeats(names):
            key, allowed = (
                ("attributes", number - len(taken), "name"),
                f"each name once, and none of {', '.join(taken)}",
            )
            yield Mistake(key, f"{names[number]!r} again", allowed, code="duplicate")
