"""The gate: the conditions of the spec, each with the number that it was decided by."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from endcap.evaluation.evidence import compute_half_width, is_open
from endcap.evaluation.metrics import lower_is_better
from endcap.spec.gate import Condition

CHALLENGER, CHAMPION, BEST_BASELINE = "challenger", "champion", "best-baseline"
GateDecision = Literal["passed", "failed", "undecided"]


@dataclass(frozen=True)
class Estimate:
    """A number and its interval; a metric without an interval has none."""

    value: float
    lower: float | None = None
    upper: float | None = None

    def less(self, number: float) -> Estimate:
        """All of it less a number."""
        ends = (None if end is None else end - number for end in (self.lower, self.upper))
        return Estimate(self.value - number, *ends)


@dataclass(frozen=True)
class PairwiseComparison:
    """The challenger against one other model, by metric."""

    difference: Mapping[str, Estimate]
    ratio: Mapping[str, Estimate]

    def by(self, compare: str, metric: str) -> Estimate:
        """As a condition compares: `difference`, `ratio`, or `relative`, the difference by the other's value, which is
        infinite where only the other's value is 0 and 0 where both are."""
        if compare == "difference":
            return self.difference[metric]
        return self.ratio[metric] if compare == "ratio" else self.ratio[metric].less(1.0)


@dataclass(frozen=True)
class ConditionOutcome:
    """One condition, decided. number: what was held against the limit; None where there was nothing to compare.
    other: the model that it was compared with. what: the number in words. half_width: see `endcap.evaluation.evidence`;
    is_open: whether the limit lies within the interval."""

    metric: str
    against: str | None
    compare: str | None
    bound: str
    number: float | None
    min: float | None
    max: float | None
    passed: bool
    text: str
    note: str = ""
    other: str | None = None
    what: str = ""
    half_width: float | None = None
    is_open: bool = False

    def to_json(self) -> dict[str, Any]:
        """JSON has no infinity: such a number is null, and its text says it."""
        numbers = {name: getattr(self, name) for name in ("number", "half_width")}
        finite = {name: one if one is None or math.isfinite(one) else None for name, one in numbers.items()}
        return {**asdict(self), **finite}


def decide_conditions(
    conditions: Sequence[Condition],
    metrics: Mapping[str, Mapping[str, Estimate]],
    comparisons: Mapping[str, PairwiseComparison],
    baselines: Sequence[str],
    *,
    unjudged: str = "",
) -> list[ConditionOutcome]:
    """Each condition's outcome, in their order; the gate is passed if all are, and the evidence is enough.

    metrics: by model (challenger, champion where one is judged, each baseline) and metric. comparisons: of the
    challenger with each other model. best-baseline is the baseline that is best on the condition's own metric.
    A condition against the champion is passed where there is none. unjudged: why there is one that could not be judged;
    then such a condition fails.
    """
    return [_decide(condition, metrics, comparisons, baselines, unjudged) for condition in conditions]


def decide_gate(outcomes: Sequence[ConditionOutcome], lacking: Sequence[str]) -> GateDecision:
    """The gate's word. lacking: what is missing of the evidence: then there is none for either other word."""
    if lacking:
        return "undecided"
    return "passed" if all(outcome.passed for outcome in outcomes) else "failed"


def find_best_baseline(metric: str, metrics: Mapping[str, Mapping[str, Estimate]], baselines: Sequence[str]) -> str:
    """The baseline with the best value of a metric; of equals the first in the spec."""
    sign = -1 if lower_is_better(metric) else 1
    return max(baselines, key=lambda name: sign * metrics[name][metric].value)


def _decide(
    condition: Condition,
    metrics: Mapping[str, Mapping[str, Estimate]],
    comparisons: Mapping[str, PairwiseComparison],
    baselines: Sequence[str],
    unjudged: str,
) -> ConditionOutcome:
    metric, other = condition.metric, condition.against
    if other == BEST_BASELINE:
        other = find_best_baseline(metric, metrics, baselines)
    if other == CHAMPION and CHAMPION not in metrics:
        note = f"the champion is not judged: {unjudged}" if unjudged else "no champion yet"
        return _outcome(condition, None, passed=not unjudged, text=f"{metric} against the champion: {note}", note=note)
    if other is None:
        found, what = metrics[CHALLENGER][metric], metric
    else:
        found = comparisons[other].by(condition.compare, metric)
        what = f"{metric} {_WORDS[condition.compare].format(other=other)}"
    number, note = _held(condition, found)
    if condition.min is not None:
        passed, limit = number >= condition.min, f"at least {condition.min:g}"
    else:
        assert condition.max is not None
        passed, limit = number <= condition.max, f"at most {condition.max:g}"
    end = "" if condition.bound == "estimate" or note else f" ({'lower' if condition.min is not None else 'upper'} end)"
    text = f"{what}{end} is {number:.4g}, {'' if passed else 'not '}{limit}"
    if note:
        text += f" ({note})"
    return _outcome(
        condition,
        number,
        passed=passed,
        text=text,
        note=note,
        other=other,
        what=what,
        half_width=compute_half_width(
            None if other is None else condition.compare, found, metrics[other or CHALLENGER][metric].value
        ),
        is_open=is_open(condition, found),
    )


_WORDS = {
    "difference": "minus {other}'s",
    "ratio": "over {other}'s",
    "relative": "relative to {other}'s",
}


def _held(condition: Condition, found: Estimate) -> tuple[float, str]:
    """The number that the condition is about."""
    if condition.bound == "estimate":
        return found.value, ""
    end = found.lower if condition.min is not None else found.upper
    return (found.value, "has no interval: the estimate counts") if end is None else (end, "")


def _outcome(condition: Condition, number: float | None, **decided: Any) -> ConditionOutcome:
    return ConditionOutcome(
        metric=condition.metric,
        against=condition.against,
        compare=condition.compare if condition.against else None,
        bound=condition.bound,
        number=number,
        min=condition.min,
        max=condition.max,
        **decided,
    )
