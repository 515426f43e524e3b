"""What the rules of an A/B test share: what they look at, and the decision that they make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any, Literal, Self

from endcap.experiments.ab_evidence import AbEvidence, ChallengerEvidence
from endcap.experiments.ab_state import AbPhase, AbPolicy, AbState
from endcap.experiments.allocation import Allocation, allocate
from endcap.experiments.decision_parts import Number, Numbers, clean_numbers, find_worst, format_change, format_share
from endcap.experiments.evidence import EffectEvidence
from endcap.experiments.findings import Finding
from endcap.experiments.splits import Arm

AbDecisionAction = Literal["move", "hold", "drop", "end"]


@dataclass(frozen=True)
class AbDecision:
    """What is to be done with a test, and why.

    Attributes
    ----------
    action
        move: the arms get other shares; hold: nothing changes; drop: challengers leave; end: the test is over.
    phase
        The test's phase from now on.
    reason
        A code of `docs/ab-reference.md`.
    numbers
        What the reason rests on: finite numbers and texts; None for what is not known.
    sentence
        The reason for a person.
    alert
        Whether a person should look. A reason that lasts alerts once.
    is_epoch_over
        Whether the present epoch is over and the next one begins.
    leaving
        Why each challenger leaves, by its arm.
    winner
        The version that serves everyone from now on, if the test ends; empty: the stable one.
    allocation
        How probable each arm is the best at this look, and the shares that follow; None where a fault came first.
    seed
        Of its draws.
    """

    action: AbDecisionAction
    phase: AbPhase
    reason: str
    sentence: str
    numbers: Numbers = field(default_factory=dict)
    alert: bool = False
    is_epoch_over: bool = False
    leaving: Mapping[Arm, str] = field(default_factory=dict)
    winner: str = ""
    allocation: Allocation | None = None
    seed: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the decision as JSON values."""
        allocation = None if self.allocation is None else asdict(self.allocation)
        return {**vars(self), "numbers": dict(self.numbers), "leaving": dict(self.leaving), "allocation": allocation}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Read what `to_json` returned."""
        allocation = document["allocation"]
        return cls(**{**document, "allocation": None if allocation is None else Allocation(**allocation)})


@dataclass(frozen=True)
class AbLook:
    """What rules look at."""

    state: AbState
    evidence: AbEvidence
    policy: AbPolicy
    now: datetime

    @cached_property
    def allocation(self) -> Allocation:
        """How probable each arm is the best by what is known now, and the shares that follow."""
        estimates = [each.estimate for each in self.evidence.challengers]
        return allocate(self.state.weights, estimates, self.policy.ab, self.state.seed)

    @property
    def is_epoch_over(self) -> bool:
        """Whether the epoch is as old as the policy says."""
        return self.now >= self.state.epoch_began + self.policy.ab.epoch

    def hold(self, finding: Finding, *, usual: bool = False) -> AbDecision:
        """Make a decision that changes nothing. usual: nothing is wrong, so no person need look."""
        phase: AbPhase = self.state.phase
        if not self.state.is_over:
            phase = "running" if usual else "holding"
        alert = not usual and finding.reason != self.state.reason
        return AbDecision("hold", phase, finding.reason, finding.sentence, clean_numbers(finding.numbers), alert)

    def find_effect(self, challenger: ChallengerEvidence) -> EffectEvidence | None:
        """Return a challenger's effect on the deciding metric."""
        name = self.policy.rollout.deciding_metric.name
        return next((effect for effect in challenger.effects if effect.metric == name), None)


def find_winner(look: AbLook) -> ChallengerEvidence | None:
    """Return the challenger that is most probably the best, if its band against the stable version lies above 0."""
    best = look.allocation.best
    leader = max(best, key=lambda arm: best[arm])
    challenger = look.evidence.find(leader)
    effect = None if challenger is None else look.find_effect(challenger)
    return challenger if effect is not None and find_worst(effect) > 0 else None


def promote_winner(look: AbLook, winner: ChallengerEvidence, reason: str, begin: str) -> AbDecision:
    """Make the decision by which a challenger serves everyone. begin: the first words of its sentence."""
    effect = look.find_effect(winner)
    assert effect is not None
    sentence = (
        f"{begin}version {winner.version} is the best with a probability of "
        f"{format_share(look.allocation.best[winner.arm])}, and changes {effect.metric} by "
        f"{format_change(effect.effect)}, at worst {format_change(find_worst(effect))}. It serves everyone."
    )
    return AbDecision(
        "end",
        "promoted",
        reason,
        sentence[0].upper() + sentence[1:],
        clean_numbers({**list_chances(look), "lower": effect.lower, "upper": effect.upper}),
        True,
        winner=winner.version,
        allocation=look.allocation,
        seed=look.state.seed,
    )


def list_chances(look: AbLook) -> dict[str, Number]:
    """Return how probable each version is the best, for a decision's numbers."""
    state, best = look.state, look.allocation.best
    return {f"best_{state.name_version(arm)}": chance for arm, chance in best.items()}
