"""The report's section on segments: the same metrics over groups of predictions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from endcap.evaluation.model_metrics import SEGMENTS
from endcap.report.chart import (
    Chart,
    ReportTable,
    Section,
    build_axis,
    build_layout,
    escape_label,
    format_number,
    select_colour,
    select_symbol,
)
from endcap.report.facts import ReportedValue, ReportFacts
from endcap.report.whiskers import compute_value_span

DRAWN = ("mrr", "hr")
DIVISIONS = {
    "prefix": "By events in the prefix",
    "session": "By events in the session",
    "age": "By how long ago the next item was first met",
}


def build_segments_section(facts: ReportFacts) -> Section:
    """Build a chart for each division and metric, with a line for each model."""
    segments_of_models = facts.verdict.get("segments", {})
    divisions = sorted(
        {division for segments_of_model in segments_of_models.values() for division in segments_of_model},
        key=_rank_division,
    )
    charts = [_draw_segments(facts, division, facts.at(name)) for division in divisions for name in DRAWN]
    say = (
        "The charts show the metrics for groups of the same predictions. Below each segment is its number of "
        "predictions: a segment with few says little."
    )
    drawn = [chart for chart in charts if chart is not None]
    return Section("segments", "Segments", say, drawn, missing="" if drawn else "This verdict has no segments.")


def _draw_segments(facts: ReportFacts, division: str, metric: str) -> Chart | None:
    rows_of_models: dict[str, Mapping[str, Any]] = {
        name: facts.verdict["segments"].get(name, {}).get(division, {}) for name in facts.models
    }
    of_model = {name: rows for name, rows in rows_of_models.items() if any(metric in row for row in rows.values())}
    if not of_model:
        return None
    names = _sort_segments({segment for rows in of_model.values() for segment in rows}, division)
    first = next(iter(of_model.values()))
    counts = [f"{int(first.get(name, {}).get('predictions', 0)):,}" for name in names]
    overall = [(name, facts.values[name].get(metric, ReportedValue(None))) for name in of_model]
    far = compute_value_span(overall).far
    values = {model: [rows.get(name, {}).get(metric) for name in names] for model, rows in of_model.items()}
    traces = [_build_trace(facts, model, values[model], "legendonly" if model in far else True) for model in of_model]
    places: dict[str, Any] = {
        "tickmode": "array",
        "tickvals": list(range(len(names))),
        "range": [-0.4, len(names) - 0.6],
    }
    ticks = [f"{escape_label(name)}<br>{count}" for name, count in zip(names, counts, strict=True)]
    drawing = build_layout(
        320, xaxis=build_axis(ticktext=ticks, showgrid=False, **places), yaxis=build_axis(nticks=6), showlegend=True
    )
    drawing["legend"]["traceorder"] = "reversed"
    heading = f"{DIVISIONS.get(division, 'By ' + division.replace('_', ' '))}: {metric}"
    descriptions = [f"{model} {', '.join(format_number(value) for value in row)}" for model, row in values.items()]
    return Chart(
        f"segments-{division}-{metric}",
        heading,
        f"{heading}, over {', '.join(names)}: {'; '.join(descriptions)}",
        {"data": traces[::-1], "layout": drawing},  # the challenger's line on top
        ReportTable(
            ["segment", "predictions", *of_model],
            [[name, counts[at], *(format_number(row[at]) for row in values.values())] for at, name in enumerate(names)],
        ),
        f"Click in the legend to draw a model that lies far below: {', '.join(sorted(far))}." if far else "",
    )


def _build_trace(facts: ReportFacts, model: str, values: list[float | None], visible: bool | str) -> dict[str, Any]:
    main, stroke = model == facts.models[0], select_colour(model, facts.models)
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": escape_label(facts.title(model, short=True)),
        "visible": visible,
        "x": list(range(len(values))),
        "y": values,
        "line": {"color": stroke, "width": 3 if main else 1.6},
        "marker": {"size": 9 if main else 7, "symbol": select_symbol(model, facts.models), "color": stroke},
        "hovertemplate": "%{y:.4f}",
    }


def _sort_segments(segments: Iterable[str], division: str) -> list[str]:
    """Sort segments in the evaluation's order, because a manifest keeps none."""
    known = [name for name, _ in SEGMENTS.get(division, ())]
    return sorted(segments, key=lambda name: (known.index(name) if name in known else len(known), name))


def _rank_division(division: str) -> tuple[int, str]:
    known = list(DIVISIONS)
    return (known.index(division) if division in known else len(known), division)
