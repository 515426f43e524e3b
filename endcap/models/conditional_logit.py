"""Choices among alternatives by weighted features: the weights under which they are likeliest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Weights = NDArray[np.float64]
_STEPS = 50
_HALVINGS = 30
_GAIN = 1e-10
"""Of the loss: a step that gains a smaller part of it is the last."""
_LEAST_VARIANCE = 1e-6
_VALUES_AT_ONCE = 1_000_000


@dataclass(frozen=True)
class Choices:
    """Choices that were made, each among alternatives.

    Attributes
    ----------
    values
        float32 [choices, alternatives, features].
    offsets
        float32 [choices, alternatives], added to an alternative's utility: the logarithm of how many it stands for;
        -inf where there is none.
    chosen
        int64 [choices], the alternative that was chosen.
    """

    values: NDArray[np.float32]
    offsets: NDArray[np.float32]
    chosen: NDArray[np.int64]

    def iterate_parts(self) -> Iterator[tuple[Weights, Weights, NDArray[np.int64]]]:
        """Yield values, offsets and chosen alternatives of some choices at a time, as float64."""
        size = max(1, _VALUES_AT_ONCE // max(1, self.values.shape[1] * self.values.shape[2]))
        for begin in range(0, len(self.chosen), size):
            part = slice(begin, begin + size)
            yield self.values[part].astype(np.float64), self.offsets[part].astype(np.float64), self.chosen[part]


def fit_conditional_logit(choices: Choices, prior: Weights, strength: float) -> Weights:
    """Find the weights under which the choices are likeliest.

    Parameters
    ----------
    choices
        The choices.
    prior
        float64 [features], the weights if there were no choices.
    strength
        Above 0: how many choices the prior counts for.

    Returns
    -------
    numpy.ndarray
        float64 [features].

    Notes
    -----
    The model is the conditional logit of McFadden, 1974, "Conditional logit analysis of qualitative choice behavior":
    the probability of an alternative is proportional to exp(offset + weights * values). The loss is its negative
    log-likelihood plus a ridge penalty on the distance to the prior, in which a feature counts by its mean variance
    within a choice. The loss is convex; Newton's method with halved steps minimises it.
    """
    penalty = strength * np.maximum(_measure_variances(choices, len(prior)), _LEAST_VARIANCE)
    weights = prior.copy()
    loss, slope, curvature = _measure(choices, weights, prior, penalty)
    for _ in range(_STEPS):
        step = np.linalg.solve(curvature, slope)
        for halving in range(_HALVINGS):
            tried = weights - step * 0.5**halving
            tried_loss, *derivatives = _measure(choices, tried, prior, penalty)
            if tried_loss <= loss:
                break
        else:
            break
        gain, weights, loss, (slope, curvature) = loss - tried_loss, tried, tried_loss, derivatives
        if gain <= _GAIN * max(1.0, abs(loss)):
            break
    return weights


def _measure_variances(choices: Choices, features: int) -> Weights:
    """Return each feature's mean variance among the alternatives of a choice."""
    total = np.zeros(features)
    for values, offsets, _ in choices.iterate_parts():
        present = np.isfinite(offsets)[:, :, None]
        count = present.sum(axis=1)
        mean = np.where(present, values, 0.0).sum(axis=1) / count
        total += (np.where(present, (values - mean[:, None, :]) ** 2, 0.0).sum(axis=1) / count).sum(axis=0)
    return total / max(1, len(choices.chosen))


def _measure(choices: Choices, weights: Weights, prior: Weights, penalty: Weights) -> tuple[float, Weights, Weights]:
    """Return the loss, its slope [features] and its curvature [features, features]."""
    distance = weights - prior
    loss, slope, curvature = float(penalty @ distance**2) / 2, penalty * distance, np.diag(penalty)
    for values, offsets, chosen in choices.iterate_parts():
        rows = np.arange(len(chosen))
        utilities = values @ weights + offsets
        utilities -= utilities.max(axis=1, keepdims=True)
        shares = np.exp(utilities)
        sums = shares.sum(axis=1, keepdims=True)
        loss += float((np.log(sums[:, 0]) - utilities[rows, chosen]).sum())
        shares /= sums
        means = np.einsum("ca,caf->cf", shares, values)
        slope = slope + (means - values[rows, chosen]).sum(axis=0)
        flat = values.reshape(-1, values.shape[2])
        curvature = curvature + (flat * shares.reshape(-1, 1)).T @ flat - means.T @ means
    return loss, slope, curvature
