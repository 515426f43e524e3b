"""Charts of a rollout: share, effect of each metric with its band, and guardrails, over time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import partial
from itertools import groupby
from typing import Any, TypeVar

from endcap.experiments.decision_parts import format_change, format_level, format_share
from endcap.experiments.evidence import EffectEvidence, GuardrailEvidence
from endcap.experiments.log_entry import RolloutLogEntry
from endcap.report.chart import BAD, MUTED, Chart, Figure, ReportTable, build_axis, build_layout, escape_label
from endcap.rollout.history import RolloutHistory, format_second
from endcap.spec.rollout import RolloutSpec

MOST_POINTS = 300
"""Of a line. More would make the file large and show nothing else."""
_ROWS = 12
_SHARES = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0)
_DAY = 86_400_000
_MINUTE = 60_000
_TIME_FORMATS = [
    {"dtickrange": [None, _MINUTE - 1], "value": "%H:%M:%S\n%-d %b"},
    {"dtickrange": [_MINUTE, _DAY - 1], "value": "%H:%M\n%-d %b"},
    {"dtickrange": [_DAY, None], "value": "%-d %b\n%Y"},
]
_VERSION, _BAND, _WARN = "var(--challenger)", "var(--band)", "var(--warn)"
_EffectPoint = tuple[datetime, EffectEvidence, RolloutLogEntry]
_GuardrailPoint = tuple[datetime, GuardrailEvidence]
Point = TypeVar("Point")


def draw_share(history: RolloutHistory) -> Chart:
    """Draw the version's share over time, with marks where it changed."""
    changes = history.share_changes
    times = [*(moment for moment, _ in changes), history.last.time]
    shares = [*(share for _, share in changes), changes[-1][1]]
    heights = [math.sqrt(share) for share in shares]
    line = build_line(times, heights, _VERSION, "share", shape="hv", width=2.5)
    line |= {"text": [format_share(share) for share in shares], "hovertemplate": "%{x|%d %b %H:%M:%S}: %{text}"}
    line |= {"mode": "lines+markers", "marker": {"size": 8, "color": _VERSION}, "fill": "tozeroy", "fillcolor": _BAND}
    axis = build_axis(
        range=[0, 1.06],
        tickvals=[math.sqrt(share) for share in _SHARES],
        ticktext=[format_share(share) for share in _SHARES],
    )
    path = ", ".join(f"{format_share(share)} from {format_second(moment)}" for moment, share in changes)
    rows = [[format_second(moment), format_share(share)] for moment, share in changes]
    return Chart(
        "share",
        "Share of the shoppers",
        f"Share of the shoppers over time: {path}",
        build_figure([line], 260, axis),
        ReportTable(["time (UTC)", "share"], rows),
        "Shares are spaced by their square root, so that small ones can be told apart.",
    )


def draw_effects(history: RolloutHistory) -> Iterator[Chart]:
    """Draw the effect on each metric with its band, the margin, and what the next share needs."""
    for metric in history.policy.metrics:
        points = [
            (entry.time, effect, entry)
            for entry in history.looks
            for effect in (entry.evidence.effects if entry.evidence else ())
            if effect.metric == metric.name
        ]
        if points:
            yield _draw_effect(history, metric.name, thin(points, lambda point: point[2].after.share))


def draw_guardrails(history: RolloutHistory) -> Iterator[Chart]:
    """Draw what was observed of each guardrail and its limit."""
    for name in history.policy.guardrail_budgets:
        points = [
            (entry.time, guardrail)
            for entry in history.looks
            for guardrail in (entry.evidence.guardrails if entry.evidence else ())
            if guardrail.guardrail == name and guardrail.events > 0
        ]
        if points:
            yield _draw_guardrail(history.policy, name, thin(points, lambda point: point[1].reference))


def _draw_effect(history: RolloutHistory, metric: str, points: Sequence[_EffectPoint]) -> Chart:
    limit = _find_limit(points, history.policy)
    traces: list[dict[str, Any]] = []
    # After the promotion another arm is compared, so its line does not go on from the one before.
    for _, group in groupby(points, key=lambda point: point[2].evidence and point[2].evidence.against):
        traces += _draw_band(list(group), limit, is_first=not traces)
    first, last = points[0][0], points[-1][0]
    is_deciding = metric == history.policy.deciding_metric.name
    newest = points[-1][1]
    sign = 1 if newest.better else -1
    if is_deciding:
        margin = sign * history.policy.allowed_loss
        label = "margin" if history.policy.promote == "no_harm" else "no change, which a promotion must exclude"
        traces.append(build_line([first, last], [margin, margin], BAD, label, dash="dash"))
        needed = _draw_needed(points, sign, history.policy)
        traces += [needed] if needed else []
    shapes = [
        {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": 0, "y1": 0, "line": {"color": MUTED, "width": 1}}
    ]
    shapes += [
        {
            "type": "line",
            "yref": "paper",
            "y0": 0,
            "y1": 1,
            "x0": format_second(moment),
            "x1": format_second(moment),
            "layer": "below",
        }
        | {"line": {"color": MUTED, "width": 1, "dash": "dot"}}
        for moment, _ in history.share_changes[1:]
    ]
    axis = build_axis(range=[-limit, limit], tickformat="+.3~%", nticks=6)
    text = f"{metric}: effect {format_change(newest.effect)}, between {format_change(newest.lower)} and "
    text += f"{format_change(newest.upper)} at {format_second(last)}"
    way = "" if newest.better else " Less is better."
    role = " It decides on shares and on the promotion." if is_deciding else " It can only take the version back."
    return Chart(
        f"effect-{metric}",
        f"Effect on {metric}",
        text,
        build_figure(traces, 330 if is_deciding else 300, axis, shapes=shapes, showlegend=True),
        ReportTable(["time (UTC)", "effect", "lower", "upper"], [_list_cells(point) for point in _thin_rows(points)]),
        f"{text}.{role}{way} Dotted lines: the share changed.",
    )


def _draw_band(points: Sequence[_EffectPoint], limit: float, *, is_first: bool) -> list[dict[str, Any]]:
    def clip(value: float) -> float:
        return max(-3 * limit, min(3 * limit, value))

    times = [moment for moment, _, _ in points]
    lower = build_line(times, [clip(effect.lower) for _, effect, _ in points], _VERSION, "lower", width=1)
    upper = build_line(times, [clip(effect.upper) for _, effect, _ in points], _VERSION, "band", width=1)
    middle = build_line(times, [clip(effect.effect) for _, effect, _ in points], _VERSION, "effect", width=2.5)
    hover = [
        f"{format_change(effect.effect)}, {format_change(effect.lower)} to {format_change(effect.upper)}"
        for _, effect, _ in points
    ]
    middle |= {"text": hover, "hovertemplate": "%{x|%d %b %H:%M:%S}: %{text}", "showlegend": is_first}
    quiet = {"hoverinfo": "skip", "showlegend": False}
    upper |= {**quiet, "fill": "tonexty", "fillcolor": _BAND, "showlegend": is_first}
    return [lower | quiet, upper, middle]


def _draw_needed(points: Sequence[_EffectPoint], sign: int, policy: RolloutSpec) -> dict[str, Any] | None:
    """Draw what the next share needed at each look; None if no larger share was left."""
    marks = [
        (moment, next((sign * step.worst for step in policy.share_steps if step.share > entry.after.share), None))
        for moment, _, entry in points
        if not entry.after.is_over
    ]
    if all(value is None for _, value in marks):
        return None
    times, values = [moment for moment, _ in marks], [value for _, value in marks]
    return build_line(times, values, _WARN, "needed for the next share", dash="dot", shape="hv")


def _draw_guardrail(policy: RolloutSpec, name: str, points: Sequence[_GuardrailPoint]) -> Chart:
    times = [moment for moment, _ in points]
    observed = build_line(times, [guardrail.observed for _, guardrail in points], _VERSION, "observed", width=2.5)
    limit = build_line(times, [guardrail.reference for _, guardrail in points], BAD, "limit", dash="dash")
    newest = points[-1][1]
    level = partial(format_level, policy, name)
    text = f"{name}: {level(newest.observed)} observed, at most {level(newest.reference)} allowed, "
    text += f"{newest.events:,} requests at {format_second(times[-1])}"
    rows = [
        [format_second(moment), level(entry.observed), level(entry.reference), f"{entry.e_value:.3g}"]
        for moment, entry in _thin_rows(points)
    ]
    axis = build_axis(rangemode="tozero", tickformat=".3~g", nticks=5)
    return Chart(
        f"guardrail-{name}",
        name,
        text,
        build_figure([observed, limit], 250, axis, showlegend=True),
        ReportTable(["time (UTC)", "observed", "limit", "e-value"], rows),
    )


def build_figure(traces: Sequence[dict[str, Any]], height: int, axis: dict[str, Any], **layout: Any) -> Figure:
    """Build a figure over time."""
    time_axis = build_axis(type="date", showgrid=False, nticks=5, tickangle=0, tickformatstops=_TIME_FORMATS)
    # Invisible ticks keep the first time apart from the lowest value.
    time_axis |= {"ticks": "outside", "ticklen": 6, "tickcolor": "rgba(0,0,0,0)"}
    return {"data": list(traces), "layout": build_layout(height, xaxis=time_axis, yaxis=axis, **layout)}


def build_line(
    times: Sequence[datetime],
    values: Sequence[float | None],
    color: str,
    name: str,
    *,
    dash: str = "solid",
    shape: str = "linear",
    width: float = 1.5,
) -> dict[str, Any]:
    """Build a line over time."""
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [format_second(moment) for moment in times],
        "y": list(values),
        "name": escape_label(name),
        "line": {"color": color, "dash": dash, "shape": shape, "width": width},
    }


def _find_limit(points: Sequence[_EffectPoint], policy: RolloutSpec) -> float:
    """Return the change at the axis's ends: most bands fit in, and the first, wide ones do not press the others."""
    ends = sorted(
        max(abs(effect.lower), abs(effect.upper))
        for _, effect, _ in points
        if math.isfinite(effect.lower) and math.isfinite(effect.upper)
    )
    usual = ends[len(ends) // 2] if ends else 1.0
    return min(1.0, max(1.5 * usual, 1.1 * (ends[0] if ends else 0.0), -2 * policy.allowed_loss, 0.05))


def thin(points: Sequence[Point], key: Callable[[Point], Any]) -> list[Point]:
    """Leave out points of long lines, but not those beside a change of `key`, nor the last."""
    every = math.ceil(len(points) / MOST_POINTS)
    return [
        point
        for place, point in enumerate(points)
        if place % every == 0
        or place == len(points) - 1
        or key(points[place - 1]) != key(point)
        or key(points[place + 1]) != key(point)
    ]


def _thin_rows(points: Sequence[Point]) -> list[Point]:
    every = math.ceil(len(points) / _ROWS)
    return [point for place, point in enumerate(points) if (len(points) - 1 - place) % every == 0]


def _list_cells(point: _EffectPoint) -> list[str]:
    moment, effect, _ = point
    return [format_second(moment), *(format_change(value) for value in (effect.effect, effect.lower, effect.upper))]
