"""Curves of a training: what was measured after each epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from endcap.report.chart import BASELINE_COLOURS, MUTED, NONE, Chart, Section, Table, axis, layout, number, shown
from endcap.report.facts import Facts

SKIPPED = ("epoch", "seconds", "member")
NAMES = {"loss": "Training loss", "validation": "Validation NDCG@20"}
Row = Mapping[str, Any]


def learning(facts: Facts) -> Section:
    """A chart a quantity of the history, a curve a member where a blend was trained."""
    history: Sequence[Row] = facts.trained.get("history", [])
    curves = _curves(history)
    kept = facts.trained.get("found", {}).get("epochs") or facts.trained.get("epochs")
    kept = kept if isinstance(kept, int) and len({row.get("member") for row in history}) == 1 else None
    charts = [_chart(name, of_member, kept) for name, of_member in curves.items()]
    say = f"{facts.model}, {len(history)} epochs in {sum(row.get('seconds', 0) for row in history):,.0f} s"
    say += f"; {kept} were kept, by the validation part." if kept and "validation" in curves else "."
    return Section(
        "learning",
        "Learning curves",
        "" if not charts else say,
        charts,
        folded={"All epochs": _table(history)} if charts else {},
        missing="" if charts else f"{facts.model} does not learn in epochs: there is no curve to show.",
    )


def _curves(history: Sequence[Row]) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """Epoch and value, by quantity and member."""
    curves: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for row in history:
        for name, value in row.items():
            if name not in SKIPPED and isinstance(value, int | float) and "epoch" in row:
                curves.setdefault(name, {}).setdefault(str(row.get("member", "")), []).append((row["epoch"], value))
    return curves


def _chart(name: str, of_member: Mapping[str, Sequence[tuple[float, float]]], kept: int | None) -> Chart:
    traces, told = [], []
    for at, (member, points) in enumerate(of_member.items()):
        stroke = "var(--challenger)" if at == 0 else f"var(--baseline-{at % BASELINE_COLOURS + 1})"
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": shown(member),
                "x": [epoch for epoch, _ in points],
                "y": [value for _, value in points],
                "line": {"color": stroke, "width": 2.5},
                "marker": {"size": 7, "color": stroke},
                "hovertemplate": "epoch %{x}: %{y:.4f}<extra></extra>",
            }
        )
        first, last = points[0], points[-1]
        told.append(f"{member} {number(first[1])} after epoch {first[0]}, {number(last[1])} after {last[0]}".strip())
    dots = {"color": MUTED, "width": 1, "dash": "dot"}
    line = {"type": "line", "x0": kept, "x1": kept, "yref": "paper", "y0": 0, "y1": 1, "line": dots, "layer": "below"}
    epochs = [epoch for points in of_member.values() for epoch, _ in points]
    step = max(1, round((max(epochs) - min(epochs)) / 8))
    whole: dict[str, Any] = {"tickformat": "d", "tick0": min(epochs), "dtick": step}
    figure = {
        "data": traces,
        "layout": layout(
            280,
            xaxis=axis("epoch", **whole, showgrid=False),
            yaxis=axis(nticks=6),
            shapes=[line] if kept else [],
            showlegend=len(of_member) > 1,
        ),
    }
    title = NAMES.get(name, name)
    note = f"The dotted line is the epoch that was kept, {kept}." if kept else ""
    return Chart(f"learning-{name}", title, f"{title}: {'; '.join(told)}", figure, note=note)


def _table(history: Sequence[Row]) -> Table:
    names = list(dict.fromkeys(name for row in history for name in row))
    first = [name for name in ("member", "epoch") if name in names]
    names = first + [name for name in names if name not in first]
    return Table(names, [[_cell(row.get(name)) for name in names] for row in history])


def _cell(value: Any) -> str:
    return number(value) if isinstance(value, float) else NONE if value is None else str(value)
