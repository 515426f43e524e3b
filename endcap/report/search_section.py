"""What a search of settings found: its trials, which parameters mattered, and what failed."""

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
    """Trials in their order, the value over each important parameter, importances, and the settings of the best."""
    found = facts.trained.get("search") or {}
    searches = {label: one for label, one in found.get("members", {"": found}).items() if one.get("trials")}
    parts = [_part(label, one) for label, one in searches.items()]
    if not parts:
        return Section("search", "Search", missing="No search: the model was trained with the settings of its spec.")
    return Section(
        "search",
        "Search",
        " ".join([*(part.say for part in parts), *_left_out(found), "The search saw validation data only."]),
        [chart for part in parts for chart in part.charts],
        {caption: table for part in parts for caption, table in part.tables.items()},
        {caption: table for part in parts for caption, table in part.folded.items()},
    )


def _left_out(found: Mapping[str, Any]) -> list[str]:
    """A blend's members that the search could not use."""
    return [f"{label} is left out of the blend: {why}." for label, why in (found.get("left_out") or {}).items()]


def _part(label: str, found: Mapping[str, Any]) -> Section:
    """The search of a model, or of one of a blend's members; its label then stands in all titles and names."""
    trials: Sequence[Trial] = found["trials"]
    best = next((one for one in trials if one.get("number") == found.get("best")), None)
    importances = {name: share for name, share in (found.get("importances") or {}).items() if share is not None}
    charts = [_history(trials, best)]
    charts += [_importances(importances)] if importances else []
    charts += [_slice(trials, name, best) for name in _drawn(trials, importances)]
    of = f"{label}: " if label else ""
    charts = [
        replace(chart, name=f"{label}-{chart.name}", title=of + chart.title) if label else chart for chart in charts
    ]
    settings = {} if best is None else {f"Settings of the best trial, number {best['number']}": _settings(best, trials)}
    tables = {of + caption: table for caption, table in settings.items()}
    failed = [one for one in trials if one.get("state") in ("failed", "skipped")]
    tables |= {f"{of}Failed trials": _failed(failed)} if failed else {}
    say = of + _say(trials, best) + _as_written(found.get("as_written"))
    return Section("search", "Search", say, charts, tables, {f"{of}All trials": _table(trials)})


def _say(trials: Sequence[Trial], best: Trial | None) -> str:
    count = {state: sum(one.get("state") == state for one in trials) for state in _STATES}
    seconds = sum(one.get("seconds") or 0 for one in trials)
    told = f"{len(trials)} trials, {seconds:,.0f} s of training: " + ", ".join(
        f"{number} {state}" for state, number in count.items() if number
    )
    reached = (
        ""
        if best is None
        else f". Number {best['number']} is the best, {format_number(best.get('value'))} on validation, ringed below"
    )
    return f"{told}{reached}."


def _as_written(own: Mapping[str, Any] | None) -> str:
    """What the model as the spec has it reached; nothing where that was not noted."""
    if own is None or not _real(own.get("value")):
        return ""
    end = "" if own["state"] == "complete" else ", before its end"
    return f" As the spec has it the model reached {format_number(own['value'])}{end}."


def _history(trials: Sequence[Trial], best: Trial | None) -> Chart:
    traces: list[dict[str, Any]] = []
    for state, (stroke, mark) in _STATES.items():
        of_state = [one for one in trials if one.get("state") == state and _real(one.get("value"))]
        if of_state:
            traces.append(_marks(of_state, [one["number"] for one in of_state], state, stroke, mark))
    steps: list[tuple[int, float]] = []
    for one in sorted(trials, key=lambda trial: trial.get("number", 0)):
        if one.get("state") == "complete" and _real(one.get("value")):
            steps.append((one["number"], max(one["value"], steps[-1][1]) if steps else one["value"]))
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


def _importances(importances: Mapping[str, float]) -> Chart:
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
    told = "; ".join(f"{name} {format_percent(round(share, 3))}" for name, share in reversed(rows))
    figure = {"data": [bar], "layout": build_layout(60 + 30 * len(rows), xaxis=values, yaxis=names, bargap=0.35)}
    return Chart("importances", "Importance of parameters", f"Shares of the spread of values: {told}", figure)


def _drawn(trials: Sequence[Trial], importances: Mapping[str, float]) -> list[str]:
    """Parameters that differ between trials, the most important first."""
    settings = [one.get("parameters") or {} for one in trials if _real(one.get("value"))]
    names = dict.fromkeys(name for one in settings for name in one)
    vary = [name for name in names if len({_text(one[name]) for one in settings if name in one}) > 1]
    return sorted(vary, key=lambda name: -importances.get(name, 0.0))[:SLICES]


def _slice(trials: Sequence[Trial], name: str, best: Trial | None) -> Chart:
    """Value over one parameter: on a logarithmic axis where it spans decades, a place each where it is a choice."""
    there = [one for one in trials if name in (one.get("parameters") or {}) and _real(one.get("value"))]
    values = [one["parameters"][name] for one in there]
    numeric = all(_real(value) for value in values)
    # What was drawn evenly has its median in the middle; what was drawn by its logarithm far below.
    spans = numeric and min(values) > 0 and statistics.median(values) < 0.25 * (min(values) + max(values))
    choices = sorted({escape_label(_text(value)) for value in values})
    x = (
        build_axis(type="log", dtick=1)
        if spans
        else build_axis(nticks=6)
        if numeric
        else build_axis(type="category", categoryarray=choices)
    )
    traces = []
    for state, (stroke, mark) in _STATES.items():
        of_state = [one for one in there if one.get("state") == state]
        places = [
            one["parameters"][name] if numeric else escape_label(_text(one["parameters"][name])) for one in of_state
        ]
        if of_state:
            traces.append(_marks(of_state, places, state, stroke, mark))
    if best is not None and best in there:
        place = best["parameters"][name] if numeric else escape_label(_text(best["parameters"][name]))
        ring = {"size": 17, "symbol": "circle-open", "color": "var(--champion)", "line": {"width": 2}}
        traces.append(
            {"type": "scatter", "mode": "markers", "x": [place], "y": [best["value"]], "marker": ring,
             "hoverinfo": "skip", "name": "best"}
        )  # fmt: skip
    figure = {"data": traces, "layout": build_layout(250, xaxis=x, yaxis=build_axis(nticks=5))}
    told = "" if best is None else f"; the best trial has {_text((best.get('parameters') or {}).get(name))}"
    return Chart(f"slice-{name}", name, f"Validation value over {name}, {len(there)} trials{told}", figure)


def _marks(trials: Sequence[Trial], places: Sequence[Any], state: str, stroke: str, mark: str) -> dict[str, Any]:
    texts = [f"trial {one['number']}, {state}: {format_number(one['value'])}" for one in trials]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": state,
        "x": list(places),
        "y": [one["value"] for one in trials],
        "marker": {"size": 8, "color": stroke, "symbol": mark, "line": {"width": 1.4, "color": stroke}},
        "hovertext": texts,
        "hoverinfo": "text",
    }


def _settings(best: Trial, trials: Sequence[Trial]) -> ReportTable:
    """The best trial's settings beside those that the search began with."""
    first = min(trials, key=lambda one: one.get("number", 0)).get("parameters") or {}
    found = best.get("parameters") or {}
    return ReportTable(
        ["parameter", "best", "first trial"], [[name, _text(found[name]), _text(first.get(name))] for name in found]
    )


def _failed(trials: Sequence[Trial]) -> ReportTable:
    rows = [[str(one["number"]), str(one.get("error") or "no reason told"), _inline(one)] for one in trials]
    return ReportTable(["trial", "why", "settings"], rows)


def _table(trials: Sequence[Trial]) -> ReportTable:
    names = list(dict.fromkeys(name for one in trials for name in (one.get("parameters") or {})))
    rows = []
    for one in sorted(trials, key=lambda trial: -(trial["value"] if _real(trial.get("value")) else -math.inf)):
        value = format_number(one["value"]) if _real(one.get("value")) else NONE
        seconds = f"{one['seconds']:,.1f}" if _real(one.get("seconds")) else NONE
        settings = [_text((one.get("parameters") or {}).get(name)) for name in names]
        rows.append([str(one["number"]), one.get("state", ""), value, _text(one.get("epochs")), seconds, *settings])
    return ReportTable(["trial", "state", "value", "epochs", "seconds", *names], rows)


def _inline(trial: Trial) -> str:
    return ", ".join(f"{name} {_text(value)}" for name, value in (trial.get("parameters") or {}).items())


def _real(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _text(value: Any) -> str:
    if value is None:
        return NONE
    if isinstance(value, str):
        return value
    return f"{value:.4g}" if isinstance(value, float) else json.dumps(value)
