"""Whether shoppers come to the arms as the split says: each shopper once, by the probability of the moment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from endcap.experiments.running_sums import widen
from endcap.experiments.sequential import compute_sample_ratio

_Floats = NDArray[np.float64]
_Ints = NDArray[np.int64]
_Flags = NDArray[np.bool_]


class SampleRatioState:
    """Counts each shopper once, by the probability of the moment: do shoppers come to the arm as the split says?"""

    def __init__(self) -> None:
        self.counts: dict[float, tuple[int, int]] = {}
        self._counted = np.zeros(0, np.bool_)

    def add(self, shopper: _Ints, treated: _Flags, probability: _Floats, is_new: _Flags | None = None) -> None:
        """Take exposures in their order.

        Parameters
        ----------
        shopper, treated, probability
            int64, bool and float64 [n]: as in `ClosedVisits`.
        is_new
            bool [n]: whether the shopper met no other arm of an A/B test before. One who did never counts: of those who
            come from a third arm, more come to the arm that took its shoppers. None: nobody did.
        """
        if not len(shopper):
            return
        if int(shopper.max()) >= len(self._counted):
            self._counted = widen(self._counted, max(int(shopper.max()) + 1, 2 * len(self._counted)))
        numbers, rows = np.unique(shopper, return_index=True)
        rows = rows[~self._counted[numbers]]
        rows = rows if is_new is None else rows[is_new[rows]]
        self._counted[numbers] = True
        for value in np.unique(probability[rows]).tolist():
            at = probability[rows] == value
            shoppers, arm = self.counts.get(value, (0, 0))
            self.counts[value] = (shoppers + int(at.sum()), arm + int(treated[rows][at].sum()))

    @property
    def e_value(self) -> float:
        """The e-value against "as the split says" (`compute_sample_ratio`)."""
        return compute_sample_ratio(self.counts)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the state as arrays, which `from_arrays` reads."""
        ordered = sorted(self.counts.items())
        return {
            "probabilities": np.array([key for key, _ in ordered], np.float64),
            "counts": np.array([count for _, count in ordered], np.int64).reshape(-1, 2),
            "shoppers": np.flatnonzero(self._counted),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Read what `to_arrays` returned."""
        state = cls()
        pairs = zip(arrays["probabilities"].tolist(), arrays["counts"].tolist(), strict=True)
        state.counts = {probability: (shoppers, treated) for probability, (shoppers, treated) in pairs}
        numbers = arrays["shoppers"]
        state._counted = np.zeros(int(numbers.max()) + 1 if len(numbers) else 0, np.bool_)
        state._counted[numbers] = True
        return state
