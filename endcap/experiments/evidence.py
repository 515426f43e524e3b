"""What is known of a rollout at one look: plain values, which statistics make and the decision reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from typing import Any, Literal, Self

Comparator = Literal["stable", "previous", "baseline"]


@dataclass(frozen=True)
class EffectEvidence:
    """The effect of an arm on one metric of shoppers, against the stable version.

    Attributes
    ----------
    metric
        The metric's name in the policy.
    effect
        The relative difference, such as -0.2 for 20 % less; 0 where nothing was met yet.
    lower, upper
        One-sided bounds that hold at every look together. The one against harm has the metric's part of the error
        budget; the other has the error that a promotion may have (`judge_effect`).
        ``-inf`` and ``inf`` where nothing is known.
    better
        Whether more of the metric is better. Bounds and effect are those of the metric itself.
    stable_rate
        Outcomes per exposure of the stable version.
    shoppers, exposures, outcomes
        Of each arm, by its name: how many distinct shoppers, rankings that were seen, and outcomes counted.
    harm
        An exact e-value against "the arm does no harm", for small samples; 1 where nothing is known. At least
        1 / budget refutes it.
    complete_until
        Up to when the metric's attribution windows are over, UTC; None before the first.
    """

    metric: str
    effect: float
    lower: float
    upper: float
    better: bool
    stable_rate: float
    shoppers: Mapping[str, int]
    exposures: Mapping[str, int]
    outcomes: Mapping[str, float]
    harm: float = 1.0
    complete_until: datetime | None = None


@dataclass(frozen=True)
class GuardrailEvidence:
    """One operational guardrail of an arm.

    Attributes
    ----------
    guardrail
        Its name in the policy.
    e_value
        The e-value against "within the limit"; at least 1 / budget is a breach.
    observed, reference
        The arm's rate (or seconds), and the limit that it is held against.
    events
        How many requests it rests on; 0 if nothing was read.
    """

    guardrail: str
    e_value: float
    observed: float
    reference: float
    events: int


@dataclass(frozen=True)
class HistoryEvidence:
    """A champion's metric beside the same hours of earlier weeks (`champion_history`).

    Attributes
    ----------
    metric
        The metric's name in the policy.
    change
        The relative difference over the last day that could be compared; 0 where none could.
    cusum, limit
        How much the metric fell short, summed up, and the sum that is a breach.
    weeks
        How many earlier weeks the latest hours were compared with; 0: nothing is known.
    blocks
        How many blocks of hours were compared since the promotion.
    """

    metric: str
    change: float
    cusum: float
    limit: float
    weeks: int
    blocks: int


@dataclass(frozen=True)
class RolloutEvidence:
    """All that one look tells of one arm.

    Attributes
    ----------
    until
        The moment of the look, UTC.
    arm, version
        The arm that is judged, and its registered version.
    effects, guardrails
        One entry for each metric and guardrail of the policy.
    fresh
        The effects on exposures since the version took the place of a running one alone (`refresh_check`); empty
        without a refresh.
    sample_ratio
        The e-value against "shoppers came to the arms as the split says".
    mismatches
        Exposures whose arm is not the one that salt and shopper give (the audit).
    crossed
        The share of shoppers who were seen in both arms, 0 to 1.
    impressions_until
        When the newest impression was seen, UTC; None without any: there is no feed.
    problems
        Sources that could not be read, with the reason, such as ``{"prometheus": "cannot be reached"}``.
    against
        What the effects are measured against: another arm of the same time.
    history
        After the promotion, each metric beside the shop's own past.
    share
        The arm's share in the desired state at the look, 0 to 1; None if nobody looked. It differs from the rollout's
        own after a person changed it.
    share_since
        When the desired state was last changed, UTC; None if nobody looked. A share that is older than the rollout's
        last step is no person's: a loop ended before it carried the step out.
    refusals
        How many reports were not counted so far, by the reason (`MetricState.refusals`).
    popularity_only
        Whether popularity answers everyone at the look, so that nobody meets a version.
    pinned
        Who pinned what is served, and why, in words; empty: nobody did.
    """

    until: datetime
    arm: str
    version: str
    effects: tuple[EffectEvidence, ...] = ()
    fresh: tuple[EffectEvidence, ...] = ()
    guardrails: tuple[GuardrailEvidence, ...] = ()
    sample_ratio: float = 1.0
    mismatches: int = 0
    crossed: float = 0.0
    impressions_until: datetime | None = None
    problems: Mapping[str, str] = field(default_factory=dict)
    against: Comparator = "stable"
    history: tuple[HistoryEvidence, ...] = ()
    share: float | None = None
    share_since: datetime | None = None
    refusals: Mapping[str, int] = field(default_factory=dict)
    popularity_only: bool = False
    pinned: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the evidence as JSON values; times as ISO 8601 text, infinite bounds and e-values as None."""
        return {name: dump_evidence(value) for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Read what `to_json` returned."""
        effects, fresh = (
            tuple(read_effect(entry) for entry in document.get(name, ())) for name in ("effects", "fresh")
        )
        guardrails = (read_guardrail(entry) for entry in document["guardrails"])
        known = {spec.name for spec in fields(cls)}
        return cls(
            **{
                **{key: value for key, value in document.items() if key in known},
                "until": datetime.fromisoformat(document["until"]),
                "effects": effects,
                "fresh": fresh,
                "history": tuple(HistoryEvidence(**entry) for entry in document.get("history", ())),
                "guardrails": tuple(guardrails),
                "sample_ratio": _read_e_value(document["sample_ratio"]),
                "impressions_until": _read_time(document["impressions_until"]),
                "share_since": _read_time(document.get("share_since")),
            }
        )


def read_guardrail(entry: Mapping[str, Any]) -> GuardrailEvidence:
    """Read a guardrail's evidence from JSON values."""
    return GuardrailEvidence(**{**entry, "e_value": _read_e_value(entry["e_value"])})


def read_effect(entry: Mapping[str, Any]) -> EffectEvidence:
    """Read a metric's evidence from JSON values."""
    lower, upper = entry["lower"], entry["upper"]
    return EffectEvidence(
        **{
            **entry,
            "lower": float("-inf") if lower is None else lower,
            "upper": float("inf") if upper is None else upper,
            "harm": _read_e_value(entry["harm"]),
            "complete_until": _read_time(entry["complete_until"]),
        }
    )


def _read_e_value(value: float | None) -> float:
    return float("inf") if value is None else value


def _read_time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text is not None else None


def dump_evidence(value: Any) -> Any:
    """Return evidence as JSON values; times as ISO 8601 text, infinite numbers as None."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return None
    if isinstance(value, Mapping):
        return {key: dump_evidence(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [dump_evidence(entry) for entry in value]
    return value
