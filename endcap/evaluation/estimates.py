"""Numbers with their intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from endcap.spec.gate import P90_MS, Condition

CHALLENGER, CHAMPION = "challenger", "champion"
"""Labels of a verdict's models, as stored."""


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


def compute_half_width(compare: str | None, estimate: Estimate, value: float) -> float | None:
    """Half the width of a condition's interval as a share of a value, the other model's or the metric's own.

    compare: as the condition has it; None: the metric by itself. None where there is no interval; infinite where an
    end is, or where the value is 0 and the interval is no point.
    """
    if estimate.lower is None or estimate.upper is None:
        return None
    if estimate.lower == estimate.upper:
        return 0.0
    half = (estimate.upper - estimate.lower) / 2
    if compare in ("ratio", "relative"):
        return half
    return half / abs(value) if value else math.inf


def is_open(condition: Condition, estimate: Estimate) -> bool:
    """Whether the limit lies within the interval, so that its width matters.

    It does not matter of `p90_ms`, whose interval is over predictions that were timed: more sessions do not narrow it.
    """
    if estimate.lower is None or estimate.upper is None or condition.metric == P90_MS:
        return False
    if condition.min is not None:
        return estimate.lower < condition.min <= estimate.upper
    assert condition.max is not None
    return estimate.lower <= condition.max < estimate.upper
