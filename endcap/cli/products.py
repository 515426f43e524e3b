"""Titles of items: how the demo and `endcap rank` print a shop's items."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from endcap.tables import format_text_table

if TYPE_CHECKING:
    import pyarrow as pa

WIDTH = 80
"""The most characters of a line."""
LEAST = 12
"""The fewest characters for a category. If there is less room, it is left out."""
_TEXTS = ("title", "category")


class Products:
    """Titles, categories and prices of items, from the shop's item tables. Later tables win."""

    def __init__(self, *tables: pa.Table) -> None:
        self._rows: dict[str, dict[str, Any]] = {}
        for table in tables:
            named = [name for name in ("item", *_TEXTS, "price") if name in table.column_names]
            for row in table.select(named).to_pylist():
                values = {name: value for name, value in row.items() if value is not None}
                self._rows[row["item"]] = {**self._rows.get(row["item"], {}), **values}

    def get_title(self, item: str) -> str:
        """Return an item's title; empty if it has none."""
        return self._text(item, "title")

    def format_line(self, item: str) -> str:
        """Return an item's title, category and price in columns; the id if it has no title."""
        price = self._rows.get(item, {}).get("price")
        shown = f"{price:>9,.2f}" if isinstance(price, int | float) else ""
        return f"{self.get_title(item) or item:<44.44} {self._text(item, 'category'):<22.22} {shown}".rstrip()

    def format_ranking(self, ids: Sequence[str], scores: Sequence[float | None], reason: str) -> str:
        """Format a ranking as a table: place, item, title, category, score, and why an item is a fallback.

        Parameters
        ----------
        ids
            The ranked items, best first.
        scores
            Their scores; None for a fallback.
        reason
            Why items are fallbacks; empty if none is.
        """
        rows: list[list[Any]] = [
            [place, item, score] for place, (item, score) in enumerate(zip(ids, scores, strict=True), 1)
        ]
        columns = ["", "item", "score"]
        if reason:
            columns.append("fallback")
            rows = [[*row, reason if row[2] is None else ""] for row in rows]
        room = WIDTH - max(map(len, format_text_table(columns, rows).splitlines()))
        at = 2
        for name, least in (("title", 1), ("category", LEAST)):
            texts = [self._text(item, name) for item in ids]
            width = min(max(map(len, texts), default=0), room - 2)
            if any(texts) and width >= least:
                room -= 2 + max(width, len(name))
                columns.insert(at, name)
                for row, text in zip(rows, texts, strict=True):
                    row.insert(at, text if len(text) <= width else f"{text[: width - 1]}…")
                at += 1
        return format_text_table(columns, rows)

    def _text(self, item: str, name: str) -> str:
        return str(self._rows.get(item, {}).get(name, ""))
