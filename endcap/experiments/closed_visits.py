"""Visits of shoppers whose attribution windows are over, as arrays: what an arm's effect is computed from."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from endcap.errors import DataError

_Floats = NDArray[np.float64]
_Ints = NDArray[np.int64]
_Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class ClosedVisits:
    """Visits whose attribution windows are over, of two arms alone, in the order in which they closed.

    Attributes
    ----------
    shopper
        int64 [n]: the shoppers' numbers, from 0 on.
    treated
        bool [n]: whether the visit met the arm that is judged, and not the stable version.
    probability
        float64 [n]: the probability of that at the visit's moment, among the two arms (`TrafficSplit.probability`).
        A visit with 0 or 1 tells nothing and is passed over.
    exposures
        float64 [n]: what the metric is counted by, such as rankings that were seen; 1 for a metric per visit.
    outcome
        float64 [n]: clicks, 1 for a buyer, revenue.
    expected
        float64 [n]: the outcomes per exposure that were expected before the visit (`ExpectedRates`, or any other
        prediction that does not use which arm this shopper met).
    unit
        float64 [n], or one number: one usual outcome, as known before the visit; 1 for clicks and buyers, a usual order
        for revenue. ``inf``: not known yet. It scales the test of small samples.
    layout
        float64 [n], or one number: during an A/B test the number of the visit's layout (`number_layout`); else 0.
    is_moved
        bool [n], or one for all: whether the shopper met a third arm of the A/B test before the visit. The test of
        small samples leaves such shoppers out.
    """

    shopper: _Ints
    treated: _Flags
    probability: _Floats
    exposures: _Floats
    outcome: _Floats
    expected: _Floats
    unit: _Floats | float = 1.0
    layout: _Floats | float = 0.0
    is_moved: _Flags | bool = False

    def __len__(self) -> int:
        return len(self.shopper)

    def __getitem__(self, rows: slice | NDArray[Any]) -> Self:
        """Return some of the visits."""
        columns = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        arrays = {name: value[rows] for name, value in columns.items() if isinstance(value, np.ndarray)}
        return replace(self, **arrays)

    def check(self) -> None:
        """Raise DataError for values that are not finite numbers."""
        numbers = (self.probability, self.exposures, self.outcome, self.expected)
        if not all(np.isfinite(values).all() for values in numbers):
            raise DataError(
                "closed visits: found a value that is no finite number; allowed: finite numbers",
                code="experiments.visits-not-finite",
            )
