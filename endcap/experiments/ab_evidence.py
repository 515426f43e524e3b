"""What is known of an A/B test at one look: plain values, which statistics make and the decision reads."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from typing import Any, Literal, Self

from endcap.experiments.allocation import ArmEstimate
from endcap.experiments.evidence import EffectEvidence, GuardrailEvidence, dump_evidence, read_effect, read_guardrail
from endcap.experiments.splits import Arm

Registered = Literal["approved", "rejected", "absent", ""]
"""What the registry says of a version; empty: it does not answer."""


@dataclass(frozen=True)
class ChallengerEvidence:
    """What a look tells of one challenger.

    Attributes
    ----------
    arm, version
        Who it is.
    registered
        What the registry says of it.
    effects, guardrails
        One entry for each metric and guardrail of the policy. Effects are against the stable version.
    estimate
        The effect on the deciding metric, from which shares follow.
    score, information, variance, stable_rate
        The sums behind it (`EffectSums`), so that the effect between two looks can be told.
    sample_ratio, mismatches, crossed
        As in `RolloutEvidence`, of this challenger and the stable version.
    """

    arm: Arm
    version: str
    estimate: ArmEstimate
    registered: Registered = ""
    effects: tuple[EffectEvidence, ...] = ()
    guardrails: tuple[GuardrailEvidence, ...] = ()
    score: float = 0.0
    information: float = 0.0
    variance: float = 0.0
    stable_rate: float = 0.0
    sample_ratio: float = 1.0
    mismatches: int = 0
    crossed: float = 0.0

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Read what `AbEvidence.to_json` wrote of a challenger."""
        known = {entry.name: document[entry.name] for entry in fields(cls) if entry.name in document}
        estimate = document["estimate"]
        unknown = estimate["variance"] is None
        return cls(
            **{
                **known,
                "estimate": ArmEstimate(**{**estimate, "variance": math.inf if unknown else estimate["variance"]}),
                "effects": tuple(read_effect(entry) for entry in document["effects"]),
                "guardrails": tuple(read_guardrail(entry) for entry in document["guardrails"]),
                "sample_ratio": math.inf if document["sample_ratio"] is None else document["sample_ratio"],
            }
        )


@dataclass(frozen=True)
class AbEvidence:
    """All that one look tells of a test.

    Attributes
    ----------
    until
        The moment of the look, UTC.
    challengers
        One entry for each challenger that takes part.
    impressions_until
        When the newest impression was seen, UTC; None without any: there is no feed.
    problems
        Sources that could not be read, with the reason.
    refusals
        How many reports were not counted so far, by the reason: the most of any challenger's comparison.
    served
        The layout's id in the desired state; empty: it holds no test. None: nobody looked.
    popularity_only
        Whether popularity answers everyone at the look.
    pinned
        Who pinned what is served, and why, in words; empty: nobody did.
    """

    until: datetime
    challengers: tuple[ChallengerEvidence, ...] = ()
    impressions_until: datetime | None = None
    problems: Mapping[str, str] = field(default_factory=dict)
    refusals: Mapping[str, int] = field(default_factory=dict)
    served: str | None = None
    popularity_only: bool = False
    pinned: str = ""

    def find(self, arm: str) -> ChallengerEvidence | None:
        """Return the evidence on a challenger; None if there is none."""
        return next((each for each in self.challengers if each.arm == arm), None)

    def to_json(self) -> dict[str, Any]:
        """Return the evidence as JSON values; times as ISO 8601 text, infinite numbers as None."""
        return {name: dump_evidence(value) for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Read what `to_json` returned; unknown keys are passed over."""
        known = {entry.name: document[entry.name] for entry in fields(cls) if entry.name in document}
        newest = document["impressions_until"]
        return cls(
            **{
                **known,
                "until": datetime.fromisoformat(document["until"]),
                "challengers": tuple(ChallengerEvidence.from_json(entry) for entry in document["challengers"]),
                "impressions_until": None if newest is None else datetime.fromisoformat(newest),
            }
        )
