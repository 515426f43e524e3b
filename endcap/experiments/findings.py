"""What is wrong at a look, whoever looks: a reason code, a sentence and its numbers, without what follows from it.

A rollout and an A/B test look for the same faults. What each does about them is in its own rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from endcap.experiments.decision_parts import (
    Number,
    find_best,
    format_change,
    format_level,
    format_seconds,
    format_share,
    list_numbers,
)
from endcap.experiments.evidence import EffectEvidence, GuardrailEvidence
from endcap.spec.base import format_duration
from endcap.spec.rollout import RolloutSpec

SAMPLE_RATIO_BUDGET = 0.001
"""How often shoppers who come to the arms as the split says may look as if they did not."""
_CLOCK_TOLERANCE = timedelta(minutes=1)
"""Two machines' clocks may differ by this."""


class Finding(NamedTuple):
    """Something that is wrong, or shown.

    Attributes
    ----------
    reason
        A code of `docs/rollout-reference.md` or `docs/ab-reference.md`.
    sentence
        For a person.
    numbers
        What it rests on.
    """

    reason: str
    sentence: str
    numbers: Mapping[str, Number] = {}


def find_clock_fault(latest: datetime, until: datetime, now: datetime) -> Finding | None:
    """Find a clock that was set back, or evidence ahead of it. latest, until: of the state, and of the evidence."""
    if latest - now > _CLOCK_TOLERANCE:
        seconds = (latest - now).total_seconds()
        sentence = f"The clock stands {seconds:.0f} s before the last look. Nothing is decided until it has caught up."
        return Finding("clock-back", sentence, {"seconds": seconds})
    if until - now > _CLOCK_TOLERANCE:
        seconds = (until - now).total_seconds()
        sentence = f"The evidence is {seconds:.0f} s ahead of the clock. Check the clocks of the machines."
        return Finding("evidence-ahead", sentence, {"seconds": seconds})
    return None


def find_broken_guardrail(guardrails: Iterable[GuardrailEvidence], policy: RolloutSpec) -> Finding | None:
    """Find the first guardrail whose e-value has reached what is needed."""
    budgets = policy.guardrail_budgets
    for guardrail in guardrails:
        budget = budgets.get(guardrail.guardrail)
        if budget is None or guardrail.events <= 0 or not guardrail.e_value >= 1 / budget:
            continue
        observed, reference = (
            format_level(policy, guardrail.guardrail, value) for value in (guardrail.observed, guardrail.reference)
        )
        sentence = (
            f"The guardrail {guardrail.guardrail} is broken: {observed} was observed, at most {reference} is allowed. "
            f"By chance this happens to at most {format_share(budget)} of the faultless versions."
        )
        numbers: dict[str, Number] = {
            "guardrail": guardrail.guardrail,
            "observed": guardrail.observed,
            "reference": guardrail.reference,
            "e_value": guardrail.e_value,
            "needed": 1 / budget,
            "events": guardrail.events,
        }
        return Finding("guardrail-broken", sentence, numbers)
    return None


def find_audit_fault(mismatches: int, sample_ratio: float) -> Finding | None:
    """Find arms that are not those of salt and shopper, or whose sizes are wrong: no metric counts then."""
    if mismatches > 0:
        sentence = (
            f"{mismatches} exposures name an arm that does not follow from salt and shopper. What shoppers did cannot "
            "be trusted until the cause is known."
        )
        return Finding("audit-mismatch", sentence, {"mismatches": mismatches})
    needed = 1 / SAMPLE_RATIO_BUDGET
    if sample_ratio >= needed:
        sentence = (
            f"Shoppers do not come to the arms as the split says (e-value {sample_ratio:.4g}, at least {needed:.0f}). "
            "Impressions of one arm are lost, or counted twice."
        )
        return Finding("sample-ratio", sentence, {"e_value": sample_ratio, "needed": needed})
    return None


def find_harm(effects: Iterable[EffectEvidence], budgets: Mapping[str, float]) -> Finding | None:
    """Find the first metric that is shown to be harmed.

    Parameters
    ----------
    effects
        Of an arm.
    budgets
        By the metric's name, the probability that one which the arm does not change is ever called harmed.
    """
    for effect in effects:
        budget = budgets.get(effect.metric)
        if budget is None:
            continue
        numbers = list_numbers(effect)
        chance = f"By chance this happens to at most {format_share(budget)} of the versions that change nothing."
        if find_best(effect) < 0:
            bound = effect.upper if effect.better else effect.lower
            side = "at best" if effect.better else "at least"
            sentence = (
                f"{effect.metric} changes by {format_change(effect.effect)}, {side} {format_change(bound)}. {chance}"
            )
            return Finding("metric-harmed", sentence, numbers)
        needed = 1 / budget
        if effect.harm >= needed:
            sentence = (
                f"{effect.metric} is harmed: few shoppers suffice to exclude chance (e-value {effect.harm:.4g}, at "
                f"least {needed:.0f}). {chance}"
            )
            return Finding("metric-harmed-early", sentence, {**numbers, "e_value": effect.harm, "needed": needed})
    return None


def find_unread_source(problems: Mapping[str, str]) -> Finding | None:
    """Find sources that could not be read."""
    if not problems:
        return None
    words = "; ".join(f"{source}: {reason}" for source, reason in sorted(problems.items()))
    return Finding("source-unreadable", f"A source cannot be read. {words}", dict(problems))


def find_feed_fault(newest: datetime | None, now: datetime, silence: timedelta, due: datetime) -> Finding | None:
    """Find out whether reports of impressions are missing, or have stopped for longer than is allowed.

    Before `due` the first ones are waited for: whoever met the versions first is not reported yet.
    """
    if newest is None:
        if now < due:
            return None
        sentence = (
            "No impression has been seen yet. Send impressions with their ranking_id to the intake; until then no "
            "share changes."
        )
        return Finding("no-feed", sentence)
    if now - newest > silence:
        age = (now - newest).total_seconds()
        sentence = (
            f"The newest impression is {format_seconds(age)} old, more than {format_duration(silence)}. The feed "
            "stands still."
        )
        return Finding("feed-silent", sentence, {"seconds": age, "allowed": silence.total_seconds()})
    return None


def find_crossing(crossed: float, most: float) -> Finding | None:
    """Find out whether too many shoppers met both arms, which blurs the difference. Shares, 0 to 1."""
    if crossed <= most:
        return None
    sentence = (
        f"{format_share(crossed)} of the shoppers were seen in both arms, more than {format_share(most)}. Their id "
        "changes, as after a login, and the difference between the arms is blurred."
    )
    return Finding("crossed-shoppers", sentence, {"crossed": crossed, "allowed": most})
