"""The gate: the conditions of the spec, each with the number that decided it."""

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
    """One decided condition, as a verdict stores it.

    Attributes
    ----------
    number
        What was compared with the limit; None if there was nothing to compare.
    other
        The model that the challenger was compared with.
    what
        The number in words.
    half_width
        See `endcap.evaluation.estimates.compute_half_width`.
    is_open
        Whether the limit lies within the interval.
    """

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
        """Return it as a dictionary. JSON has no infinity: such a number is null, and the text says it."""
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
    """Decide each condition, in their order.

    Parameters
    ----------
    conditions
        Of the spec's gate. A condition against `best-baseline` means the baseline that is best on its own metric.
    metrics
        By model (challenger, champion if one is judged, each baseline) and metric.
    comparisons
        Of the challenger with each other model.
    baselines
        Labels, in the spec's order.
    unjudged
        Why there is a champion that could not be judged: conditions against it then fail. Without any champion they
        pass.
    """
    return [_decide_condition(condition, metrics, comparisons, baselines, unjudged) for condition in conditions]


def decide_gate(outcomes: Sequence[ConditionOutcome], lacking: Sequence[str]) -> GateDecision:
    """Return the gate's decision. Missing evidence makes it `undecided`, whatever the conditions say."""
    if lacking:
        return "undecided"
    return "passed" if all(outcome.passed for outcome in outcomes) else "failed"


def find_best_baseline(metric: str, metrics: Mapping[str, Mapping[str, Estimate]], baselines: Sequence[str]) -> str:
    """Return the baseline with the best value of a metric; of equal ones the first in the spec."""
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
        estimate = comparisons[other].select(condition.compare, metric)
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
    """Return the number that a condition is about, and a note if it is not the one that the spec asks for."""
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
