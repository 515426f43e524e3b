"""Small tables as text for a terminal and as HTML for a notebook."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Any

_STYLE = "border-collapse:collapse;font-size:90%"


def text_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Rows below a line of names; numbers stand to the right, all else to the left."""
    body = [list(row) for row in rows]
    cells = [[shown(value) for value in row] for row in body]
    widths = [max(len(line[place]) for line in [list(columns), *cells]) for place in range(len(columns))]
    right = [any(_is_number(row[place]) for row in body) for place in range(len(columns))]

    def line(values: Sequence[str]) -> str:
        padded = [
            value.rjust(width) if number else value.ljust(width)
            for value, width, number in zip(values, widths, right, strict=True)
        ]
        return "  ".join(padded).rstrip()

    return "\n".join([line(columns), *(line(row) for row in cells)])


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
