"""Dots on their intervals, a row for each model: for metrics, and for the challenger's differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from endcap.report.chart import (
    INK,
    MUTED,
    NONE,
    Figure,
    build_axis,
    build_layout,
    escape_label,
    format_number,
    select_colour,
    select_symbol,
)
from endcap.report.facts import ReportedValue

FAR = 0.5
"""A model below this share of the best value is drawn as an arrow, because it would press the others together."""
Rows = Sequence[tuple[str, ReportedValue]]


@dataclass(frozen=True)
class AxisSpan:
    """Both ends of an axis, and the models that lie beyond them."""

    low: float
    high: float
    far: frozenset[str]

    def place(self, name: str, value: float) -> float:
        """Return where a model is drawn: at its value, or just inside the end that it lies beyond."""
        if name not in self.far:
            return value
        inside = 0.03 * (self.high - self.low)
        return self.high - inside if value > self.high else self.low + inside


def compute_value_span(rows: Rows, *, merit: bool = True) -> AxisSpan:
    """Compute the axis of values, with those near the best one. If less is better (`merit` False), all are near."""
    best = max((value.value or 0.0 for _, value in rows), default=0.0)
    far = frozenset(name for name, value in rows if (value.value or 0.0) < FAR * best)
    # Without two models to tell apart closely there is nothing to gain.
    return _compute_span(rows, far if merit and len(rows) - len(far) > 1 else frozenset())


def compute_difference_span(rows: Rows) -> AxisSpan:
    """Compute the axis of differences, with 0 and the differences near it."""
    least = min((abs(value.value or 0.0) for _, value in rows), default=0.0)
    widest = max((value.upper - value.lower for _, value in rows if _has_interval(value)), default=0.0)  # type: ignore[operator]
    limit = 4 * max(least, widest)
    far = frozenset(name for name, value in rows if limit and abs(value.value or 0.0) > limit)
    return _compute_span(rows, far, 0.0)


def draw_whiskers(
    rows: Rows,
    models: Sequence[str],
    span: AxisSpan,
    line: float | None,
    digits: int,
    *,
    sign: bool,
    titled: Callable[[str], str] = str,
) -> Figure:
    """Draw a dot for each model on its interval, with its number beside it.

    `line` is a value to mark; `sign` writes + too; `titled` returns a model's title.
    """
    traces, numbers = [], []
    for name, value in rows:
        shown_value = value.value or 0.0
        traces.append(_build_trace(name, escape_label(titled(name)), value, models, span, digits))
        label = ("+" if sign and shown_value > 0 else "") + format_number(shown_value, digits)
        beside = {"x": 1.02, "xref": "paper", "xanchor": "left", "showarrow": False, "font": {"size": 12, "color": INK}}
        numbers.append({"y": escape_label(titled(name)), "text": label, **beside})
    shapes = []
    if line is not None and span.low <= line <= span.high:
        stroke = {"color": MUTED, "width": 1, "dash": "dot"}
        whole = {"yref": "paper", "y0": 0, "y1": 1, "layer": "below"}
        shapes = [{"type": "line", "x0": line, "x1": line, "line": stroke, **whole}]
    names = build_axis(type="category", autorange="reversed", showgrid=False, ticklen=6, tickcolor="rgba(0,0,0,0)")
    values = build_axis(range=[span.low, span.high], nticks=4, tickangle=0, tickformat="+.3~g" if sign else ".3~g")
    more = {"shapes": shapes, "annotations": numbers, "margin": {"l": 8, "r": 62, "t": 8, "b": 8}}
    return {"data": traces, "layout": build_layout(56 + 32 * len(rows), xaxis=values, yaxis=names, **more)}


def format_estimate(value: ReportedValue, digits: int) -> str:
    """Format a number and its interval."""
    return (
        f"{format_number(value.value, digits)}, {format_interval(value, digits)}"
        if _has_interval(value)
        else format_number(value.value, digits)
    )


def format_interval(value: ReportedValue, digits: int) -> str:
    """Format both ends of an interval, or a dash."""
    return (
        f"{format_number(value.lower, digits)} to {format_number(value.upper, digits)}"
        if _has_interval(value)
        else NONE
    )


def _build_trace(
    name: str, label: str, value: ReportedValue, models: Sequence[str], span: AxisSpan, digits: int
) -> dict[str, Any]:
    shown_value, stroke = value.value or 0.0, select_colour(name, models)
    arrow = "triangle-right" if shown_value > span.high else "triangle-left"
    far = name in span.far
    trace: dict[str, Any] = {
        "type": "scatter",
        "mode": "markers",
        "x": [span.place(name, shown_value)],
        "y": [label],
        "cliponaxis": False,
        "marker": {"size": 10, "color": stroke, "symbol": arrow if far else select_symbol(name, models)},
        "hovertext": [f"{label}: {format_estimate(value, digits)}"],
        "hoverinfo": "text",
    }
    if value.lower is not None and value.upper is not None and not far:
        ends = {"array": [value.upper - shown_value], "arrayminus": [shown_value - value.lower], "symmetric": False}
        trace["error_x"] = {"type": "data", **ends, "color": stroke, "thickness": 1.6, "width": 5}
    return trace


def _compute_span(rows: Rows, far: frozenset[str], *more: float) -> AxisSpan:
    near = [end for name, value in rows if name not in far for end in (value.lower, value.value, value.upper)]
    ends = [*more, *(end for end in near if end is not None)]
    low, high = min(ends, default=0.0), max(ends, default=1.0)
    room = (high - low) * 0.16 or abs(high) * 0.1 or 0.1
    return AxisSpan(low - room, high + room, far)


def _has_interval(value: ReportedValue) -> bool:
    return value.lower is not None and value.upper is not None
