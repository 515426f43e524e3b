"""What is expected of a visit before it: the running rate of its group, from earlier visits alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray

from endcap.experiments.running_sums import accumulate

_Floats = NDArray[np.float64]
_Ints = NDArray[np.int64]


class ExpectedRates:
    """Running rates by group, which predict a visit's outcomes from earlier visits alone: the `expected` of the score.

    Groups are places, hours, or classes of the champion's own score for the ranking (`np.searchsorted` over fixed
    edges). What a group explains of the outcomes leaves the variance.

    Parameters
    ----------
    rates
        float64 [groups]: the rate before any visit, such as that of the weeks before.
    weight
        How many exposures that rate is worth.

    Notes
    -----
    ``m = (weight * rate + sum of earlier outcomes) / (weight + sum of earlier exposures)`` within the group. Under no
    effect m depends on outcomes and not on arms, so the score's design stays exact. A rate by shopper must come from
    before the rollout (`ShopperHistory`): one that learns from visits to the arm takes a part of the effect away.
    """

    def __init__(self, rates: Sequence[float] | _Floats, weight: float = 1_000.0) -> None:
        prior = np.array(rates, np.float64)
        self._outcomes, self._exposures = prior * weight, np.full(len(prior), float(weight))

    def predict(self, group: _Ints, exposures: _Floats, outcome: _Floats, score: _Floats | None = None) -> _Floats:
        """Return each visit's expected rate, from the visits before it, and then take the visits: float64 [n].

        With a `score`, such as the clicks per ranking that the champion's model expects, the group's rate is what
        the score must be multiplied by: 1 if the model is right.
        """
        if score is not None:
            return score * self.predict(group, exposures * score, outcome)
        expected = np.empty(len(group))
        several = len(self._outcomes) > 1
        for number in np.flatnonzero(np.bincount(group)).tolist() if several else [0]:
            rows = np.flatnonzero(group == number) if several else slice(None)
            outcomes = accumulate(self._outcomes[number], outcome[rows])
            total = accumulate(self._exposures[number], exposures[rows])
            expected[rows] = outcomes[:-1] / total[:-1]
            self._outcomes[number], self._exposures[number] = outcomes[-1], total[-1]
        return expected

    def to_arrays(self) -> dict[str, _Floats]:
        """Return the sums, which `from_arrays` reads without any loss."""
        return {"outcomes": self._outcomes.copy(), "exposures": self._exposures.copy()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, _Floats]) -> Self:
        """Read what `to_arrays` returned."""
        rates = cls([])
        rates._outcomes, rates._exposures = arrays["outcomes"].copy(), arrays["exposures"].copy()
        return rates


class UsualOutcome:
    """The running mean of outcomes that are not 0, such as an average order."""

    def __init__(self) -> None:
        self._sum = self._count = 0.0

    def predict(self, outcome: _Floats) -> _Floats:
        """Return the mean before each visit, and then take the visits: float64 [n]; ``inf`` before any outcome."""
        sums, counts = accumulate(self._sum, np.abs(outcome)), accumulate(self._count, outcome != 0)
        self._sum, self._count = float(sums[-1]), float(counts[-1])
        usual = np.full(len(outcome), np.inf)
        np.divide(sums[:-1], counts[:-1], out=usual, where=counts[:-1] > 0)
        return usual
