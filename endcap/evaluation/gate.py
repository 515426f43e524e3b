"""The gate: the conditions of the spec, each with the number that it was decided by."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from endcap.evaluation.estimates import CHALLENGER, CHAMPION, Estimate, PairwiseComparison, compute_half_width, is_open
from endcap.evaluation.metrics import lower_is_better
from endcap.spec.gate import Condition

BEST_BASELINE = "best-baseline"
"""Stands in a condition for the baseline that is best on the condition's metric."""
GateDecision = Literal["passed", "failed", "undecided"]


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
        finite = {name: number if number is None or math.isfinite(number) else None for name, number in numbers.items()}
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
    return [_decide_condition(condition, metrics, comparisons, baselines, unjudged) for condition in conditions]


def decide_gate(outcomes: Sequence[ConditionOutcome], lacking: Sequence[str]) -> GateDecision:
    """The gate's word. lacking: what is missing of the evidence: then there is none for either other word."""
    if lacking:
        return "undecided"
    return "passed" if all(outcome.passed for outcome in outcomes) else "failed"


def find_best_baseline(metric: str, metrics: Mapping[str, Mapping[str, Estimate]], baselines: Sequence[str]) -> str:
    """The baseline with the best value of a metric; of equals the first in the spec."""
    sign = -1 if lower_is_better(metric) else 1
    return max(baselines, key=lambda name: sign * metrics[name][metric].value)


def _decide_condition(
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
        return _build_outcome(
            condition, None, passed=not unjudged, text=f"{metric} against the champion: {note}", note=note
        )
    if other is None:
        estimate, what = metrics[CHALLENGER][metric], metric
    else:
        estimate = comparisons[other].by(condition.compare, metric)
        what = f"{metric} {_WORDS[condition.compare].format(other=other)}"
    number, note = _select_number(condition, estimate)
    if condition.min is not None:
        passed, limit = number >= condition.min, f"at least {condition.min:g}"
    else:
        assert condition.max is not None
        passed, limit = number <= condition.max, f"at most {condition.max:g}"
    end = "" if condition.bound == "estimate" or note else f" ({'lower' if condition.min is not None else 'upper'} end)"
    text = f"{what}{end} is {number:.4g}, {'' if passed else 'not '}{limit}"
    if note:
        text += f" ({note})"
    return _build_outcome(
        condition,
        number,
        passed=passed,
        text=text,
        note=note,
        other=other,
        what=what,
        half_width=compute_half_width(
            None if other is None else condition.compare, estimate, metrics[other or CHALLENGER][metric].value
        ),
        is_open=is_open(condition, estimate),
    )


_WORDS = {
    "difference": "minus {other}'s",
    "ratio": "over {other}'s",
    "relative": "relative to {other}'s",
}


def _select_number(condition: Condition, estimate: Estimate) -> tuple[float, str]:
    """The number that the condition is about."""
    if condition.bound == "estimate":
        return estimate.value, ""
    end = estimate.lower if condition.min is not None else estimate.upper
    return (estimate.value, "has no interval: the estimate counts") if end is None else (end, "")


def _build_outcome(condition: Condition, number: float | None, **decided: Any) -> ConditionOutcome:
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
