"""A rollout as one HTML file, from the entries of its log alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Protocol

from endcap.experiments.decision_parts import Number, format_change, format_level, format_share
from endcap.experiments.evidence import EffectEvidence
from endcap.experiments.findings import SAMPLE_RATIO_BUDGET
from endcap.experiments.rollout_state import GUARDED, RolloutState
from endcap.report.chart import NONE, ReportTable, Section
from endcap.report.document import render_document
from endcap.rollout.charts import draw_effects, draw_guardrails, draw_share
from endcap.rollout.history import HistoryStep, Mood, RolloutHistory, format_minute, format_span
from endcap.rollout.lift import ChampionLift
from endcap.rollout.lift_screen import build_lift_section
from endcap.rollout.outlook import describe_wait
from endcap.rollout.screen import judge_guardrail
from endcap.spec.base import format_duration

OPEN_STEPS = 30
"""The newest steps that the page shows open. Older ones open on a click."""
MARKS: dict[Mood, str] = {"good": "✓", "bad": "\N{MULTIPLICATION SIGN}", "warn": "!", "plain": "·"}


class NumberedStep(Protocol):
    """A step of a log that rests on numbers."""

    @property
    def numbers(self) -> Mapping[str, Number]:
        """By their names."""


def render_rollout(history: RolloutHistory, lift: ChampionLift | None = None) -> str:
    """Render a rollout as one HTML document that needs no network.

    Parameters
    ----------
    history
        The rollout.
    lift
        What the champion brings over popularity; None: there is no baseline.

    Returns
    -------
    str
        About 5 MB, nearly all of it Plotly's script.
    """
    steps = history.steps[::-1]
    return render_document(
        _read_asset("rollout.html"),
        [*_build_sections(history), build_lift_section(lift)],
        style=read_style(),
        history=history,
        state=history.state,
        mood=_judge_state(history.state),
        mark=MARKS[_judge_state(history.state)],
        marks=MARKS,
        moment=format_minute,
        change=_describe_change,
        tiles=_build_tiles(history),
        waits=describe_wait(history),
        open_steps=steps[:OPEN_STEPS],
        older_steps=steps[OPEN_STEPS:],
        numbers=format_numbers,
        about=_collect_about(history),
    )


def _build_sections(history: RolloutHistory) -> list[Section]:
    effects, guardrails = list(draw_effects(history)), list(draw_guardrails(history))
    return [
        Section("share", "Share", charts=[draw_share(history)]),
        Section(
            "effects",
            "What shoppers do",
            "The line is the effect of the version, and the band holds at every look together. The share rises, and "
            "the version is promoted, by the side of the band that is worse for shoppers. It is taken back if the "
            "whole band lies on that side of 0.",
            effects,
            {"At the newest look": _tabulate_effects(history)} if effects else {},
            missing="" if effects else "Nothing is known of any metric yet.",
        ),
        Section(
            "guardrails",
            "Guardrails",
            "What the version's requests do, and what is allowed. A guardrail breaks when its e-value reaches what is "
            "needed, and not when one look lies above the limit.",
            guardrails,
            {"Guardrails at the newest look": _tabulate_guardrails(history)} if guardrails else {},
            missing="" if guardrails else "No request has been seen for a guardrail yet.",
        ),
        Section(
            "trust",
            "What the numbers rest on",
            tables={caption: table for caption, table in _tabulate_trust(history).items() if table.rows},
            missing="" if history.evidence else "There was no look yet.",
        ),
    ]


def _build_tiles(history: RolloutHistory) -> list[tuple[str, str, str]]:
    """Build the numbers at the top: a title, a value, and what it means."""
    state, policy, evidence = history.state, history.policy, history.evidence
    start = state.started or state.created
    tiles = [
        ("share", format_share(state.share), f"since {format_minute(state.stepped)}"),
        ("duration", format_span((history.last.time - start).total_seconds()), f"from {format_minute(start)} UTC"),
    ]
    deciding = policy.deciding_metric.name
    effect = next((entry for entry in (evidence.effects if evidence else ()) if entry.metric == deciding), None)
    if effect is not None:
        arm = evidence.arm if evidence else ""
        tiles.append((f"effect on {deciding}", put_minus(format_change(effect.effect)), _format_band(effect)))
        tiles.append(("shoppers met", f"{effect.shoppers.get(arm, 0):,}", f"{effect.exposures.get(arm, 0):,} rankings"))
    tiles.append(("looks", f"{len(history.looks):,}", f"one each {format_duration(policy.look_every)}"))
    return tiles


def _tabulate_effects(history: RolloutHistory) -> ReportTable:
    evidence, budgets = history.evidence, history.policy.metric_budgets
    rows = []
    for effect in evidence.effects if evidence else ():
        until = NONE if effect.complete_until is None else format_minute(effect.complete_until)
        budget = budgets.get(effect.metric)
        arms = [f"{arm}: {count:,}" for arm, count in sorted(effect.shoppers.items())]
        rankings = [f"{arm}: {count:,}" for arm, count in sorted(effect.exposures.items())]
        outcomes = [f"{arm}: {count:,.6g}" for arm, count in sorted(effect.outcomes.items())]
        rows.append(
            [
                effect.metric,
                put_minus(format_change(effect.effect)),
                _format_band(effect),
                NONE if budget is None else format_share(budget),
                f"{effect.stable_rate:.4g}",
                ", ".join(arms),
                ", ".join(rankings),
                ", ".join(outcomes),
                until,
            ]
        )
    head = ["metric", "effect", "band", "error", "stable rate", "shoppers", "rankings", "outcomes", "complete until"]
    return ReportTable(head, rows)


def _tabulate_guardrails(history: RolloutHistory) -> ReportTable:
    evidence, budgets = history.evidence, history.policy.guardrail_budgets
    rows = []
    for entry in evidence.guardrails if evidence else ():
        budget = budgets.get(entry.guardrail)
        needed = NONE if budget is None else f"{1 / budget:,.0f}"
        levels = [format_level(history.policy, entry.guardrail, value) for value in (entry.observed, entry.reference)]
        cells = [*levels, f"{entry.e_value:.3g}", needed, f"{entry.events:,}"]
        rows.append([entry.guardrail, judge_guardrail(entry, budget), *cells])
    return ReportTable(["guardrail", "stands", "observed", "limit", "e-value", "needed", "requests"], rows)


def _tabulate_trust(history: RolloutHistory) -> dict[str, ReportTable]:
    evidence, policy = history.evidence, history.policy
    if evidence is None:
        return {}
    newest = NONE if evidence.impressions_until is None else f"{format_minute(evidence.impressions_until)} UTC"
    most = f"less than {1 / SAMPLE_RATIO_BUDGET:,.0f}"
    checks = [
        ["exposures whose arm is not that of salt and shopper", f"{evidence.mismatches:,}", "0"],
        ["e-value against shoppers coming as the split says", f"{evidence.sample_ratio:.3g}", most],
        ["shoppers seen in both arms", format_share(evidence.crossed), f"at most {format_share(policy.max_crossed)}"],
        ["newest impression", newest, f"at most {format_duration(policy.max_silence)} old"],
        *([f"{source} cannot be read", reason, "no fault"] for source, reason in sorted(evidence.problems.items())),
    ]
    refusals = [[reason, f"{count:,}"] for reason, count in sorted(evidence.refusals.items()) if count]
    return {
        "Checks at the newest look": ReportTable(["check", "is", "should be"], checks),
        "Not counted": ReportTable(["reason", "reports"], refusals),
    }


def _collect_about(history: RolloutHistory) -> dict[str, ReportTable]:
    """Collect policy and lineage, by caption."""
    state, policy = history.state, history.policy
    dumped = policy.model_dump(mode="json")
    rows = [[key, value if isinstance(value, str) else json.dumps(value)] for key, value in dumped.items()]
    first, last = history.entries[0], history.last
    lineage = [
        ["version", state.version],
        ["package", state.package],
        ["previous version", state.previous_version],
        ["previous package", state.previous_package],
        ["refreshed versions", ", ".join(state.refreshed) or NONE],
        ["entries of the log", f"{first.number} to {last.number}"],
        ["digest of the policy", last.policy],
        ["release of Endcap", last.release],
    ]
    return {"Rollout": ReportTable(["what", "which"], lineage), "Policy": ReportTable(["key", "value"], rows)}


def _judge_state(state: RolloutState) -> Mood:
    if state.phase in GUARDED:
        return "good"
    if state.is_over:
        return "bad"
    return "plain" if state.phase in ("rising", "shadow") else "warn"


def format_numbers(step: NumberedStep) -> list[tuple[str, str]]:
    """Return the numbers that a step rests on, by their names."""

    def show(value: float | str | None) -> str:
        if value is None:
            return "not known"
        return put_minus(f"{value:.4g}") if isinstance(value, float) else str(value)

    return [(name.replace("_", " "), show(value)) for name, value in step.numbers.items()]


def _format_band(effect: EffectEvidence) -> str:
    return put_minus(f"{format_change(effect.lower)} to {format_change(effect.upper)}")


def _describe_change(step: HistoryStep) -> str:
    before, after = map(format_share, step.shares)
    return after if before == after else f"{before} → {after}"


def put_minus(text: str) -> str:
    """Return a text with the minus sign in place of hyphens."""
    return text.replace("-", "\N{MINUS SIGN}")


def read_style() -> str:
    """Return the CSS that pages of rollouts and A/B tests add to that of all documents."""
    return _read_asset("rollout.css")


def _read_asset(name: str) -> str:
    return files("endcap.rollout").joinpath("assets", name).read_text(encoding="utf-8")
