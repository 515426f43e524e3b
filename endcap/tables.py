"""Small tables as text for a terminal or a log file, and as HTML for a notebook."""

from __future__ import annotations

import html
import shutil
from collections.abc import Iterable, Sequence
from typing import Any

INDENT = 2
"""The usual indentation of a table's lines."""
KEY, LEAST = 34, 16
"""The fewest characters of the first column, which tells rows apart, and of other columns of words."""
_STYLE = "border-collapse:collapse;font-size:90%"


def format_text_table(columns: Sequence[str] | None, rows: Iterable[Sequence[Any]], *, width: int | None = None) -> str:
    """Format a table as text. Numbers are aligned to the right, other values to the left.

    Parameters
    ----------
    columns
        The names of the columns; None for a table without a line of names.
    rows
        The values of each row.
    width
        The most characters of a line; None for the width of the terminal, or 80 without one, minus 2. In a wider table,
        the widest columns of words are shortened, or columns continue below.
    """
    body = [list(row) for row in rows]
    right = [any(_is_number(value) for value in column) for column in zip(*body, strict=True)]
    cells = [[format_value(value) for value in row] for row in body]
    lines = [list(columns), *cells] if columns is not None else cells
    return align_columns(lines, right or [False] * len(lines[0]) if lines else [], width=width)


def align_columns(lines: Sequence[Sequence[str]], right: Sequence[bool], *, width: int | None = None) -> str:
    """Format a table of texts; see `format_text_table`. right: which columns are aligned to the right."""
    limit = shutil.get_terminal_size().columns - INDENT if width is None else width
    texts = [list(line) for line in lines]
    if not texts:
        return ""
    natural = _measure_widths(texts)
    cut = _cut_widths(texts, natural, limit)
    groups = [(list(range(len(cut))), cut)] if _sum_widths(cut) <= limit else _group_columns(texts, natural, limit)
    blocks = []
    for places, widths in groups:
        block = [
            [shorten_text(line[place], wide) for place, wide in zip(places, widths, strict=True)] for line in texts
        ]
        blocks.append(_format_block(block, [right[place] for place in places]))
    return "\n".join(blocks)


def _cut_widths(lines: Sequence[Sequence[str]], widths: Sequence[int], limit: int) -> list[int]:
    """Reduce the widths of columns of words, the widest first, until all columns fit or none can be reduced."""
    cut = list(widths)
    words = [place for place in range(len(cut)) if _holds_words(lines, place)]
    while _sum_widths(cut) > limit and (wide := [place for place in words if cut[place] > LEAST]):
        cut[max(wide, key=lambda place: cut[place])] -= 1
    return cut


def _group_columns(
    lines: Sequence[Sequence[str]], widths: Sequence[int], limit: int
) -> list[tuple[list[int], list[int]]]:
    """Split the columns into groups that fit beside the first column. Returns the columns and widths of each group."""
    key = min(widths[0], KEY)
    groups: list[tuple[list[int], list[int]]] = [([0], [key])]
    for place in range(1, len(widths)):
        wide = min(widths[place], max(limit - key - 2, LEAST))
        places, taken = groups[-1]
        room = limit - _sum_widths(taken) - 2
        if wide > room and room >= LEAST and _holds_words(lines, place):
            wide = room
        if wide > room and len(places) > 1:
            groups.append((places := [0], taken := [key]))
        places.append(place)
        taken.append(wide)
    return groups


def _holds_words(lines: Sequence[Sequence[str]], place: int) -> bool:
    """Return whether a column has words or addresses, which can be cut. Half a number or half a time has no meaning."""
    body = "".join(line[place] for line in lines[1:] or lines)
    return 5 * sum(map(str.isalpha, body)) > 2 * len(body)


def _format_block(lines: list[list[str]], right: Sequence[bool]) -> str:
    widths = _measure_widths(lines)

    def text(line: Sequence[str]) -> str:
        padded = [
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(line, widths, right, strict=True)
        ]
        return "  ".join(padded).rstrip()

    return "\n".join(map(text, lines))


def shorten_text(text: str, width: int) -> str:
    """Cut a text to a width. Words lose their end. Ids and addresses lose their middle, because the end tells them
    apart."""
    if len(text) <= width:
        return text
    if " " in text:
        return f"{text[: width - 1]}…"
    end = (width - 1) * 2 // 3
    return f"{text[: width - 1 - end]}…{text[-end:]}"


def _measure_widths(lines: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(*lines, strict=True)]


def _sum_widths(widths: Sequence[int]) -> int:
    return sum(widths) + 2 * (len(widths) - 1)


def format_html_table(
    columns: Sequence[str], rows: Iterable[Sequence[Any]], *, caption: str = "", notes: Iterable[str] = ()
) -> str:
    """Format a table as HTML, with notes below it. All values are escaped."""
    head = "".join(f"<th style='text-align:left'>{html.escape(name)}</th>" for name in columns)
    body = "".join(f"<tr>{''.join(_format_cell(value) for value in row)}</tr>" for row in rows)
    title = f"<caption style='text-align:left'><b>{html.escape(caption)}</b></caption>" if caption else ""
    below = "".join(f"<div>{html.escape(note)}</div>" for note in notes)
    return f"<table style='{_STYLE}'>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{below}"


def format_value(value: Any) -> str:
    """Format a value for a table."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def format_bytes(count: float) -> str:
    """Format a number of bytes: `31 kB`, `812 MB` or `2.1 GB`."""
    if count >= 1e9:
        return f"{count / 1e9:.1f} GB"
    return f"{count / 1e6:,.0f} MB" if count >= 1e6 else f"{count / 1e3:,.0f} kB"


def _format_cell(value: Any) -> str:
    side = "right" if _is_number(value) else "left"
    return f"<td style='text-align:{side}'>{html.escape(format_value(value))}</td>"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
