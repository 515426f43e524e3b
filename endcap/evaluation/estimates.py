"""Numbers with their intervals, and how precise they are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from endcap.spec.gate import P90_MS, Condition

CHALLENGER, CHAMPION = "challenger", "champion"
"""Labels of a verdict's models, as stored."""


@dataclass(frozen=True)
class Estimate:
    """A number and the ends of its interval; a metric without an interval has none."""

    value: float
    lower: float | None = None
    upper: float | None = None

    def subtract(self, number: float) -> Estimate:
        """Return the estimate, and both ends, less a number."""
        ends = (None if end is None else end - number for end in (self.lower, self.upper))
        return Estimate(self.value - number, *ends)


@dataclass(frozen=True)
class PairwiseComparison:
    """The challenger compared with one other model, by metric."""

    difference: Mapping[str, Estimate]
    ratio: Mapping[str, Estimate]

    def select(self, compare: str, metric: str) -> Estimate:
        """Return a metric's comparison as a condition asks for it.

        `compare` is `difference`, `ratio`, or `relative`: the difference over the other model's value, which is
        infinite if only that value is 0, and 0 if both are.
        """
        if compare == "difference":
            return self.difference[metric]
        return self.ratio[metric] if compare == "ratio" else self.ratio[metric].subtract(1.0)


def compute_half_width(compare: str | None, estimate: Estimate, value: float) -> float | None:
    """Return half the width of an interval as a share of a value.

    Parameters
    ----------
    compare
        The condition's `compare`; None: the metric by itself. Ratios and relative differences are shares already.
    estimate
        With the interval.
    value
        The other model's value, or the metric's own.

    Returns
    -------
    float or None
        None if there is no interval. Infinite if an end is, or if `value` is 0 and the interval is wider than a point.
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
    """Return whether the limit lies within the interval, so that the interval's width matters.

    The width of `p90_ms` never matters: its interval is over timed predictions, and more sessions do not narrow it.
    """
    if estimate.lower is None or estimate.upper is None or condition.metric == P90_MS:
        return False
    if condition.min is not None:
        return estimate.lower < condition.min <= estimate.upper
    assert condition.max is not None
    return estimate.lower <= condition.max < estimate.upper
