"""The report's section on a search: its trials, which parameters mattered, and what failed."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from endcap.report.chart import (
    BAD,
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
from endcap.report.facts import ReportFacts, format_percent

SLICES = 6
"""Parameters that are drawn, the most important first; the table has all."""
_STATES = {
    "complete": ("var(--challenger)", "circle"),
    "pruned": ("var(--baseline-1)", "circle-open"),
    "cut": ("var(--baseline-2)", "circle-open-dot"),
    "skipped": (MUTED, "x-open"),
    "failed": (BAD, "x"),
}
Trial = Mapping[str, Any]


def build_search_section(facts: ReportFacts) -> Section:
    """Build the trials in order, values over important parameters, importances, and the settings of the best trial."""
    outcome = facts.trained.get("search") or {}
    searches = {
        label: outcome_of_member
        for label, outcome_of_member in outcome.get("members", {"": outcome}).items()
        if outcome_of_member.get("trials")
    }
    parts = [_build_part(label, outcome_of_member) for label, outcome_of_member in searches.items()]
    if not parts:
        return Section(
            "search", "Search", missing="There was no search: the model was trained with the settings of its spec."
        )
    return Section(
        "search",
        "Search",
        " ".join(
            [*(part.say for part in parts), *_describe_left_out(outcome), "The search used validation data only."]
        ),
        [chart for part in parts for chart in part.charts],
        {caption: table for part in parts for caption, table in part.tables.items()},
        {caption: table for part in parts for caption, table in part.folded.items()},
    )


def _describe_left_out(outcome: Mapping[str, Any]) -> list[str]:
    """Name a blend's members that the search could not use."""
    return [f"{label} is left out of the blend: {why}." for label, why in (outcome.get("left_out") or {}).items()]


def _build_part(label: str, outcome: Mapping[str, Any]) -> Section:
    """Build the search of a model, or of one of a blend's members, whose label then stands in all titles and names."""
    trials: Sequence[Trial] = outcome["trials"]
    best = next((trial for trial in trials if trial.get("number") == outcome.get("best")), None)
    importances = {name: share for name, share in (outcome.get("importances") or {}).items() if share is not None}
    charts = [_draw_history(trials, best)]
    charts += [_draw_importances(importances)] if importances else []
    charts += [_draw_slice(trials, name, best) for name in _select_parameters(trials, importances)]
    of = f"{label}: " if label else ""
    charts = [
        replace(chart, name=f"{label}-{chart.name}", title=of + chart.title) if label else chart for chart in charts
    ]
    settings = (
        {}
        if best is None
        else {f"Settings of the best trial, number {best['number']}": _tabulate_settings(best, trials)}
    )
    tables = {of + caption: table for caption, table in settings.items()}
    failed = [trial for trial in trials if trial.get("state") in ("failed", "skipped")]
    tables |= {f"{of}Failed trials": _tabulate_failed(failed)} if failed else {}
    say = of + _describe_trials(trials, best) + _describe_as_written(outcome.get("as_written"))
    return Section("search", "Search", say, charts, tables, {f"{of}All trials": _tabulate(trials)})


def _describe_trials(trials: Sequence[Trial], best: Trial | None) -> str:
    count = {state: sum(trial.get("state") == state for trial in trials) for state in _STATES}
    seconds = sum(trial.get("seconds") or 0 for trial in trials)
    summary = f"{len(trials)} trials, {seconds:,.0f} s of training: " + ", ".join(
        f"{number} {state}" for state, number in count.items() if number
    )
    reached = (
        ""
        if best is None
        else f". Number {best['number']} is the best, {format_number(best.get('value'))} on validation, ringed below"
    )
    return f"{summary}{reached}."


def _describe_as_written(own: Mapping[str, Any] | None) -> str:
    """Say what the model with the spec's settings reached; empty if that was not stored."""
    if own is None or not _is_number(own.get("value")):
        return ""
    end = "" if own["state"] == "complete" else ", before its end"
    return f" With the settings of the spec the model reached {format_number(own['value'])}{end}."


def _draw_history(trials: Sequence[Trial], best: Trial | None) -> Chart:
    traces: list[dict[str, Any]] = []
    for state, (stroke, mark) in _STATES.items():
        of_state = [trial for trial in trials if trial.get("state") == state and _is_number(trial.get("value"))]
        if of_state:
            traces.append(_build_marks(of_state, [trial["number"] for trial in of_state], state, stroke, mark))
    steps: list[tuple[int, float]] = []
    for trial in sorted(trials, key=lambda row: row.get("number", 0)):
        if trial.get("state") == "complete" and _is_number(trial.get("value")):
            steps.append((trial["number"], max(trial["value"], steps[-1][1]) if steps else trial["value"]))
    line = {"color": MUTED, "width": 1.5, "shape": "hv"}
    traces.append(
        {"type": "scatter", "mode": "lines", "name": "best so far", "line": line, "hoverinfo": "skip",
         "x": [at for at, _ in steps], "y": [value for _, value in steps]}
    )  # fmt: skip
    figure = {
        "data": traces,
        "layout": build_layout(
            320,
            xaxis=build_axis("trial", tickformat="d"),
            yaxis=build_axis("validation next_ndcg@20", nticks=6),
            showlegend=True,
        ),
    }
    reached = "none completed" if best is None else f"best {format_number(best.get('value'))} at trial {best['number']}"
    return Chart("trials", "Trials in their order", f"{len(trials)} trials by number and value; {reached}", figure)


def _draw_importances(importances: Mapping[str, float]) -> Chart:
    rows = sorted(importances.items(), key=lambda row: row[1])
    bar = {
        "type": "bar",
        "orientation": "h",
        "x": [share for _, share in rows],
        "y": [escape_label(name) for name, _ in rows],
        "text": [format_percent(round(share, 3)) for _, share in rows],
        "textposition": "outside",
        "cliponaxis": False,
        "textfont": {"color": MUTED},
        "marker": {"color": "var(--challenger)"},
        "hoverinfo": "skip",
    }
    values = build_axis(range=[0, 1.2 * max(importances.values()) or 1], showticklabels=False, showgrid=False)
    names = build_axis(type="category", showgrid=False)
    description = "; ".join(f"{name} {format_percent(round(share, 3))}" for name, share in reversed(rows))
    figure = {"data": [bar], "layout": build_layout(60 + 30 * len(rows), xaxis=values, yaxis=names, bargap=0.35)}
    return Chart("importances", "Importance of parameters", f"Shares of the spread of values: {description}", figure)


def _select_parameters(trials: Sequence[Trial], importances: Mapping[str, float]) -> list[str]:
    """Select parameters that differ between trials, the most important first."""
    settings = [parameters.get("parameters") or {} for parameters in trials if _is_number(parameters.get("value"))]
    names = dict.fromkeys(name for parameters in settings for name in parameters)
    vary = [
        name
        for name in names
        if len({_format_value(parameters[name]) for parameters in settings if name in parameters}) > 1
    ]
    return sorted(vary, key=lambda name: -importances.get(name, 0.0))[:SLICES]


def _draw_slice(trials: Sequence[Trial], name: str, best: Trial | None) -> Chart:
    """Draw the value over one parameter: on a logarithmic axis if it spans decades, at a place each if it is a
    choice."""
    relevant = [trial for trial in trials if name in (trial.get("parameters") or {}) and _is_number(trial.get("value"))]
    values = [trial["parameters"][name] for trial in relevant]
    numeric = all(_is_number(value) for value in values)
    # What was drawn evenly has its median in the middle; what was drawn by its logarithm far below.
    spans = numeric and min(values) > 0 and statistics.median(values) < 0.25 * (min(values) + max(values))
    choices = sorted({escape_label(_format_value(value)) for value in values})
    x = (
        build_axis(type="log", dtick=1)
        if spans
        else build_axis(nticks=6)
        if numeric
        else build_axis(type="category", categoryarray=choices)
    )
    traces = []
    for state, (stroke, mark) in _STATES.items():
        of_state = [trial for trial in relevant if trial.get("state") == state]
        places = [
            trial["parameters"][name] if numeric else escape_label(_format_value(trial["parameters"][name]))
            for trial in of_state
        ]
        if of_state:
            traces.append(_build_marks(of_state, places, state, stroke, mark))
    if best is not None and best in relevant:
        place = best["parameters"][name] if numeric else escape_label(_format_value(best["parameters"][name]))
        ring = {"size": 17, "symbol": "circle-open", "color": "var(--champion)", "line": {"width": 2}}
        traces.append(
            {"type": "scatter", "mode": "markers", "x": [place], "y": [best["value"]], "marker": ring,
             "hoverinfo": "skip", "name": "best"}
        )  # fmt: skip
    figure = {"data": traces, "layout": build_layout(250, xaxis=x, yaxis=build_axis(nticks=5))}
    description = (
        "" if best is None else f"; the best trial has {_format_value((best.get('parameters') or {}).get(name))}"
    )
    return Chart(f"slice-{name}", name, f"Validation value over {name}, {len(relevant)} trials{description}", figure)


def _build_marks(trials: Sequence[Trial], places: Sequence[Any], state: str, stroke: str, mark: str) -> dict[str, Any]:
    texts = [f"trial {trial['number']}, {state}: {format_number(trial['value'])}" for trial in trials]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": state,
        "x": list(places),
        "y": [trial["value"] for trial in trials],
        "marker": {"size": 8, "color": stroke, "symbol": mark, "line": {"width": 1.4, "color": stroke}},
        "hovertext": texts,
        "hoverinfo": "text",
    }


def _tabulate_settings(best: Trial, trials: Sequence[Trial]) -> ReportTable:
    """Tabulate the best trial's settings beside those that the search began with."""
    first = min(trials, key=lambda trial: trial.get("number", 0)).get("parameters") or {}
    settings = best.get("parameters") or {}
    return ReportTable(
        ["parameter", "best", "first trial"],
        [[name, _format_value(settings[name]), _format_value(first.get(name))] for name in settings],
    )


def _tabulate_failed(trials: Sequence[Trial]) -> ReportTable:
    rows = [
        [str(trial["number"]), str(trial.get("error") or "no reason recorded"), _format_settings(trial)]
        for trial in trials
    ]
    return ReportTable(["trial", "why", "settings"], rows)


def _tabulate(trials: Sequence[Trial]) -> ReportTable:
    names = list(dict.fromkeys(name for trial in trials for name in (trial.get("parameters") or {})))
    rows = []
    for trial in sorted(trials, key=lambda row: -(row["value"] if _is_number(row.get("value")) else -math.inf)):
        value = format_number(trial["value"]) if _is_number(trial.get("value")) else NONE
        seconds = f"{trial['seconds']:,.1f}" if _is_number(trial.get("seconds")) else NONE
        settings = [_format_value((trial.get("parameters") or {}).get(name)) for name in names]
        rows.append(
            [
                str(trial["number"]),
                trial.get("state", ""),
                value,
                _format_value(trial.get("epochs")),
                seconds,
                *settings,
            ]
        )
    return ReportTable(["trial", "state", "value", "epochs", "seconds", *names], rows)


def _format_settings(trial: Trial) -> str:
    return ", ".join(f"{name} {_format_value(value)}" for name, value in (trial.get("parameters") or {}).items())


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _format_value(value: Any) -> str:
    if value is None:
        return NONE
    if isinstance(value, str):
        return value
    return f"{value:.4g}" if isinstance(value, float) else json.dumps(value)
