"""What each shopper did before a rollout: a factor on what is expected of the shopper's visits during it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from endcap.experiments.running_sums import accumulate, widen

_Floats = NDArray[np.float64]
_Ints = NDArray[np.int64]
_Flags = NDArray[np.bool_]
_SUMS = ("pairs", "pair_squares", "weights", "squares", "expected_squares", "expected")
_SHOWN = 3.0
"""Shoppers differ if their pairs of visits say so by so many standard errors."""
_LEAST_NOISE = 0.1
"""At least so much of the variance of visits is taken for noise, however much shoppers differ."""


class ShopperHistory:
    """Outcomes of each shopper before the rollout, beside those that were expected, for one metric.

    It takes 8 bytes for each shopper. It depends on the order of visits, and on nothing else: neither on how they were
    cut into batches nor on the shoppers' numbers.

    Notes
    -----
    *Factor.* ``f = (phi + t Y) / (phi + t E)``: Y and E are the shopper's outcomes so far and those that the group's
    rate expected, t is the squared coefficient of variation between shoppers, and phi the variance of a single visit
    by what is expected of it (1 for clicks). This is the linear empirical Bayes estimate of Bühlmann and Straub
    ("Glaubwürdigkeit für Schadensätze", 1970), and the posterior mean of Poisson outcomes with Gamma-distributed
    tastes: a shopper without history has the factor 1.

    *Moments.* ``t = sum e_v (Y_v - E_v) / sum m_v E_v`` over visits v, with the residual e_v and the sums of the same
    shopper's earlier visits: two visits of one shopper have nothing in common but the shopper. Until this exceeds its
    standard error three times, shoppers are not shown to differ, and each factor is 1.

    *Only from before the rollout.* What a shopper does during the rollout is what is to be measured. A rate that learns
    from it is lower in a worse arm: it hides a part of the harm, and lets a promotion come too easily. It would not
    even help. A shopper keeps the arm, so the outcome of a visit tells of the arm what it tells of the shopper.
    """

    def __init__(self) -> None:
        self._outcomes = np.zeros(0, np.float32)
        self._expected = np.zeros(0, np.float32)
        self._sums = dict.fromkeys(_SUMS, 0.0)

    def predict(self, shopper: _Ints) -> _Floats:
        """Return the factor of each shopper as of now: float64 [n]."""
        self._grow(shopper)
        moments = {name: np.full(len(shopper), value) for name, value in self._sums.items()}
        return _compute_factors(moments, self._outcomes[shopper], self._expected[shopper])

    def learn(self, shopper: _Ints, expected: _Floats, outcome: _Floats) -> _Floats:
        """Take visits in their order, and return the factor of each as it was before the visit.

        Parameters
        ----------
        shopper
            int64 [n]: the shoppers' numbers.
        expected, outcome
            float64 [n]: the outcomes of each visit, and those that were expected by its group's rate alone.

        Returns
        -------
        ndarray
            float64 [n].
        """
        self._grow(shopper)
        outcomes, sums = np.empty(len(shopper)), np.empty(len(shopper))
        order = np.empty(len(self._outcomes), np.int32)
        rows = np.arange(len(shopper), dtype=np.int32)
        while len(rows):
            # Of a shopper with several visits, the first one goes before the others.
            order[shopper[rows[::-1]]] = rows[::-1]
            is_first = order[shopper[rows]] == rows
            now = rows[is_first]
            own = shopper[now]
            outcomes[now], sums[now] = self._outcomes[own], self._expected[own]
            self._outcomes[own] += outcome[now]
            self._expected[own] += expected[now]
            rows = rows[~is_first]
        residual = outcome - expected
        pairs = residual * (outcomes - sums)
        added = (pairs, pairs**2, expected * sums, residual**2, expected**2, expected)
        running = {name: accumulate(self._sums[name], values) for name, values in zip(_SUMS, added, strict=True)}
        self._sums = {name: float(values[-1]) for name, values in running.items()}
        return _compute_factors({name: values[:-1] for name, values in running.items()}, outcomes, sums)

    def _grow(self, shopper: _Ints) -> None:
        size = int(shopper.max(initial=-1)) + 1
        if size > len(self._outcomes):
            room = size + size // 8
            self._outcomes, self._expected = widen(self._outcomes, room), widen(self._expected, room)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the state as arrays, which `from_arrays` reads without any loss."""
        sums = np.array([self._sums[name] for name in _SUMS])
        return {"outcomes": self._outcomes.copy(), "expected": self._expected.copy(), "sums": sums}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Read what `to_arrays` returned."""
        history = cls()
        history._outcomes, history._expected = arrays["outcomes"].copy(), arrays["expected"].copy()
        history._sums = dict(zip(_SUMS, arrays["sums"].tolist(), strict=True))
        return history


def _compute_factors(
    moments: Mapping[str, _Floats], outcomes: NDArray[np.floating[Any]], expected: NDArray[np.floating[Any]]
) -> _Floats:
    is_shown = (moments["pairs"] > _SHOWN * np.sqrt(moments["pair_squares"])) & (moments["weights"] > 0)
    spread = np.divide(moments["pairs"], moments["weights"], out=np.zeros(len(is_shown)), where=is_shown)
    own = np.maximum(moments["squares"] - spread * moments["expected_squares"], _LEAST_NOISE * moments["squares"])
    noise = np.divide(own, moments["expected"], out=np.ones(len(is_shown)), where=is_shown)
    factors: _Floats = (noise + spread * outcomes) / (noise + spread * expected)
    return factors
