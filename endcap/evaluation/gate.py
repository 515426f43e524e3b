"""The gate: the conditions of the spec, each with the number that it was decided by."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from endcap.evaluation.metrics import lower_is_better
from endcap.spec.gate import Condition

CHALLENGER, CHAMPION, BEST_BASELINE = "challenger", "champion", "best-baseline"


@dataclass(frozen=True)
class Estimate:
    """A number and its interval; a metric without an interval has none."""

    value: float
    lower: float | None = None
    upper: float | None = None


@dataclass(frozen=True)
class Comparison:
    """The challenger against one other model, by metric."""

    difference: Mapping[str, Estimate]
    ratio: Mapping[str, Estimate]


@dataclass(frozen=True)
class Outcome:
    """One condition, decided. number: what was held against the limit; None where there was nothing to compare."""

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

    def to_json(self) -> dict[str, Any]:
        number = self.number if self.number is None or math.isfinite(self.number) else None
        return {**asdict(self), "number": number}


def decide(
    conditions: Sequence[Condition],
    metrics: Mapping[str, Mapping[str, Estimate]],
    comparisons: Mapping[str, Comparison],
    baselines: Sequence[str],
) -> list[Outcome]:
    """Each condition's outcome, in their order; the gate is passed if all are.

    metrics: by model (challenger, champion where there is one, each baseline) and metric. comparisons: of the
    challenger with each other model. best-baseline is the baseline that is best on the condition's own metric.
    A condition against the champion is passed where there is none.
    """
    return [_decide(condition, metrics, comparisons, baselines) for condition in conditions]


def best_baseline(metric: str, metrics: Mapping[str, Mapping[str, Estimate]], baselines: Sequence[str]) -> str:
    """The baseline with the best value of a metric; of equals the first in the spec."""
    sign = -1 if lower_is_better(metric) else 1
    return max(baselines, key=lambda name: sign * metrics[name][metric].value)


def _decide(
    condition: Condition,
    metrics: Mapping[str, Mapping[str, Estimate]],
    comparisons: Mapping[str, Comparison],
    baselines: Sequence[str],
) -> Outcome:
    other = condition.against
    if other == BEST_BASELINE:
        other = best_baseline(condition.metric, metrics, baselines)
    if other == CHAMPION and CHAMPION not in metrics:
        text = f"{condition.metric} against the champion: no champion yet"
        return _outcome(condition, None, passed=True, text=text, note="no champion yet")
    if other is None:
        found, what = metrics[CHALLENGER][condition.metric], condition.metric
    elif condition.compare == "difference":
        found, what = comparisons[other].difference[condition.metric], f"{condition.metric} minus {other}'s"
    else:
        found, what = comparisons[other].ratio[condition.metric], f"{condition.metric} over {other}'s"
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
    return _outcome(condition, number, passed=passed, text=text, note=note)


def _held(condition: Condition, found: Estimate) -> tuple[float, str]:
    """The number that the condition is about."""
    if condition.bound == "estimate":
        return found.value, ""
    end = found.lower if condition.min is not None else found.upper
    return (found.value, "has no interval: the estimate counts") if end is None else (end, "")


def _outcome(condition: Condition, number: float | None, *, passed: bool, text: str, note: str) -> Outcome:
    return Outcome(
        metric=condition.metric,
        against=condition.against,
        compare=condition.compare if condition.against else None,
        bound=condition.bound,
        number=number,
        min=condition.min,
        max=condition.max,
        passed=passed,
        text=text,
        note=note,
    )
