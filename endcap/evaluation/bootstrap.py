"""Paired bootstrap intervals over sessions.

Whole sessions are drawn, because predictions of one session are not independent. All models are measured on the same
draws, so differences between models have narrower intervals than the models alone. Intervals are percentiles (Efron and
Tibshirani, 1993, "An introduction to the bootstrap", chapter 13; paired by test case as in Sakai, 2006).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from endcap.evaluation.metrics import Doubles

DRAW_BYTES = 32 * 2**20
"""Memory for the draws that are worked on at once."""


@dataclass(frozen=True)
class Interval:
    """Estimates and the ends of their intervals, each float64 [metrics]."""

    estimate: Doubles
    lower: Doubles
    upper: Doubles


class Bootstrap:
    """Resampled metrics of several models.

    Parameters
    ----------
    sums
        float64 [models, sessions, metrics]: each metric summed over a session's predictions.
    weights
        float64 [models, sessions, 2]: the number of predictions, and of those with a list; see `ModelMetrics`.
    weight_of
        int64 [metrics]: which of the two weights a metric is divided by.
    resamples, confidence, seed
        How often sessions are drawn, the share that an interval covers, and the seed of the draws.
    """

    def __init__(
        self,
        sums: Doubles,
        weights: Doubles,
        weight_of: NDArray[np.int64],
        *,
        resamples: int,
        confidence: float,
        seed: int,
    ) -> None:
        models, sessions, metrics = sums.shape
        self._quantiles = np.array([(1 - confidence) / 2, (1 + confidence) / 2])
        self.values = _divide_sums(sums.sum(axis=1), weights.sum(axis=1)[:, weight_of])
        """The estimates: float64 [models, metrics]."""
        self._drawn = np.empty((resamples, models, metrics))
        both = np.concatenate([sums, weights], axis=2).transpose(1, 0, 2).reshape(sessions, -1)
        generator = np.random.default_rng(seed)
        size = max(1, DRAW_BYTES // (8 * sessions))
        for start in range(0, resamples, size):
            count = min(size, resamples - start)
            totals = (_draw_counts(generator, count, sessions) @ both).reshape(count, models, -1)
            self._drawn[start : start + count] = _divide_sums(
                totals[..., :metrics], totals[..., metrics:][..., weight_of]
            )

    def estimate_value(self, model: int) -> Interval:
        """Return one model's metrics."""
        return self._interval(self.values[model], self._drawn[:, model])

    def estimate_difference(self, model: int, other: int) -> Interval:
        """Return one model's metrics minus another's."""
        return self._interval(self.values[model] - self.values[other], self._drawn[:, model] - self._drawn[:, other])

    def estimate_ratio(self, model: int, other: int) -> Interval:
        """Return one model's metrics over another's: infinite if only the other is 0, and 1 if both are."""
        return self._interval(
            _divide_estimates(self.values[model], self.values[other]),
            _divide_estimates(self._drawn[:, model], self._drawn[:, other]),
        )

    def _interval(self, estimate: Doubles, drawn: Doubles) -> Interval:
        # Linear interpolation between two infinities is no number.
        lower, upper = np.quantile(drawn, self._quantiles, axis=0, method="closest_observation")
        return Interval(estimate, lower, upper)


def _draw_counts(generator: np.random.Generator, count: int, sessions: int) -> Doubles:
    """Draw sessions with replacement; returns how often each is drawn in each resample: float64 [count, sessions]."""
    picks = generator.integers(0, sessions, size=(count, sessions))
    picks += np.arange(count)[:, None] * sessions
    return np.bincount(picks.ravel(), minlength=count * sessions).reshape(count, sessions).astype(np.float64)


def _divide_sums(sums: Doubles, weights: Doubles) -> Doubles:
    return np.divide(sums, weights, out=np.zeros_like(sums), where=weights > 0)


def _divide_estimates(numerator: Doubles, denominator: Doubles) -> Doubles:
    out = np.where(numerator == 0, 1.0, np.inf)
    return np.divide(numerator, denominator, out=out, where=denominator != 0)
