"""The shop's item table and customer table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from endcap.spec.base import Mistake, Strict, check, is_whole, select_known
from endcap.spec.layouts import PRICED, ItemLayout
from endcap.spec.source import SourceSpec


class ItemSource(SourceSpec):
    """Files of items, or a simulated item table."""

    layout: ItemLayout = "columns"
    """The layout of the files. `columns`: `items.columns` names the columns. The others are published layouts, which
    Endcap reads without a column mapping."""


class ItemColumns(Strict):
    """The names of the item table's columns."""

    item: str = "item"
    """The column of the item's id."""
    title: str | None = None
    """The column of the title, which people read. Left out: items have no titles."""
    category: str | None = None
    """The column of the category. Left out: items have no category."""
    price: str | None = None
    """The column of the price, a number. Left out: items have no price."""


class Items(Strict):
    """The item table. It has one row for each item. If an item has several rows, the last one counts.

    If the layout's rows have a time, the latest row counts that is not later than the log's last event.
    """

    sources: Annotated[list[ItemSource], Field(min_length=1)]
    """Where the item table comes from. All sources have the same layout."""
    columns: ItemColumns = ItemColumns()
    """The columns of the sources whose layout is `columns`."""
    categorical: list[str] = []
    """The names of more columns to keep, as text."""
    numeric: list[str] = []
    """The names of more columns to keep, as numbers."""

    @property
    def attributes(self) -> list[str]:
        """The names of the attributes that describe an item. A model may use them."""
        layout = self.sources[0].layout
        if layout == "columns":
            own = [name for name in ("category", "price") if getattr(self.columns, name) is not None]
        else:
            own = ["category", "price"] if layout in PRICED else ["category"]
        return [*own, *self.categorical, *self.numeric]

    @property
    def numbers(self) -> list[str]:
        """The names of the attributes that are numbers."""
        return [name for name in self.attributes if name in ("price", *self.numeric)]

    @check
    def _sources_have_one_layout(self) -> Iterator[Mistake]:
        first, *later_layouts = (source.layout for source in self.sources)
        for number, layout in select_known(later_layouts).items():
            if layout != first:
                allowed = f"{first}, the layout of the first source: all sources of an item table have one layout"
                yield Mistake(("sources", number + 1, "layout"), layout, allowed, code="conflict")

    @check
    def _sources_are_no_steps(self) -> Iterator[Mistake]:
        for number, source in select_known(self.sources).items():
            if source.step is not None:
                hint = "An item table is read again while a model serves, and no pipeline runs then."
                allowed = "files, which path names, or a simulated item table"
                yield Mistake(("sources", number, "step"), "a step of SQL", allowed, hint, code="not-allowed")

    @check
    def _published_layouts_need_no_columns(self) -> Iterator[Mistake]:
        layout = self.sources[0].layout
        if layout != "columns" and (not is_whole(self.columns) or self.columns != ItemColumns()):
            allowed = f"nothing: the layout {layout} has columns of its own; remove items.columns"
            yield Mistake(("columns",), "columns", allowed, code="conflict")


class CustomerColumns(Strict):
    """The names of the customer table's columns."""

    customer: str = "customer"
    """The column of the customer's id."""


class Customers(Strict):
    """The customer table. It has one row for each customer."""

    sources: Annotated[list[SourceSpec], Field(min_length=1)]
    """Where the customer table comes from."""
    columns: CustomerColumns = CustomerColumns()
    """The columns of the table."""
    categorical: list[str] = []
    """The names of more columns to keep, as text."""
    numeric: list[str] = []
    """The names of more columns to keep, as numbers."""
