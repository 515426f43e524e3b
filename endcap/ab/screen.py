"""Where an A/B test stands, on one screen of 80 columns. Plain ASCII, so that it is whole in a log file too."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Sequence

from endcap.ab.history import AbHistory, AbStep
from endcap.ab.messages import list_shares
from endcap.experiments.decision_parts import format_share
from endcap.experiments.evidence import EffectEvidence
from endcap.rollout.history import format_minute, format_span
from endcap.rollout.screen import WIDTH, format_band_numbers, make_plain
from endcap.spec.base import format_duration
from endcap.tables import format_text_table

_STEPS = 4
_BAR = 20


def format_screen(history: AbHistory) -> str:
    """Return a test's status as text: lines of at most 80 characters."""
    lines = [
        *_format_head(history),
        "",
        *_format_versions(history),
        *_format_doubts(history),
        *_format_steps(history.steps[-_STEPS:]),
        *_wrap("waits for", describe_wait(history)),
    ]
    return "\n".join(make_plain(line).rstrip() for line in lines)


def describe_wait(history: AbHistory) -> str:
    """Return in a sentence what the test waits for."""
    state, ab = history.state, history.policy.ab
    if state.is_over:
        return f"Nothing. To begin another: endcap ab start {state.recommender} VERSION"
    ends = state.epoch_began + ab.epoch
    left = format_span(max(0.0, (ends - history.last.time).total_seconds()))
    latest = format_minute(state.created + ab.longest)
    early = f" It may end after epoch {ab.min_epochs}," if ab.at_end == "promote" else " It"
    return (
        f"The end of epoch {state.epoch + 1}, in {left}. Then shares may move.{early} "
        f"{'and ' if ab.at_end == 'promote' else ''}ends at {latest} UTC at the latest."
    )


def format_step(step: AbStep) -> str:
    """Return a step as one line: when, what, why, and who meets what."""
    shares = ", ".join(f"{version} {format_share(share)}" for version, share in list_shares(step.last.after).items())
    count = f" ({step.looks:,} looks)" if step.looks > 1 else ""
    return f"{format_minute(step.last.time)}  {step.title:8} {step.reason}{count}  {shares}"


def _format_head(history: AbHistory) -> Iterator[str]:
    state, policy, now = history.state, history.policy, history.last.time
    challengers = ", ".join(each.version for each in state.challengers)
    yield f"{state.recommender}: A/B test of {challengers} against {state.stable_version} is {state.phase}"[:WIDTH]
    lasts = format_span((now - state.created).total_seconds())
    yield f"  since      {format_minute(state.created)} UTC, {lasts}"
    metric = policy.rollout.deciding_metric.name
    yield f"  epoch      {state.epoch + 1}, each {format_duration(policy.ab.epoch)}; {metric} decides"
    looked = "never" if state.looked is None else f"{format_minute(state.looked)} UTC"
    yield f"  last look  {looked}, {len(history.looks):,} in all"


def _format_versions(history: AbHistory) -> Iterator[str]:
    state, best = history.state, history.best
    metric = history.policy.rollout.deciding_metric.name
    shares = list_shares(state)
    rows = []
    for version, left in [(state.stable_version, ""), *((each.version, each.left) for each in state.challengers)]:
        effect = find_effect(history, version)
        known = effect is not None and (math.isfinite(effect.lower) or math.isfinite(effect.upper))
        effect_text = format_band_numbers(effect) if effect is not None and known else "not known yet"
        if version == state.stable_version:
            effect_text = "the champion"
        rows.append(
            [
                version,
                _draw_share(shares.get(version, 0.0)),
                format_share(round(best[version], 3)) if version in best else "-",
                f"left: {left}" if left else effect_text,
            ]
        )
    head = ["version", "share", "best", f"{metric} against {state.stable_version}"]
    yield from (f"  {line}"[:WIDTH] for line in format_text_table(head, rows, width=WIDTH - 2).splitlines())


def find_effect(history: AbHistory, version: str) -> EffectEvidence | None:
    """Return the newest effect of a challenger on the deciding metric; None if nothing is known."""
    name = history.policy.rollout.deciding_metric.name
    for entry in reversed(history.looks):
        for challenger in entry.evidence.challengers if entry.evidence else ():
            if challenger.version == version:
                return next((effect for effect in challenger.effects if effect.metric == name), None)
    return None


def list_doubts(history: AbHistory) -> list[str]:
    """Return in sentences what makes the newest evidence doubtful, and what was not counted."""
    evidence = history.evidence
    if evidence is None:
        return []
    doubts = [f"{source} cannot be read: {reason}" for source, reason in sorted(evidence.problems.items())]
    for each in evidence.challengers:
        if each.mismatches:
            doubts.append(f"{each.mismatches:,} exposures name another arm than version {each.version}'s layout gives.")
        if each.crossed > history.policy.rollout.max_crossed:
            doubts.append(f"{format_share(each.crossed)} of the shoppers were seen in both arms ({each.version}).")
    refused = ", ".join(f"{count:,} {reason}" for reason, count in sorted(evidence.refusals.items()) if count)
    return [*doubts, f"Not counted: {refused}"] if refused else doubts


def _format_doubts(history: AbHistory) -> Iterator[str]:
    for sentence in list_doubts(history):
        yield from _wrap("doubts", sentence)


def _format_steps(steps: Sequence[AbStep]) -> Iterator[str]:
    yield ""
    yield "  last decisions"
    for step in steps:
        yield f"    {format_step(step)}"[:WIDTH]
    if steps:
        yield from textwrap.wrap(steps[-1].sentence, WIDTH - 1, initial_indent=" " * 6, subsequent_indent=" " * 6)


def _wrap(label: str, sentence: str) -> Iterator[str]:
    yield ""
    start = f"  {label:11}"
    yield from textwrap.wrap(
        sentence, WIDTH - 1, initial_indent=start, subsequent_indent=" " * len(start), break_on_hyphens=False
    )


def _draw_share(share: float) -> str:
    filled = 0 if share <= 0 else max(1, round(_BAR * share))
    return f"[{'#' * filled}{'-' * (_BAR - filled)}] {format_share(share):>7}"
