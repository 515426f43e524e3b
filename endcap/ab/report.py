"""An A/B test as one HTML file, from the entries of its log alone."""

from __future__ import annotations

import json
import math
from importlib.resources import files

from endcap.ab.charts import draw_best, draw_gain, draw_lift, draw_shares, list_versions
from endcap.ab.gains import trace_gain
from endcap.ab.history import AbHistory, AbStep
from endcap.ab.messages import list_shares
from endcap.ab.screen import describe_wait, find_effect
from endcap.experiments.ab_state import AbState
from endcap.experiments.decision_parts import format_change, format_level, format_share
from endcap.experiments.findings import SAMPLE_RATIO_BUDGET
from endcap.report.chart import NONE, ReportTable, Section
from endcap.report.document import render_document
from endcap.rollout.history import Mood, format_minute, format_span
from endcap.rollout.report import MARKS, OPEN_STEPS, format_numbers, put_minus, read_style
from endcap.rollout.screen import judge_guardrail


def render_test(history: AbHistory) -> str:
    """Render a test as one HTML document that needs no network. About 5 MB, nearly all of it Plotly's script."""
    steps = history.steps[::-1]
    return render_document(
        files("endcap.ab").joinpath("assets", "ab.html").read_text(encoding="utf-8"),
        _build_sections(history),
        style=read_style(),
        history=history,
        state=history.state,
        mood=_judge_state(history.state),
        mark=MARKS[_judge_state(history.state)],
        marks=MARKS,
        moment=format_minute,
        change=_describe_change,
        tiles=_build_tiles(history),
        waits=[describe_wait(history)],
        open_steps=steps[:OPEN_STEPS],
        older_steps=steps[OPEN_STEPS:],
        numbers=format_numbers,
        about=_collect_about(history),
    )


def _build_sections(history: AbHistory) -> list[Section]:
    metric = history.policy.rollout.deciding_metric.name
    gain, lift, best = draw_gain(trace_gain(history), metric), draw_lift(history, metric), draw_best(history)
    return [
        Section("shares", "Shares", charts=[draw_shares(history), *([best] if best else [])]),
        Section(
            "effects",
            "What shoppers do",
            "Each challenger against the champion, at the same moments. The bands of the table hold at every look "
            "together. A challenger whose whole band lies below 0 leaves.",
            [lift] if lift else [],
            {"At the newest look": _tabulate_effects(history)},
        ),
        Section(
            "gain",
            "What moving shoppers has won",
            charts=[gain] if gain else [],
            missing="" if gain else "Nothing is known yet, or nobody has moved.",
        ),
        Section("moves", "Epochs", tables={"By epoch": _tabulate_epochs(history)}),
        Section(
            "trust",
            "What the numbers rest on",
            tables={caption: table for caption, table in _tabulate_trust(history).items() if table.rows},
            missing="" if history.evidence else "There was no look yet.",
        ),
    ]


def _build_tiles(history: AbHistory) -> list[tuple[str, str, str]]:
    """Build the numbers at the top: a title, a value, and what it means."""
    state, now = history.state, history.last.time
    shares = list_shares(state)
    leader = max(shares, key=lambda version: shares[version])
    tiles = [
        ("largest share", format_share(shares[leader]), f"version {leader}"),
        ("duration", format_span((now - state.created).total_seconds()), f"from {format_minute(state.created)} UTC"),
        ("epoch", str(state.epoch + 1), f"each {format_span(history.policy.ab.epoch.total_seconds())}"),
    ]
    if history.best:
        best = max(history.best, key=lambda version: history.best[version])
        tiles.append(("most probably best", f"version {best}", format_share(round(history.best[best], 4))))
    points = trace_gain(history)
    if points and math.isfinite(points[-1].gain.lower):
        gain = points[-1].gain
        band = put_minus(f"{gain.lower:+,.0f} to {gain.upper:+,.0f}")
        tiles.append(("won against an equal split", put_minus(f"{gain.outcomes:+,.0f}"), band))
    return tiles


def _tabulate_effects(history: AbHistory) -> ReportTable:
    state = history.state
    evidence = history.evidence
    shares = list_shares(state)
    rows = []
    for version in list_versions(state):
        challenger = state.find_challenger(version)
        effect = None if challenger is None else find_effect(history, version)
        judged = None
        if evidence is not None and challenger is not None:
            known = evidence.find(challenger.arm)
            entries = known.guardrails if known is not None else ()
            budgets = history.policy.rollout.guardrail_budgets
            judged = [f"{each.guardrail}: {judge_guardrail(each, budgets.get(each.guardrail))}" for each in entries]
        rows.append(
            [
                f"version {version}",
                _describe_part(state, version),
                format_share(shares.get(version, 0.0)),
                format_share(round(history.best[version], 4)) if version in history.best else NONE,
                NONE if effect is None else put_minus(format_change(effect.effect)),
                NONE
                if effect is None
                else put_minus(f"{format_change(effect.lower)} to {format_change(effect.upper)}"),
                NONE if effect is None else f"{effect.shoppers.get(challenger.arm if challenger else 'stable', 0):,}",
                ", ".join(judged or []) or NONE,
            ]
        )
    head = ["version", "is", "share", "best", "effect", "band at every look", "shoppers met", "guardrails"]
    return ReportTable(head, rows)


def _describe_part(state: AbState, version: str) -> str:
    challenger = state.find_challenger(version)
    if challenger is None:
        return "champion"
    if challenger.left:
        return f"left: {challenger.left}"
    if state.is_over:
        return "serves everyone" if state.winner == version else "took part"
    return "takes part"


def _tabulate_epochs(history: AbHistory) -> ReportTable:
    versions = list_versions(history.state)
    rows = [
        [
            str(epoch.number) if epoch.is_over else f"{epoch.number} (runs)",
            format_minute(epoch.begins),
            *(format_share(epoch.shares.get(version, 0.0)) for version in versions),
            ", ".join(f"{version}: {format_share(round(chance, 4))}" for version, chance in epoch.best.items()) or NONE,
        ]
        for epoch in history.epochs
    ]
    return ReportTable(["epoch", "begins (UTC)", *(f"version {version}" for version in versions), "best"], rows)


def _tabulate_trust(history: AbHistory) -> dict[str, ReportTable]:
    evidence, policy = history.evidence, history.policy.rollout
    if evidence is None:
        return {}
    newest = NONE if evidence.impressions_until is None else f"{format_minute(evidence.impressions_until)} UTC"
    most = f"less than {1 / SAMPLE_RATIO_BUDGET:,.0f}"
    checks = [["newest impression", newest, "recent"]]
    checks += [[f"{source} cannot be read", reason, "no fault"] for source, reason in sorted(evidence.problems.items())]
    for each in evidence.challengers:
        name = f"version {each.version}: "
        checks += [
            [f"{name}exposures whose arm is not that of the layout", f"{each.mismatches:,}", "0"],
            [f"{name}e-value against shoppers coming as the layout says", f"{each.sample_ratio:.3g}", most],
            [f"{name}shoppers seen in both arms", format_share(each.crossed), f"at most {policy.max_crossed:.0%}"],
        ]
    guardrails = [
        [
            f"version {each.version}: {entry.guardrail}",
            judge_guardrail(entry, policy.guardrail_budgets.get(entry.guardrail)),
            *(format_level(policy, entry.guardrail, value) for value in (entry.observed, entry.reference)),
            f"{entry.events:,}",
        ]
        for each in evidence.challengers
        for entry in each.guardrails
    ]
    refusals = [[reason, f"{count:,}"] for reason, count in sorted(evidence.refusals.items()) if count]
    return {
        "Checks at the newest look": ReportTable(["check", "is", "should be"], checks),
        "Guardrails at the newest look": ReportTable(
            ["guardrail", "stands", "observed", "limit", "requests"], guardrails
        ),
        "Not counted": ReportTable(["reason", "reports"], refusals),
    }


def _collect_about(history: AbHistory) -> dict[str, ReportTable]:
    """Collect policy and lineage, by caption."""
    state = history.state
    rows = [
        [f"{section}.{key}", value if isinstance(value, str) else json.dumps(value)]
        for section, keys in history.policy.to_json().items()
        for key, value in keys.items()
    ]
    first, last = history.entries[0], history.last
    lineage = [
        ["champion", f"version {state.stable_version}, {state.stable_package}"],
        *([f"{each.arm}", f"version {each.version}, {each.package}"] for each in state.challengers),
        ["entries of the log", f"{first.number} to {last.number}"],
        ["digest of the policy", last.policy],
        ["layout", state.layout.layout_id],
        ["release of Endcap", last.release],
    ]
    return {"A/B test": ReportTable(["what", "which"], lineage), "Policy": ReportTable(["key", "value"], rows)}


def _describe_change(step: AbStep) -> str:
    shares = list_shares(step.last.after)
    return ", ".join(f"{version}: {format_share(share)}" for version, share in shares.items())


def _judge_state(state: AbState) -> Mood:
    return {"promoted": "good", "holding": "warn"}.get(state.phase, "plain")  # type: ignore[return-value]
