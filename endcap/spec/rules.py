"""The business rules of a shop: which items may be shown to whom, whatever a model thinks of them.

What rules there are stands here, in the shop's file; what they need to know (the blacklist's items, stock, prices) lies
in files that change while a model serves, and is published by `endcap refresh` without a training or a restart.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from endcap.errors import ProblemCode
from endcap.spec.base import Duration, Mistake, Name, Strict, check, find_repeats, select_known
from endcap.spec.source import SourceSpec

BLACKLIST, STOCK, OWNED = "blacklist", "stock", "owned"
"""What the rules that have no name of their own are called where it is told what took an item away."""


class Blacklist(Strict):
    """Items that are never shown."""

    sources: Annotated[list[SourceSpec], Field(min_length=1)]
    """Tables with a row an item."""
    column: str = "item"

    @check
    def _lie_in_files(self) -> Iterator[Mistake]:
        for number, source in select_known(self.sources).items():
            if source.simulated is not None:
                actual, allowed = "a simulated shop", "files, named by path"
                yield Mistake(("sources", number, "simulated"), actual, allowed, code="not-allowed")


class Stock(Strict):
    """Items of which there is too little are not shown. An item that says nothing of it is shown."""

    attribute: str = "stock"
    """A numeric attribute of the item table."""
    at_least: float = 1.0


class Owned(Strict):
    """What a customer has is not shown to the customer again."""

    types: Annotated[list[str], Field(min_length=1)]
    """Events of these types make an item the customer's, such as [purchase]."""
    keep: Duration | None = None
    """For so long; left out: for good."""


class AttributeRule(Strict):
    """Items by an attribute: of all that the rule speaks of, only these values, or never those."""

    name: Name
    attribute: str
    """A categorical attribute of the item table, such as category."""
    only: list[str] | None = None
    never: list[str] | None = None
    surfaces: list[str] | None = None
    """Where it holds: the request's `surface` is one of these; left out: everywhere."""

    @check
    def _says_one_thing(self) -> Iterator[Mistake]:
        if (self.only is None) == (self.never is None):
            actual = "neither only nor never" if self.only is None else "both only and never"
            code: ProblemCode = "missing" if self.only is None else "conflict"
            yield Mistake((), actual, "exactly one of only and never", code=code)


class Rules(Strict):
    """Shared by all recommenders of the shop, in evaluation, batch and serving alike. They only ever take away."""

    blacklist: Blacklist | None = None
    stock: Stock | None = None
    owned: Owned | None = None
    attributes: list[AttributeRule] = []

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
