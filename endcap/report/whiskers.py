"""Dots on their intervals, a row a model: for metrics, and for the challenger's differences."""

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
"""A model with less than this share of the best value is drawn as an arrow: it would press the others together."""
Rows = Sequence[tuple[str, ReportedValue]]


@dataclass(frozen=True)
class AxisSpan:
    """Both ends of an axis, and the models that lie beyond them."""

    low: float
    high: float
    far: frozenset[str]

    def place(self, name: str, value: float) -> float:
        """Where a model is drawn: at its value, or just inside the end that it lies beyond."""
        if name not in self.far:
            return value
        inside = 0.03 * (self.high - self.low)
        return self.high - inside if value > self.high else self.low + inside


def compute_value_span(rows: Rows, *, merit: bool = True) -> AxisSpan:
    """The axis of values: with those that are near the best one. merit: more is better; otherwise all are near."""
    best = max((one.value or 0.0 for _, one in rows), default=0.0)
    far = frozenset(name for name, one in rows if (one.value or 0.0) < FAR * best)
    # Without two models to tell apart closely there is nothing to gain.
    return _span(rows, far if merit and len(rows) - len(far) > 1 else frozenset())


def compute_difference_span(rows: Rows) -> AxisSpan:
    """The axis of differences: with 0, and those that lie near it beside the least of them and the widest interval."""
    least = min((abs(one.value or 0.0) for _, one in rows), default=0.0)
    widest = max((one.upper - one.lower for _, one in rows if _whole(one)), default=0.0)  # type: ignore[operator]
    limit = 4 * max(least, widest)
    far = frozenset(name for name, one in rows if limit and abs(one.value or 0.0) > limit)
    return _span(rows, far, 0.0)


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
    """A dot a model on its interval, its number beside it. line: a value that is marked. sign: write + too. titled:
    what a model is called."""
    traces, numbers = [], []
    for name, one in rows:
        value = one.value or 0.0
        traces.append(_trace(name, escape_label(titled(name)), one, models, span, digits))
        told = ("+" if sign and value > 0 else "") + format_number(value, digits)
        beside = {"x": 1.02, "xref": "paper", "xanchor": "left", "showarrow": False, "font": {"size": 12, "color": INK}}
        numbers.append({"y": escape_label(titled(name)), "text": told, **beside})
    shapes = []
    if line is not None and span.low <= line <= span.high:
        stroke = {"color": MUTED, "width": 1, "dash": "dot"}
        whole = {"yref": "paper", "y0": 0, "y1": 1, "layer": "below"}
        shapes = [{"type": "line", "x0": line, "x1": line, "line": stroke, **whole}]
    names = build_axis(type="category", autorange="reversed", showgrid=False, ticklen=6, tickcolor="rgba(0,0,0,0)")
    values = build_axis(range=[span.low, span.high], nticks=4, tickangle=0, tickformat="+.3~g" if sign else ".3~g")
    more = {"shapes": shapes, "annotations": numbers, "margin": {"l": 8, "r": 62, "t": 8, "b": 8}}
    return {"data": traces, "layout": build_layout(56 + 32 * len(rows), xaxis=values, yaxis=names, **more)}


def format_estimate(one: ReportedValue, digits: int) -> str:
    """A number and its interval."""
    return (
        f"{format_number(one.value, digits)}, {format_interval(one, digits)}"
        if _whole(one)
        else format_number(one.value, digits)
    )


def format_interval(one: ReportedValue, digits: int) -> str:
    """Both ends of an interval, or that there is none."""
    return f"{format_number(one.lower, digits)} to {format_number(one.upper, digits)}" if _whole(one) else NONE


def _trace(
    name: str, told: str, one: ReportedValue, models: Sequence[str], span: AxisSpan, digits: int
) -> dict[str, Any]:
    value, stroke = one.value or 0.0, select_colour(name, models)
    arrow = "triangle-right" if value > span.high else "triangle-left"
    far = name in span.far
    trace: dict[str, Any] = {
        "type": "scatter",
        "mode": "markers",
        "x": [span.place(name, value)],
        "y": [told],
        "cliponaxis": False,
        "marker": {"size": 10, "color": stroke, "symbol": arrow if far else select_symbol(name, models)},
        "hovertext": [f"{told}: {format_estimate(one, digits)}"],
        "hoverinfo": "text",
    }
    if one.lower is not None and one.upper is not None and not far:
        ends = {"array": [one.upper - value], "arrayminus": [value - one.lower], "symmetric": False}
        trace["error_x"] = {"type": "data", **ends, "color": stroke, "thickness": 1.6, "width": 5}
    return trace


def _span(rows: Rows, far: frozenset[str], *more: float) -> AxisSpan:
    near = [end for name, one in rows if name not in far for end in (one.lower, one.value, one.upper)]
    ends = [*more, *(end for end in near if end is not None)]
    low, high = min(ends, default=0.0), max(ends, default=1.0)
    room = (high - low) * 0.16 or abs(high) * 0.1 or 0.1
    return AxisSpan(low - room, high + room, far)


def _whole(one: ReportedValue) -> bool:
    return one.lower is not None and one.upper is not None
