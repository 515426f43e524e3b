"""From the facts of a verdict or a comparison to one HTML document."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from endcap.evaluation.metrics import lower_is_better
from endcap.evaluation.verdict_text import explain_recipe, list_missing_evidence, read_decision
from endcap.report.chart import NONE, ReportTable, format_number
from endcap.report.data_section import build_data_section
from endcap.report.document import read_asset, render_document
from endcap.report.facts import ReportedValue, ReportFacts
from endcap.report.learning_section import build_learning_section
from endcap.report.metrics_section import build_coverage_section, build_metrics_section
from endcap.report.search_section import build_search_section
from endcap.report.segments_section import build_segments_section
from endcap.spec.model_summary import describe_model

TILES = ("hr", "mrr", "ndcg", "coverage")
COUNTS = (
    "sessions",
    "events",
    "unseen_events",
    "short_sessions",
    "one_moment_sessions",
    "first_sessions",
    "anonymous_sessions",
    "transitions",
    "equal_times",
)
"""Counts of a view's parts that are shown if there are any."""


@dataclass(frozen=True)
class Tile:
    """One number at the top, what it is compared with, and a mood: `good`, `bad` or none."""

    title: str
    value: str
    comparison: str
    mood: str


def render(facts: ReportFacts) -> str:
    """Render the report as one HTML document of about 5 MB, nearly all of it Plotly's script."""
    # What each of several models was searched by is told by the report of its own verdict.
    search_sections = [] if facts.comparison else [build_search_section(facts)]
    sections = [
        build_metrics_section(facts),
        build_learning_section(facts),
        build_segments_section(facts),
        build_coverage_section(facts),
        *search_sections,
        build_data_section(facts),
    ]
    return render_document(
        read_asset("comparison.html" if facts.comparison else "report.html"),
        sections,
        facts=facts,
        **({} if facts.comparison else _collect_decision(facts)),
        created=_format_moment(facts.created),
        about=_collect_about(facts),
    )


def _collect_decision(facts: ReportFacts) -> dict[str, Any]:
    """Collect the gate's decision, and the numbers beside it."""
    return {
        "word": read_decision(facts.verdict),
        "lacking": list_missing_evidence(facts.verdict),
        "recipe": explain_recipe(facts.verdict),
        "failed": [condition["text"] for condition in facts.verdict["conditions"] if not condition["passed"]],
        "opponent": facts.opponent,
        "tiles": build_tiles(facts),
    }


def build_tiles(facts: ReportFacts) -> list[Tile]:
    """Build the numbers at the top, each beside the champion's, or the best baseline's."""
    own, other = facts.values[facts.models[0]], facts.opponent
    names = [facts.at(name) for name in TILES] + ["p90_ms"]
    built = []
    for name in (name for name in names if name in own):
        against = ReportedValue(None) if other is None else facts.values[other].get(name, ReportedValue(None))
        difference = ReportedValue(None) if other is None else facts.differences[other].get(name, ReportedValue(None))
        comparison, mood = "", ""
        if against.value is not None and difference.value is not None:
            change = (
                f"{100 * difference.value / against.value:+.1f} %" if against.value else format_number(difference.value)
            )
            comparison = f"{change.replace('-', chr(0x2212))} against {other}"
            good = -difference.sign if lower_is_better(name) else difference.sign
            mood = {1: "good", -1: "bad", 0: ""}[good]
            comparison += ", no clear difference" if difference.lower is not None and not good else ""
        digits = 2 if name.endswith("_ms") else 4
        built.append(Tile(name, format_number(own[name].value, digits), comparison, mood))
    return built


def _collect_about(facts: ReportFacts) -> dict[str, ReportTable]:
    """Collect settings, counts and lineage, by caption."""
    model = facts.trained.get("model", {})
    settings = [[name, value if isinstance(value, str) else json.dumps(value)] for name, value in model.items()]
    settings_found = facts.trained.get("found") or {}
    settings += [[f"found: {name}", json.dumps(value)] for name, value in settings_found.items()]
    counts = facts.verdict.get("counts", {})
    parts = [name for name in ("all", "training", "train", "validation", "test") if name in counts]
    keys = [key for key in COUNTS if any(counts[name].get(key) for name in parts)]
    rows = [[name, *(f"{counts[name][key]:,}" if key in counts[name] else NONE for key in keys)] for name in parts]
    tables = {
        "Models": _tabulate_models(facts),
        "Model": ReportTable(["parameter", "value"], settings),
        "Parts": ReportTable(["part", *(key.replace("_", " ") for key in keys)], rows),
        "Lineage": ReportTable(["what", "which"], [list(pair) for pair in facts.lineage.items()]),
    }
    return {caption: table for caption, table in tables.items() if table.rows}


def _tabulate_models(facts: ReportFacts) -> ReportTable:
    """Tabulate each model with the settings that differ from the defaults."""
    known = facts.verdict.get("models", {})
    documents = {name: known[name] for name in facts.models if name in known}
    return ReportTable(["label", "model"], [[label, describe_model(model, None)] for label, model in documents.items()])


def _format_moment(created: str) -> str:
    try:
        return f"{datetime.fromisoformat(created):%Y-%m-%d %H:%M} UTC"
    except ValueError:
        return created
