"""The report's section on training: what was measured after each epoch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from endcap.report.chart import (
    BASELINE_COLOURS,
    MUTED,
    NONE,
    Chart,
    ReportTable,
    Section,
    build_axis,
    build_layout,
    escape_label,
    format_number,
)
from endcap.report.facts import ReportFacts

SKIPPED = ("epoch", "seconds")
NAMES = {"loss": "Training loss", "validation": "Validation next_ndcg@20"}
Row = Mapping[str, Any]
Curves = dict[str, list[tuple[float, float]]]
"""Points (epoch, value) by member; a single model has an empty label."""


def build_learning_section(facts: ReportFacts) -> Section:
    """Build a chart for each quantity of the history, with a curve for each member of a blend."""
    history: Sequence[Row] = facts.trained.get("history", [])
    curves = _collect_curves(history)
    kept = _find_kept_epochs(facts.trained.get("found") or {})
    charts = [_draw_curves(name, of_member, kept) for name, of_member in curves.items()]
    say = f"{'; '.join(_describe_training(history, kept, curves.get('validation', {})))}."
    return Section(
        "learning",
        "Learning curves",
        "" if not charts else say if facts.comparison else f"{facts.model}: {say}",
        charts,
        folded={"All epochs": _tabulate(history)} if charts else {},
        missing="" if charts else f"{_name_learner(facts)} in epochs, so there is no curve to show.",
    )


def _name_learner(facts: ReportFacts) -> str:
    return "None of the models learns" if facts.comparison else f"{facts.model} does not learn"


def _find_kept_epochs(settings: Mapping[str, Any]) -> dict[str, int]:
    """Return the number of epochs that was kept, by member; a single model has an empty label."""
    members = settings.get("members") or {"": settings}
    return {
        label: member_settings["epochs"]
        for label, member_settings in members.items()
        if isinstance(member_settings.get("epochs"), int)
    }


def _iterate_values(history: Sequence[Row]) -> Iterator[tuple[str, str, float, float]]:
    """Yield each finite number of a history: (member, quantity, epoch, value). A blend writes `member/quantity`."""
    for row in history:
        for key, value in row.items():
            member, _, name = key.rpartition("/")
            if "epoch" in row and isinstance(value, int | float) and math.isfinite(value):
                yield member, name, row["epoch"], value


def _collect_curves(history: Sequence[Row]) -> dict[str, Curves]:
    """Collect epochs and values, by quantity and member."""
    curves: dict[str, Curves] = {}
    for member, name, epoch, value in _iterate_values(history):
        if name not in SKIPPED:
            curves.setdefault(name, {}).setdefault(member, []).append((epoch, value))
    return curves


def _describe_training(history: Sequence[Row], kept: Mapping[str, int], validated: Curves) -> Iterator[str]:
    """Describe how long each member's training took, and how much of it was kept."""
    epochs: dict[str, set[float]] = {}
    seconds: dict[str, float] = {}
    for member, name, epoch, value in _iterate_values(history):
        if name != "epoch":
            epochs.setdefault(member, set()).add(epoch)
            seconds[member] = seconds.get(member, 0.0) + (value if name == "seconds" else 0.0)
    for member in epochs:
        line = f"{member} {len(epochs[member])} epochs in {seconds[member]:,.0f} s".strip()
        by_validation = member in kept and member in validated
        yield (
            f"{line}, {kept[member]} of them kept because the validation part was best there" if by_validation else line
        )


def _draw_curves(name: str, of_member: Curves, kept: Mapping[str, int]) -> Chart:
    """Draw a curve for each member; the kept epoch is marked if there is one member only."""
    line_at = kept.get(next(iter(of_member))) if len(of_member) == 1 else None
    traces, descriptions = [], []
    for at, (member, points) in enumerate(of_member.items()):
        stroke = "var(--challenger)" if at == 0 else f"var(--baseline-{at % BASELINE_COLOURS + 1})"
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": escape_label(member),
                "x": [epoch for epoch, _ in points],
                "y": [value for _, value in points],
                "line": {"color": stroke, "width": 2.5},
                "marker": {"size": 7, "color": stroke},
                "hovertemplate": "epoch %{x}: %{y:.4f}<extra></extra>",
            }
        )
        first, last = points[0], points[-1]
        start, end = (f"{format_number(value)} after {{}}{epoch}" for epoch, value in (first, last))
        descriptions.append(f"{member} {start.format('epoch ')}, {end.format('')}".strip())
    dots = {"color": MUTED, "width": 1, "dash": "dot"}
    line = {
        "type": "line",
        "x0": line_at,
        "x1": line_at,
        "yref": "paper",
        "y0": 0,
        "y1": 1,
        "line": dots,
        "layer": "below",
    }
    epochs = [epoch for points in of_member.values() for epoch, _ in points]
    step = max(1, round((max(epochs) - min(epochs)) / 8))
    whole: dict[str, Any] = {"tickformat": "d", "tick0": min(epochs), "dtick": step}
    figure = {
        "data": traces,
        "layout": build_layout(
            280,
            xaxis=build_axis("epoch", **whole, showgrid=False),
            yaxis=build_axis(nticks=6),
            shapes=[line] if line_at else [],
            showlegend=len(of_member) > 1,
        ),
    }
    title = NAMES.get(name, name)
    note = f"The dotted line marks the epoch that was kept, {line_at}." if line_at else ""
    return Chart(f"learning-{name}", title, f"{title}: {'; '.join(descriptions)}", figure, note=note)


def _tabulate(history: Sequence[Row]) -> ReportTable:
    names = list(dict.fromkeys(["epoch", *(name for row in history for name in row)]))
    return ReportTable(names, [[_format_cell(row.get(name)) for name in names] for row in history])


def _format_cell(value: Any) -> str:
    return format_number(value) if isinstance(value, float) else NONE if value is None else str(value)
