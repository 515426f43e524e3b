"""States, evidence and policies of rollouts, as several tests need them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from endcap.experiments.evidence import EffectEvidence, GuardrailEvidence, RolloutEvidence
from endcap.experiments.rollout_state import RolloutState, begin_rollout
from endcap.spec.rollout import RolloutSpec

START = datetime(2026, 11, 2, 8, 0, tzinfo=UTC)
LOOK = timedelta(minutes=10)
INF = float("inf")


def make_policy(**keys: Any) -> RolloutSpec:
    return RolloutSpec.model_validate(keys)


def make_state(policy: RolloutSpec | None = None, **changes: Any) -> RolloutState:
    state = begin_rollout("home", "7", "packages/home/b", "6", "packages/home/a", policy or make_policy(), START)
    return replace(state, **changes)


def make_effect(metric: str = "ctr", lower: float = -INF, upper: float = INF, **changes: Any) -> EffectEvidence:
    values: dict[str, Any] = {
        "effect": 0.0,
        "better": True,
        "stable_rate": 0.1,
        "shoppers": {"canary": 1_000, "stable": 90_000},
        "exposures": {"canary": 3_000, "stable": 270_000},
        "outcomes": {"canary": 300.0, "stable": 27_000.0},
        "complete_until": START + timedelta(days=2),
    }
    return EffectEvidence(metric=metric, lower=lower, upper=upper, **{**values, **changes})


def make_guardrails(policy: RolloutSpec, **e_values: float) -> tuple[GuardrailEvidence, ...]:
    return tuple(
        GuardrailEvidence(name, e_values.get(name, 0.5), observed=0.002, reference=0.005, events=1_000)
        for name in policy.guardrail_budgets
    )


def make_evidence(policy: RolloutSpec | None = None, now: datetime = START + LOOK, **changes: Any) -> RolloutEvidence:
    """Evidence with which nothing is wrong and nothing is shown."""
    policy = policy or make_policy()
    values: dict[str, Any] = {
        "until": now,
        "arm": "canary",
        "version": "7",
        "effects": tuple(make_effect(metric.name) for metric in policy.metrics),
        "guardrails": make_guardrails(policy),
        "impressions_until": now - timedelta(minutes=1),
    }
    return RolloutEvidence(**{**values, **changes})


def show_ctr(lower: float = -INF, upper: float = INF, **changes: Any) -> tuple[EffectEvidence, ...]:
    """Effects of the usual metrics, of which the CTR has these bounds."""
    return (make_effect("ctr", lower, upper, **changes), make_effect("conversion"), make_effect("revenue"))
