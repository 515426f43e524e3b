"""Rollouts as `DecisionLog` writes them: look by look, with evidence that narrows as shoppers come."""

from __future__ import annotations

import math
from datetime import datetime, timedelta

from endcap.experiments.decision_log import DecisionLog
from endcap.experiments.evidence import GuardrailEvidence, RolloutEvidence
from endcap.experiments.rollout_state import GUARDED
from endcap.spec.rollout import RolloutSpec
from endcap.store import Store
from tests.experiments.rollouts import START, make_effect, make_evidence

POLICY = RolloutSpec.model_validate({"look_every": "30m"})
UNITS = {"ctr": 1.0, "conversion": 3.0, "revenue": 4.0}
"""How much wider the band of each metric is."""


def tell_story(
    store: Store,
    effect: float,
    looks: int,
    *,
    policy: RolloutSpec = POLICY,
    errors: float = 0.0005,
    refusals: dict[str, int] | None = None,
) -> datetime:
    """Write a rollout of a version with a true effect on all metrics. Returns the moment of the last look."""
    log, now = DecisionLog(store, "home"), START
    entry = log.begin("7", "packages/home/b", "6", "packages/home/a", policy, now)
    known = 0.0
    for number in range(looks):
        before, now = entry.after, now + policy.look_every
        known += before.share * (1 - before.share) * policy.look_every.total_seconds()
        evidence = make_story_evidence(policy, now, known, effect, number, errors, before.phase in GUARDED)
        entry = log.look(
            RolloutEvidence(**{**evidence.__dict__, "refusals": refusals or {}, "share": before.share}), policy, now
        )
        if entry.after.is_over:
            break
    return now


def make_story_evidence(
    policy: RolloutSpec, now: datetime, known: float, effect: float, number: int, errors: float, is_guard: bool
) -> RolloutEvidence:
    people = int(known * 1.2)
    effects = []
    for metric in policy.metrics:
        width = 5.0 * UNITS[metric.name] / math.sqrt(known)
        value = effect + 0.3 * width * math.sin(number / 5 + UNITS[metric.name])
        lower, upper = value - width, value + width
        if width > 2:
            lower, upper = -math.inf, math.inf
        effects.append(
            make_effect(
                metric.name,
                lower,
                upper,
                effect=value,
                shoppers={"canary": people, "stable": 90_000},
                exposures={"canary": 3 * people, "stable": 270_000},
                outcomes={"canary": 0.3 * people, "stable": 27_000.0},
                complete_until=now - timedelta(minutes=35),
            )
        )
    guardrails = tuple(
        GuardrailEvidence(
            name,
            math.exp(min(12.0, number * (errors - 0.004) * 40)) if name == "errors" else 0.4,
            errors if name == "errors" else 0.002 + 0.0005 * math.sin(number),
            0.005 if name == "errors" else 0.01,
            40 * (number + 1),
        )
        for name in policy.guardrail_budgets
    )
    changes = {"arm": "stable", "against": "previous"} if is_guard else {}
    return make_evidence(policy, now, effects=tuple(effects), guardrails=guardrails, crossed=0.012, **changes)
