"""The business rules of a shop: which items may be shown to whom, whatever a model thinks of them.

What rules there are stands here, in the shop's file; what they need to know (the blacklist's items, stock, prices) lies
in files that change while a model serves, and is published by `endcap refresh` without a training or a restart.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator, model_validator

from endcap.errors import ProblemCode
from endcap.spec.base import Duration, Mistake, Name, Strict, mistakes
from endcap.spec.source import Source

BLACKLIST, STOCK, OWNED = "blacklist", "stock", "owned"
"""What the rules that have no name of their own are called where it is told what took an item away."""


class Blacklist(Strict):
    """Items that are never shown."""

    sources: Annotated[list[Source], Field(min_length=1)]
    """Tables with a row an item."""
    column: str = "item"

    @field_validator("sources")
    @classmethod
    def _lie_in_files(cls, sources: list[Source]) -> list[Source]:
        simulated = [number for number, source in enumerate(sources) if source.simulated is not None]
        if simulated:
            found, allowed = "a simulated shop", "files, named by path"
            raise mistakes([Mistake((n, "simulated"), found, allowed, code="not-allowed") for n in simulated])
        return sources


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

    @model_validator(mode="after")
    def _says_one_thing(self) -> AttributeRule:
        if (self.only is None) == (self.never is None):
            found = "neither only nor never" if self.only is None else "both only and never"
            code: ProblemCode = "missing" if self.only is None else "conflict"
            raise mistakes([Mistake((), found, "exactly one of only and never", code=code)])
        return self


class Rules(Strict):
    """Shared by all recommenders of the shop, in evaluation, batch and serving alike. They only ever take away."""

    blacklist: Blacklist | None = None
    stock: Stock | None = None
    owned: Owned | None = None
    attributes: list[AttributeRule] = []

    @field_validator("attributes")
    @classmethod
    def _names_differ(cls, attributes: list[AttributeRule], info: ValidationInfo) -> list[AttributeRule]:
        names = [rule.name for rule in attributes]
        twice = [number for number, name in enumerate(names) if name in [BLACKLIST, STOCK, OWNED, *names[:number]]]
        if twice:
            allowed = f"each name once, and none of {BLACKLIST}, {STOCK}, {OWNED}"
            raise mistakes([Mistake((n, "name"), f"{names[n]!r} again", allowed, code="duplicate") for n in twice])
        return attributes
