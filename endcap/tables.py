"""Small tables as text for a terminal or a log file, and as HTML for a notebook."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Any

_STYLE = "border-collapse:collapse;font-size:90%"


def text_table(columns: Sequence[str] | None, rows: Iterable[Sequence[Any]]) -> str:
    """Rows, each column as wide as its widest cell, below a line of names (None: without one).

    Numbers stand to the right, all else to the left.
    """
    body = [list(row) for row in rows]
    cells = [[shown(value) for value in row] for row in body]
    lines = [list(columns), *cells] if columns is not None else cells
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    right = [any(_is_number(row[place]) for row in body) for place in range(len(widths))]

    def line(values: Sequence[str]) -> str:
        padded = [
            value.rjust(width) if number else value.ljust(width)
            for value, width, number in zip(values, widths, right, strict=True)
        ]
        return "  ".join(padded).rstrip()

    return "\n".join(line(row) for row in lines)


def html_table(
    columns: Sequence[str], rows: Iterable[Sequence[Any]], *, caption: str = "", notes: Iterable[str] = ()
) -> str:
    """The same as an HTML table, with notes below; every value is escaped."""
    head = "".join(f"<th style='text-align:left'>{html.escape(name)}</th>" for name in columns)
    body = "".join(f"<tr>{''.join(_cell(value) for value in row)}</tr>" for row in rows)
    title = f"<caption style='text-align:left'><b>{html.escape(caption)}</b></caption>" if caption else ""
    below = "".join(f"<div>{html.escape(note)}</div>" for note in notes)
    return f"<table style='{_STYLE}'>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{below}"


def shown(value: Any) -> str:
    """A value as both kinds of tables show it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _cell(value: Any) -> str:
    side = "right" if _is_number(value) else "left"
    return f"<td style='text-align:{side}'>{html.escape(shown(value))}</td>"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
