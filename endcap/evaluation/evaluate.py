"""One model's metrics on the test sessions, kept by session so that they can be resampled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from endcap.evaluation.metrics import (
    COVERAGE,
    POPULARITY_BIAS,
    Doubles,
    Popularity,
    Rest,
    metric_names,
    prediction_values,
)
from endcap.evaluation.ranks import Competitor, rank_prefixes
from endcap.features.sessions import Sessions
from endcap.models import NO_ITEM

SEGMENTS = (("1", 1, 1), ("2", 2, 2), ("3-4", 3, 4), ("5-9", 5, 9), ("10+", 10, None))
"""By events in the prefix: name, fewest, most."""


@dataclass(frozen=True)
class Evaluation:
    """names [m]: the metrics that are means. sums, weights: float64 [sessions, m], over a session's predictions; the
    mean is sum / weight. segment_sums, segment_weights: float64 [segments, m]. coverage: by name, the share of the
    model's catalogue that is recommended at least once."""

    names: list[str]
    sums: Doubles
    weights: Doubles
    segment_sums: Doubles
    segment_weights: Doubles
    coverage: dict[str, float]

    @property
    def metrics(self) -> dict[str, float]:
        """Every metric over all predictions, by name."""
        return {**self._by_name(self.sums.sum(axis=0), self.weights.sum(axis=0)), **self.coverage}

    @property
    def segments(self) -> dict[str, dict[str, float]]:
        """The mean metrics, and `predictions`, by the prefix's length; lengths that never occur are left out."""
        table = {}
        for row, (name, _, _) in enumerate(SEGMENTS):
            if self.segment_weights[row, 0]:
                means = self._by_name(self.segment_sums[row], self.segment_weights[row])
                table[name] = {"predictions": float(self.segment_weights[row, 0]), **means}
        return table

    @property
    def predictions(self) -> int:
        return int(self.weights[:, 0].sum())

    def _by_name(self, sums: Doubles, weights: Doubles) -> dict[str, float]:
        means = sums / np.maximum(weights, 1)
        return dict(zip(self.names, means.tolist(), strict=True))


def evaluate(competitor: Competitor, test: Sessions, cutoffs: Sequence[int], popularity: Popularity) -> Evaluation:
    """Rank the catalogue after every prefix of the test sessions and measure the lists at the cutoffs."""
    names = metric_names(cutoffs)
    biases = np.array([name.startswith(POPULARITY_BIAS) for name in names])
    sums, weights = (np.zeros((len(test), len(names))) for _ in range(2))
    segment_sums, segment_weights = (np.zeros((len(SEGMENTS), len(names))) for _ in range(2))
    shown = np.zeros((len(cutoffs), competitor.model.n_items), dtype=bool)
    rest = Rest(test)
    edges = np.array([fewest for _, fewest, _ in SEGMENTS])
    for block in rank_prefixes(competitor, test, max(cutoffs)):
        values = prediction_values(block, rest, cutoffs, popularity)
        # An empty list has no popularity: it is no part of that mean.
        counted = np.where(biases, (block.tops[:, :1] != NO_ITEM), True).astype(np.float64)
        segment = np.searchsorted(edges, block.ends, side="right") - 1
        for rows, sum_of, weight_of in (
            (block.owner, sums, weights),
            (segment, segment_sums, segment_weights),
        ):
            _add(sum_of, rows, values)
            _add(weight_of, rows, counted)
        for row, cutoff in enumerate(cutoffs):
            listed = block.tops[:, :cutoff]
            shown[row, listed[listed != NO_ITEM]] = True
    coverage = {f"{COVERAGE}@{cutoff}": float(shown[row].mean()) for row, cutoff in enumerate(cutoffs)}
    return Evaluation(names, sums, weights, segment_sums, segment_weights, coverage)


def next_item_mrr(competitor: Competitor, sessions: Sessions, cutoff: int = 20) -> float:
    """MRR@cutoff of the next item over all predictions: what training watches on its validation sessions."""
    total, count = 0.0, 0
    for block in rank_prefixes(competitor, sessions, cutoff):
        ranks = block.ranks
        total += float((1 / ranks[ranks > 0]).sum())
        count += len(ranks)
    return total / max(count, 1)


def _add(table: Doubles, rows: np.typing.NDArray[np.int64], values: Doubles) -> None:
    for column in range(values.shape[1]):
        table[:, column] += np.bincount(rows, weights=values[:, column], minlength=len(table))
