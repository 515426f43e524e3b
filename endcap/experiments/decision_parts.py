"""What the rules of a rollout's decision share: what they look at, and the decision that they make."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any, Literal, Self

from endcap.experiments.evidence import EffectEvidence, RolloutEvidence
from endcap.experiments.rollout_state import Phase, RolloutState
from endcap.spec.base import format_duration
from endcap.spec.rollout import RolloutSpec

DecisionAction = Literal["raise", "hold", "roll_back", "promote"]
Number = float | str | None
Numbers = Mapping[str, Number]


@dataclass(frozen=True)
class Decision:
    """What is to be done with a rollout, and why.

    Attributes
    ----------
    action
        raise: the share rises; hold: nothing changes, or a person's share is adopted or put back; roll_back: the
        version is taken from all shoppers; promote: it serves everyone.
    phase, share
        The rollout's phase and share from now on.
    reason
        A code of `docs/rollout-reference.md`.
    numbers
        What the reason rests on: finite numbers and texts; None for what is not known.
    sentence
        The reason for a person.
    alert
        Whether a person should look. A reason that lasts alerts once.
    """

    action: DecisionAction
    phase: Phase
    share: float
    reason: str
    numbers: Numbers
    sentence: str
    alert: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the decision as JSON values."""
        return {entry.name: getattr(self, entry.name) for entry in fields(self)} | {"numbers": dict(self.numbers)}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Read what `to_json` returned."""
        return cls(**{entry.name: document[entry.name] for entry in fields(cls) if entry.name in document})


@dataclass(frozen=True)
class Look:
    """What rules look at: state, evidence, policy and time.

    Attributes
    ----------
    state, evidence, policy, now
        As `endcap.experiments.decision.decide` takes them.
    """

    state: RolloutState
    evidence: RolloutEvidence
    policy: RolloutSpec
    now: datetime

    @property
    def deciding(self) -> EffectEvidence | None:
        """The evidence on the deciding metric; None if there is none."""
        return self.find_effect(self.policy.deciding_metric.name)

    def find_effect(self, metric: str) -> EffectEvidence | None:
        """Return the evidence on a metric; None if there is none."""
        return next((effect for effect in self.evidence.effects if effect.metric == metric), None)

    def hold(self, reason: str, sentence: str, numbers: Numbers | None = None, *, usual: bool = False) -> Decision:
        """Make a decision that changes no share. usual: nothing is wrong, so no person need look."""
        phase = self.state.phase
        if phase in ("rising", "holding") or (phase == "waiting-approval" and self.state.started is not None):
            phase = "rising" if usual else "holding"
        alert = not usual and reason != self.state.reason
        return Decision("hold", phase, self.state.share, reason, clean_numbers(numbers or {}), sentence, alert)

    def roll_back(self, reason: str, sentence: str, numbers: Numbers) -> Decision:
        """Make a decision that takes the version from all shoppers."""
        return Decision("roll_back", "rolled-back", 0.0, reason, clean_numbers(numbers), sentence, True)


Rule = Callable[[Look], Decision | None]
"""Decides, or says nothing and leaves it to the next rule."""


def find_worst(effect: EffectEvidence) -> float:
    """Return the change that is not excluded on the bad side; negative is bad."""
    return effect.lower if effect.better else -effect.upper


def find_best(effect: EffectEvidence) -> float:
    """Return the change that is not excluded on the good side; negative is harm."""
    return effect.upper if effect.better else -effect.lower


def list_numbers(effect: EffectEvidence) -> dict[str, Number]:
    """Return what a decision by a metric rests on."""
    return {
        "metric": effect.metric,
        "effect": effect.effect,
        "lower": effect.lower,
        "upper": effect.upper,
        "stable_rate": effect.stable_rate,
        **{f"shoppers_{arm}": count for arm, count in sorted(effect.shoppers.items())},
    }


def clean_numbers(numbers: Numbers) -> dict[str, Number]:
    """Return the numbers as JSON holds them: what is not finite is None."""
    return {name: None if _is_unknown(value) else value for name, value in numbers.items()}


def _is_unknown(value: Number) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def format_change(value: float) -> str:
    """Return a relative change for a person, with its sign."""
    return f"{100 * value:+.3g} %" if math.isfinite(value) else "any amount"


def format_share(value: float) -> str:
    """Return a share or a probability for a person."""
    return f"{100 * value:.4g} %"


def format_level(policy: RolloutSpec, guardrail: str, value: float) -> str:
    """Return what was observed of a guardrail, or is allowed, for a person: a time, a share, or a plain number."""
    kinds = {entry.name: entry.kind for entry in policy.guardrails}
    kind = kinds.get(guardrail)
    if kind == "latency":
        return f"{value:.3g} s" if value >= 1 else f"{1000 * value:.3g} ms"
    return f"{value:.3g}" if kind in (None, "score_drift") else f"{100 * value:.3g} %"


def format_seconds(seconds: float) -> str:
    """Return a length of time for a person."""
    return format_duration(timedelta(seconds=round(seconds)))
