"""From facts to one HTML file that needs no server, no network and no fonts of its own.

The page's policy forbids every request, and runs no script but its own two, which it names by their hashes. So a title
that looks like a script stays text. Links within the page are followed by script, because Kubeflow Pipelines shows the
page in a sandboxed frame whose addresses are not its own.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib.resources import files
from typing import Any

from endcap.evaluation.metrics import lower_is_better
from endcap.evaluation.verdict_text import explain_recipe, list_missing_evidence, read_decision
from endcap.report.chart import NONE, ReportTable, format_number
from endcap.report.data_section import build_data_section
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
ASSETS = ("report.html", "comparison.html", "report.css", "report.js")


@dataclass(frozen=True)
class Tile:
    """One number at the top, what it is compared with, and a mood: `good`, `bad` or none."""

    title: str
    value: str
    comparison: str
    mood: str


def render(facts: ReportFacts) -> str:
    """Render the report as one HTML document of about 5 MB, nearly all of it Plotly's script."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined

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
    charts = {chart.name: chart.figure for section in sections for chart in section.charts}
    scripts = [_read_plotly(), read_asset("report.js")]
    environment = Environment(
        loader=FunctionLoader(read_asset),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("comparison.html" if facts.comparison else "report.html")
    return page.render(
        facts=facts,
        **({} if facts.comparison else _collect_decision(facts)),
        created=_format_moment(facts.created),
        about=_collect_about(facts),
        sections=sections,
        style=read_asset("report.css"),
        scripts=scripts,
        policy=_build_policy(scripts),
        charts=_embed_charts(charts),
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


def read_asset(name: str) -> str:
    """Read one of the page's own files."""
    return files("endcap.report").joinpath("assets", name).read_text(encoding="utf-8")


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


@cache
def _read_plotly() -> str:
    from plotly.offline import get_plotlyjs

    # Inside a script element, these would end it or begin a comment.
    script: str = get_plotlyjs()
    return script.replace("\r\n", "\n").replace("</script", "<\\/script").replace("<!--", "<\\!--").strip()


def _build_policy(scripts: Sequence[str]) -> str:
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" for script in scripts
    )
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; form-action 'none'"
    )


def _embed_charts(charts: dict[str, Any]) -> str:
    """Encode charts as JSON that may stand in an element of the page: no character of it can end that element."""
    text = json.dumps(charts, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
