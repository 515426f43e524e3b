"""Charts of an A/B test: shares, chances of being best, lift by epoch, and what moving shoppers has won, over time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from endcap.ab.gains import GainPoint
from endcap.ab.history import AbHistory, Epoch, EpochEffect
from endcap.experiments.ab_state import AbState
from endcap.experiments.decision_parts import format_change, format_share
from endcap.report.chart import MUTED, Chart, ReportTable, build_axis, build_layout, escape_label
from endcap.rollout.charts import build_figure, build_line, thin
from endcap.rollout.history import format_minute

_COLOURS = ("var(--challenger)", "var(--baseline-2)", "var(--baseline-3)", "var(--baseline-4)", "var(--baseline-5)",
            "var(--baseline-6)", "var(--baseline-1)")  # fmt: skip
_SYMBOLS = ("circle", "square", "triangle-up", "diamond", "pentagon", "star", "cross")
_LEAST_RANGE = 0.05


def list_versions(state: AbState) -> list[str]:
    """List the versions of a test: the champion first."""
    return [state.stable_version, *(challenger.version for challenger in state.challengers)]


def draw_shares(history: AbHistory) -> Chart:
    """Draw the share of each version over time, one above the other."""
    changes = history.share_changes
    times = [*(moment for moment, _ in changes), history.last.time]
    shares = [*(share for _, share in changes), changes[-1][1]]
    traces = []
    for number, version in enumerate(list_versions(history.state)):
        values = [each.get(version, 0.0) for each in shares]
        line = build_line(times, values, _colour(number), f"version {version}", shape="hv", width=1)
        hover = {"text": [format_share(value) for value in values], "hovertemplate": "%{x|%d %b %H:%M}: %{text}"}
        traces.append({**line, **hover, "stackgroup": "shares", "fillcolor": _colour(number)})
    axis = build_axis(range=[0, 1], tickformat=".0%", nticks=5)
    rows = [
        [format_minute(moment), *(format_share(share.get(version, 0.0)) for version in list_versions(history.state))]
        for moment, share in changes
    ]
    newest = ", ".join(f"version {version} {format_share(share)}" for version, share in changes[-1][1].items())
    return Chart(
        "shares",
        "Shares of the shoppers",
        f"Shares of the shoppers over time, last: {newest}",
        build_figure(traces, 320, axis, showlegend=True),
        ReportTable(["time (UTC)", *(f"version {version}" for version in list_versions(history.state))], rows),
    )


def draw_best(history: AbHistory) -> Chart | None:
    """Draw how probable each version was the best at each look; None before anything is known."""
    points = [(entry.time, entry.best) for entry in history.looks if entry.best]
    if not points:
        return None
    kept = thin(points, lambda point: None)
    traces = [
        build_line(
            [moment for moment, _ in kept],
            [best.get(version) for _, best in kept],
            _colour(number),
            f"version {version}",
            width=2.5 if number else 1.5,
        )
        for number, version in enumerate(list_versions(history.state))
    ]
    newest = ", ".join(f"version {version} {format_share(chance)}" for version, chance in points[-1][1].items())
    axis = build_axis(range=[0, 1.02], tickformat=".0%", nticks=5)
    return Chart(
        "best",
        "Probability of being the best",
        f"Probability of being the best, last: {newest}",
        build_figure(traces, 300, axis, showlegend=True),
        ReportTable(
            ["version", "at the newest look"],
            [[f"version {version}", format_share(chance)] for version, chance in points[-1][1].items()],
        ),
        "Shares follow it at the end of each epoch, as far as floor, dead band and cap allow.",
    )


def draw_lift(history: AbHistory, metric: str) -> Chart | None:
    """Draw each challenger's effect in each epoch with its band; None before anything is known."""
    epochs = [epoch for epoch in history.epochs if any(_is_known(effect) for effect in epoch.effects.values())]
    if not epochs:
        return None
    versions = [challenger.version for challenger in history.state.challengers]
    traces = [_draw_version(number, version, len(versions), epochs) for number, version in enumerate(versions)]
    ends = sorted(abs(end) for epoch in epochs for effect in epoch.effects.values() for end in _list_ends(effect))
    limit = max(_LEAST_RANGE, min(1.0, 1.2 * ends[int(0.9 * (len(ends) - 1))])) if ends else 1.0
    zero = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": 0, "y1": 0, "line": {"color": MUTED, "width": 1}}
    rows = [
        [str(epoch.number), f"version {version}", format_change(effect.effect), _format_band(effect)]
        for epoch in epochs
        for version, effect in epoch.effects.items()
        if _is_known(effect)
    ]
    layout = build_layout(
        340,
        xaxis=build_axis("epoch", tickvals=[epoch.number for epoch in epochs], showgrid=False),
        yaxis=build_axis(range=[-limit, limit], tickformat="+.3~%", nticks=6),
        shapes=[zero],
    )
    layout |= {"showlegend": True}
    return Chart(
        "lift",
        f"Effect on {metric} by epoch",
        f"Effect on {metric} against version {history.state.stable_version} in each epoch, by version",
        {"data": traces, "layout": layout},
        ReportTable(["epoch", "version", "effect", "95 % band"], rows),
        "Each band is for its epoch alone (95 %). The bands of the table hold at every look together.",
    )


def draw_gain(points: Sequence[GainPoint], metric: str) -> Chart | None:
    """Draw what moving shoppers has won against an equal split, with its band; None before anything is known."""
    known = [point for point in points if math.isfinite(point.gain.lower) and math.isfinite(point.gain.upper)]
    if not known:
        return None
    times: list[datetime] = [point.time for point in known]
    quiet: dict[str, Any] = {"hoverinfo": "skip", "showlegend": False}
    colour = _COLOURS[0]
    lower = build_line(times, [point.gain.lower for point in known], colour, "lower", width=1) | quiet
    upper = build_line(times, [point.gain.upper for point in known], colour, "band", width=1)
    upper |= {"fill": "tonexty", "fillcolor": "var(--band)", "hoverinfo": "skip"}
    middle = build_line(times, [point.gain.outcomes for point in known], colour, "won", width=2.5)
    marks = {"mode": "lines+markers", "marker": {"size": 7, "color": colour}}
    zero = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": 0, "y1": 0, "line": {"color": MUTED, "width": 1}}
    last = known[-1].gain
    text = f"{last.outcomes:+,.0f} {metric} outcomes, between {last.lower:+,.0f} and {last.upper:+,.0f}"
    rows = [[format_minute(point.time), *(f"{value:+,.0f}" for value in _list_gain(point))] for point in known]
    return Chart(
        "gain",
        f"{metric}: won against an equal split",
        f"Won against an equal split: {text}",
        build_figure([lower, upper, middle | marks], 320, build_axis(nticks=6), shapes=[zero], showlegend=True),
        ReportTable(["time (UTC)", "won", "lower", "upper"], rows),
        f"{text}. An equal split gives each version that takes part equally many shoppers.",
    )


def _list_gain(point: GainPoint) -> tuple[float, float, float]:
    return point.gain.outcomes, point.gain.lower, point.gain.upper


def _draw_version(number: int, version: str, count: int, epochs: Sequence[Epoch]) -> dict[str, Any]:
    known = [(epoch.number, epoch.effects[version]) for epoch in epochs if _is_known(epoch.effects.get(version))]
    shift = 0.12 * (number - (count - 1) / 2)
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [epoch + shift for epoch, _ in known],
        "y": [effect.effect for _, effect in known],
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": [effect.upper - effect.effect for _, effect in known],
            "arrayminus": [effect.effect - effect.lower for _, effect in known],
            "color": _colour(number + 1),
            "thickness": 1.5,
            "width": 3,
        },
        "marker": {"color": _colour(number + 1), "size": 8, "symbol": _SYMBOLS[number]},
        "name": escape_label(f"version {version}"),
        "text": [f"epoch {epoch}: {format_change(effect.effect)}, {_format_band(effect)}" for epoch, effect in known],
        "hovertemplate": "%{text}",
    }


def _is_known(effect: EpochEffect | None) -> bool:
    return effect is not None and math.isfinite(effect.lower) and math.isfinite(effect.upper)


def _list_ends(effect: EpochEffect) -> list[float]:
    return [end for end in (effect.lower, effect.upper) if math.isfinite(end)]


def _format_band(effect: EpochEffect) -> str:
    return f"{format_change(effect.lower)} to {format_change(effect.upper)}"


def _colour(number: int) -> str:
    """Return a version's colour, the same in all charts: the champion is number 0."""
    return _COLOURS[(number - 1) % len(_COLOURS)] if number else "var(--champion)"
