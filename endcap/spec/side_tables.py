"""The shop's item table and customer table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from endcap.spec.base import Mistake, Strict, check, is_whole, select_known
from endcap.spec.layouts import PRICED, ItemLayout
from endcap.spec.source import SourceSpec


class ItemSource(SourceSpec):
    layout: ItemLayout = "columns"
    """A published layout that is read as it is; `columns`: by `items.columns`."""


class ItemColumns(Strict):
    item: str = "item"
    title: str | None = None
    category: str | None = None
    price: str | None = None


class Items(Strict):
    """The item table, one row an item; a later row of the same item replaces an earlier one.

    Of layouts whose rows bear a time, the row last in time counts that is not later than the log's last event.
    """

    sources: Annotated[list[ItemSource], Field(min_length=1)]
    columns: ItemColumns = ItemColumns()
    categorical: list[str] = []
    """Further columns kept as text."""
    numeric: list[str] = []
    """Further columns kept as numbers."""

    @property
    def attributes(self) -> list[str]:
        """Names of the attributes that say what an item is like: those that a model may be given."""
        layout = self.sources[0].layout
        if layout == "columns":
            own = [name for name in ("category", "price") if getattr(self.columns, name) is not None]
        else:
            own = ["category", "price"] if layout in PRICED else ["category"]
        return [*own, *self.categorical, *self.numeric]

    @property
    def numbers(self) -> list[str]:
        """Those of the attributes that are numbers."""
        return [name for name in self.attributes if name in ("price", *self.numeric)]

    @check
    def _one_layout(self) -> Iterator[Mistake]:
        first, *rest = (source.layout for source in self.sources)
        for number, layout in select_known(rest).items():
            if layout != first:
                allowed = f"{first}, as of the first source: an item table has one layout"
                yield Mistake(("sources", number + 1, "layout"), layout, allowed, code="conflict")

    @check
    def _a_layout_knows_its_columns(self) -> Iterator[Mistake]:
        layout = self.sources[0].layout
        if layout != "columns" and (not is_whole(self.columns) or self.columns != ItemColumns()):
            allowed = f"nothing: the layout {layout} names its own; take items.columns out"
            yield Mistake(("columns",), "columns", allowed, code="conflict")


class CustomerColumns(Strict):
    customer: str = "customer"


class Customers(Strict):
    """The customer table, one row a customer."""

    sources: Annotated[list[SourceSpec], Field(min_length=1)]
    columns: CustomerColumns = CustomerColumns()
    categorical: list[str] = []
    numeric: list[str] = []
