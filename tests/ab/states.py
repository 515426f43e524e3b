"""States, evidence and policies of A/B tests, as several tests need them."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from endcap.experiments.ab_evidence import AbEvidence, ChallengerEvidence
from endcap.experiments.ab_state import AbPolicy, AbState, begin_test
from endcap.experiments.allocation import ArmEstimate
from endcap.experiments.evidence import EffectEvidence, GuardrailEvidence
from endcap.spec.ab import AbSpec
from endcap.spec.rollout import RolloutSpec

START = datetime(2026, 11, 2, 8, 0, tzinfo=UTC)
LOOK, EPOCH = timedelta(minutes=10), timedelta(days=1)
VERSIONS = [("7", "packages/home/b"), ("8", "packages/home/c"), ("9", "packages/home/d")]


def make_policy(**keys: Any) -> AbPolicy:
    return AbPolicy(AbSpec.model_validate(keys), RolloutSpec())


def make_state(count: int = 3, **changes: Any) -> AbState:
    return replace(begin_test("home", ("6", "packages/home/a"), VERSIONS[:count], START), **changes)


def make_effect(metric: str, lower: float = -math.inf, upper: float = math.inf, **changes: Any) -> EffectEvidence:
    values: dict[str, Any] = {
        "effect": 0.0,
        "better": True,
        "stable_rate": 0.1,
        "shoppers": {"challenger-1": 1_000, "stable": 1_000},
        "exposures": {"challenger-1": 3_000, "stable": 3_000},
        "outcomes": {"challenger-1": 300.0, "stable": 300.0},
    }
    return EffectEvidence(metric=metric, lower=lower, upper=upper, **{**values, **changes})


def make_challenger(state: AbState, number: int, effect: float = 0.0, error: float = 0.01, **changes: Any) -> Any:
    """Evidence on one challenger: an effect on the deciding metric with its standard error, and nothing wrong."""
    challenger = state.taking_part[number]
    variance = math.inf if math.isinf(error) else error**2
    band = {"lower": effect - 3 * error, "upper": effect + 3 * error, "effect": effect}
    values: dict[str, Any] = {
        "estimate": ArmEstimate(challenger.arm, effect, variance, 0.5),
        "registered": "approved",
        "effects": (make_effect("ctr", **band), make_effect("conversion"), make_effect("revenue")),
        "guardrails": tuple(
            GuardrailEvidence(name, 0.5, observed=0.002, reference=0.005, events=1_000)
            for name in RolloutSpec().guardrail_budgets
        ),
    }
    return ChallengerEvidence(arm=challenger.arm, version=challenger.version, **{**values, **changes})


def make_evidence(
    state: AbState, now: datetime, effects: tuple[float, ...] = (), error: float = 0.01, **changes: Any
) -> AbEvidence:
    """Evidence with which nothing is wrong."""
    used = effects or (0.0,) * len(state.taking_part)
    values: dict[str, Any] = {
        "until": now,
        "challengers": tuple(make_challenger(state, number, effect, error) for number, effect in enumerate(used)),
        "impressions_until": now - timedelta(minutes=1),
        "served": state.layout.layout_id,
    }
    return AbEvidence(**{**values, **changes})


def break_guardrail(challenger: ChallengerEvidence) -> ChallengerEvidence:
    """The same with errors beyond what is allowed."""
    broken = replace(challenger.guardrails[0], e_value=1e9)
    return replace(challenger, guardrails=(broken, *challenger.guardrails[1:]))
