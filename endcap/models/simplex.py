"""A search for the largest value of a function of weights with sum 1, which need not be smooth or convex."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Weights = NDArray[np.float64]
_STEPS = (0.25, 0.125, 0.0625)
_MOST_STARTS = 2
"""How many of the starts the search goes on from."""


def climb(value: Callable[[Weights], float], starts: Sequence[Weights]) -> Weights:
    """Return the best weights that a pattern search finds: float64 [n], of no less value than any start.

    The search continues from the best starts (of equal ones the first). A step moves a share of the whole to one
    weight, or takes it off. If no step is better, shares get smaller.

    Parameters
    ----------
    value
        The function, of weights float64 [n].
    starts
        Weights to start from.
    """
    order = sorted(range(len(starts)), key=lambda place: -value(starts[place]))
    ends = [drop_idle(value, _climb_from(value, starts[place])) for place in order[:_MOST_STARTS]]
    return max(ends, key=value)


def _climb_from(value: Callable[[Weights], float], weights: Weights) -> Weights:
    for step in _STEPS:
        before = None
        while before is None or value(weights) > before:
            before = value(weights)
            for place in range(len(weights)):
                weights = max([weights, _increase(weights, place, step), _decrease(weights, place, step)], key=value)
    return weights


def drop_idle(value: Callable[[Weights], float], weights: Weights) -> Weights:
    """Set weights to 0 without which the value is no less, the smallest first, and scale the others to sum 1.

    Parameters
    ----------
    value
        The function, of weights float64 [n].
    weights
        float64 [n].
    """
    for place in np.argsort(weights, kind="stable"):
        fewer = _decrease(weights, int(place), 1.0)
        if value(fewer) >= value(weights):
            weights = fewer
    return weights


def _increase(weights: Weights, place: int, step: float) -> Weights:
    moved = (1 - step) * weights
    moved[place] += step
    return moved


def _decrease(weights: Weights, place: int, step: float) -> Weights:
    """Return weights less a share of one weight; the weights as they are if nothing would be left."""
    moved = weights.copy()
    moved[place] = max(0.0, moved[place] - step)
    return moved / moved.sum() if moved.sum() > 0 else weights
