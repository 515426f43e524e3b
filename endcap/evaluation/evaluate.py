"""One model's metrics on the test sessions, kept by session so that they can be resampled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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

_SESSION = (("2", 2), ("3-4", 3), ("5-9", 5), ("10+", 10))
SEGMENTS = {"prefix": (("1", 1), *_SESSION), "session": _SESSION}
"""By events in the prefix and in the whole test session: name and fewest."""


@dataclass(frozen=True)
class Evaluation:
    """names [m]: the metrics that are means over predictions. sums: float64 [sessions, m].

    weights: float64 [sessions, 2], a session's predictions, and those of them whose list is not empty; weight_of [m]:
    which of the two a metric is divided by. segment_sums, segment_weights: the same by segment, for each division of
    SEGMENTS. coverage: by name, the share of the model's catalogue that is recommended at least once.
    """

    names: list[str]
    sums: Doubles
    weights: Doubles
    weight_of: NDArray[np.int64]
    segment_sums: dict[str, Doubles]
    segment_weights: dict[str, Doubles]
    coverage: dict[str, float]

    @property
    def segments(self) -> dict[str, dict[str, dict[str, float]]]:
        """The mean metrics, and `predictions`, by `prefix` and by `session` length; what never occurs is left out."""
        return {division: self._table(division) for division in SEGMENTS}

    @property
    def predictions(self) -> int:
        return int(self.weights[:, 0].sum())

    def _table(self, division: str) -> dict[str, dict[str, float]]:
        rows = zip(SEGMENTS[division], self.segment_sums[division], self.segment_weights[division], strict=True)
        return {
            name: {"predictions": float(weights[0]), **self._by_name(sums, weights)}
            for (name, _), sums, weights in rows
            if weights[0]
        }

    def _by_name(self, sums: Doubles, weights: Doubles) -> dict[str, float]:
        means = sums / np.maximum(weights, 1)[self.weight_of]
        return dict(zip(self.names, means.tolist(), strict=True))


def evaluate(competitor: Competitor, test: Sessions, cutoffs: Sequence[int], popularity: Popularity) -> Evaluation:
    """Rank the catalogue after every prefix of the test sessions and measure the lists at the cutoffs."""
    names = metric_names(cutoffs)
    # An empty list has no popularity: it is no part of that mean.
    weight_of = np.array([name.startswith(POPULARITY_BIAS) for name in names]).astype(np.int64)
    sums, weights = np.zeros((len(test), len(names))), np.zeros((len(test), 2))
    segment_sums = {division: np.zeros((len(rows), len(names))) for division, rows in SEGMENTS.items()}
    segment_weights = {division: np.zeros((len(rows), 2)) for division, rows in SEGMENTS.items()}
    edges = {division: np.array([fewest for _, fewest in rows]) for division, rows in SEGMENTS.items()}
    shown = np.zeros((len(cutoffs), competitor.model.n_items), dtype=bool)
    rest = Rest(test)
    for block in rank_prefixes(competitor, test, max(cutoffs)):
        values = prediction_values(block, rest, cutoffs, popularity)
        counted = np.column_stack([np.ones(len(values)), block.tops[:, 0] != NO_ITEM])
        _add(sums, block.owner, values)
        _add(weights, block.owner, counted)
        for division, length in (("prefix", block.ends), ("session", test.lengths[block.owner])):
            segment = np.searchsorted(edges[division], length, side="right") - 1
            _add(segment_sums[division], segment, values)
            _add(segment_weights[division], segment, counted)
        for row, cutoff in enumerate(cutoffs):
            listed = block.tops[:, :cutoff]
            shown[row, listed[listed != NO_ITEM]] = True
    coverage = {f"{COVERAGE}@{cutoff}": float(shown[row].mean()) for row, cutoff in enumerate(cutoffs)}
    return Evaluation(names, sums, weights, weight_of, segment_sums, segment_weights, coverage)


def _add(table: Doubles, rows: NDArray[np.int64], values: Doubles) -> None:
    for column in range(values.shape[1]):
        table[:, column] += np.bincount(rows, weights=values[:, column], minlength=len(table))
