"""Charts as data: a Plotly figure, a description in words, and the numbers as a table.

Colours are names such as `var(--challenger)`, which the page fills in, so that one chart is right on a light page, on a
dark one and on paper.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from endcap.evaluation.estimates import CHALLENGER, CHAMPION

Figure = dict[str, Any]
BASELINE_COLOURS = 6
NONE = "\N{EN DASH}"
"""Stands for a missing number."""
INK, MUTED, GRID, PAPER = "var(--ink)", "var(--muted)", "var(--grid)", "var(--card)"
BAD = "var(--bad)"
_SYMBOLS = {CHALLENGER: "circle", CHAMPION: "diamond"}
_BASELINE_SYMBOLS = ("square", "triangle-up", "x", "pentagon", "star", "cross")


@dataclass(frozen=True)
class ReportTable:
    """A title for each column, and rows of formatted cells; the first column names the row."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Chart:
    """A chart. `alt` describes it for people who do not see it; `figure` is data and layout without width; `note`
    stands below."""

    name: str
    title: str
    alt: str
    figure: Figure
    table: ReportTable | None = None
    note: str = ""


@dataclass(frozen=True)
class Section:
    """A part of the report. `say` introduces it, and `missing` says why there is nothing to show."""

    name: str
    title: str
    say: str = ""
    charts: Sequence[Chart] = ()
    tables: Mapping[str, ReportTable] = field(default_factory=dict)
    """Open tables, by caption."""
    folded: Mapping[str, ReportTable] = field(default_factory=dict)
    """Tables that open on a click, by caption."""
    missing: str = ""


def select_colour(model: str, models: Sequence[str]) -> str:
    """Select a model's colour, which is the same in all charts of a report."""
    if model in _SYMBOLS:
        return f"var(--{model})"
    return f"var(--baseline-{_find_baseline_number(model, models) % BASELINE_COLOURS + 1})"


def select_symbol(model: str, models: Sequence[str]) -> str:
    """Select a model's mark, because colour alone does not tell models apart."""
    return _SYMBOLS.get(model) or _BASELINE_SYMBOLS[_find_baseline_number(model, models) % len(_BASELINE_SYMBOLS)]


def _find_baseline_number(model: str, models: Sequence[str]) -> int:
    return [name for name in models if name not in _SYMBOLS].index(model)


def build_layout(height: int, **more: Any) -> dict[str, Any]:
    """Build what all charts share: the page's colours, and no zooming, which would catch a finger that scrolls."""
    font = {"family": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif", "size": 12, "color": INK}
    return {
        "height": height,
        "margin": {"l": 8, "r": 16, "t": 12, "b": 8},
        "font": font,
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "dragmode": False,
        "hoverlabel": {"bgcolor": PAPER, "bordercolor": GRID, "font": {"color": INK}, "namelength": -1},
        "showlegend": False,
        "legend": {"orientation": "h", "x": 0, "xanchor": "left", "y": -0.24, "yanchor": "top", "font": {"color": INK}},
        **more,
    }


def build_axis(title: str = "", **more: Any) -> dict[str, Any]:
    return {
        "title": {"text": title, "font": {"size": 12, "color": MUTED}, "standoff": 8},
        "gridcolor": GRID,
        "linecolor": GRID,
        "zeroline": False,
        "fixedrange": True,
        "automargin": True,
        "tickfont": {"color": MUTED},
        **more,
    }


def format_number(value: float | None, digits: int = 4) -> str:
    """Format a number for tables; a dash if there is none."""
    if value is None:
        return NONE
    return f"{value:.{digits}f}".replace("-", "\N{MINUS SIGN}")


def escape_label(text: str) -> str:
    """Escape text for a chart, because Plotly reads a few tags in labels."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
