"""Charts as data: a Plotly figure, what it shows in words, and its numbers as a table.

Colours are named, `var(--challenger)`, and filled in where the chart is drawn, so that one chart is right on a light
page, a dark one and on paper.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from endcap.evaluation.estimates import CHALLENGER, CHAMPION

Figure = dict[str, Any]
BASELINE_COLOURS = 6
NONE = "\N{EN DASH}"
"""What stands where there is no number."""
INK, MUTED, GRID, PAPER = "var(--ink)", "var(--muted)", "var(--grid)", "var(--card)"
BAD = "var(--bad)"
_SYMBOLS = {CHALLENGER: "circle", CHAMPION: "diamond"}
_BASELINE_SYMBOLS = ("square", "triangle-up", "x", "pentagon", "star", "cross")


@dataclass(frozen=True)
class ReportTable:
    """head: a title a column; the first column names the row. rows: cells as they are shown."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Chart:
    """alt: what is seen, for those who do not see it. figure: data and layout, without width. note: under the chart."""

    name: str
    title: str
    alt: str
    figure: Figure
    table: ReportTable | None = None
    note: str = ""


@dataclass(frozen=True)
class Section:
    """A part of the report. say: a word on it. missing: why there is nothing to show."""

    name: str
    title: str
    say: str = ""
    charts: Sequence[Chart] = ()
    tables: Mapping[str, ReportTable] = field(default_factory=dict)
    """Shown as they are, by caption."""
    folded: Mapping[str, ReportTable] = field(default_factory=dict)
    """Shown when asked for."""
    missing: str = ""


def select_colour(model: str, models: Sequence[str]) -> str:
    """The colour of a model, the same in all charts of a report."""
    if model in _SYMBOLS:
        return f"var(--{model})"
    return f"var(--baseline-{_find_baseline_number(model, models) % BASELINE_COLOURS + 1})"


def select_symbol(model: str, models: Sequence[str]) -> str:
    """The mark of a model: colour alone does not tell models apart."""
    return _SYMBOLS.get(model) or _BASELINE_SYMBOLS[_find_baseline_number(model, models) % len(_BASELINE_SYMBOLS)]


def _find_baseline_number(model: str, models: Sequence[str]) -> int:
    return [name for name in models if name not in _SYMBOLS].index(model)


def build_layout(height: int, **more: Any) -> dict[str, Any]:
    """What all charts share: no zooming, which would catch a finger that scrolls, and the page's colours."""
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
    """As tables show it; a dash where there is none."""
    if value is None:
        return NONE
    return f"{value:.{digits}f}".replace("-", "\N{MINUS SIGN}")


def escape_label(text: str) -> str:
    """Text for a chart: Plotly reads a few tags in labels, so that what looks like one is written otherwise."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
