"""One model's metrics on the test sessions, kept by session so that they can be resampled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from endcap.evaluation.given_candidates import GivenCandidates
from endcap.evaluation.metrics import (
    COVERAGE,
    POPULARITY_BIAS,
    Doubles,
    ItemPopularity,
    RemainingItems,
    compute_metrics,
    list_metrics,
)
from endcap.evaluation.ranks import RankedBlock, rank_predictions
from endcap.evaluation.sampled_candidates import SampledCandidates
from endcap.evaluation.scoring import EvaluatedModel
from endcap.features.queries import QueryTargets
from endcap.features.sessions import Sessions
from endcap.models import NO_ITEM

_SESSION = (("2", 2), ("3-4", 3), ("5-9", 5), ("10+", 10))
DAY = 86_400_000
AGE = "age"
SEGMENTS = {
    "prefix": (("1", 1), *_SESSION),
    "session": _SESSION,
    AGE: (("new", 0), ("1-7d", DAY), ("7-28d", 7 * DAY), ("older", 28 * DAY)),
}
"""Name and smallest value of each segment: of the events in the query, of the events in the whole test session, and of
the time from an item's first event to the prediction, in ms."""


@dataclass(frozen=True)
class ModelMetrics:
    """One model's metrics.

    Attributes
    ----------
    names
        The m metrics that are means over predictions.
    sums
        float64 [sessions, m].
    weights
        float64 [sessions, 2]: a session's predictions, and those whose list is not empty.
    weight_of
        int64 [m]: which of the two weights a metric is divided by.
    segment_sums, segment_weights
        The same by segment, for the divisions in SEGMENTS.
    coverage
        By name, the share of the model's catalogue that is recommended at least once.
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
        """Mean metrics and the number of `predictions`, by division and segment. Empty segments are left out."""
        return {division: self._table(division) for division in self.segment_sums}

    @property
    def predictions(self) -> int:
        return round(float(self.weights[:, 0].sum()))

    def _table(self, division: str) -> dict[str, dict[str, float]]:
        rows = zip(SEGMENTS[division], self.segment_sums[division], self.segment_weights[division], strict=True)
        return {
            name: {"predictions": round(float(weights[0]), 6), **self._by_name(sums, weights)}
            for (name, _), sums, weights in rows
            if weights[0]
        }

    def _by_name(self, sums: Doubles, weights: Doubles) -> dict[str, float]:
        means = sums / np.maximum(weights, 1)[self.weight_of]
        return dict(zip(self.names, means.tolist(), strict=True))


def measure_model(
    competitor: EvaluatedModel,
    predictions: QueryTargets,
    cutoffs: Sequence[int],
    popularity: ItemPopularity,
    *,
    negatives: SampledCandidates | GivenCandidates | None = None,
    first_seen: NDArray[np.int64] | None = None,
) -> ModelMetrics:
    """Rank the test's queries, and measure the lists at the cutoffs.

    Parameters
    ----------
    competitor
        The model.
    predictions
        Queries and targets of the test sessions.
    cutoffs
        Where lists are cut.
    popularity
        Of the training part.
    negatives
        What is ranked in place of the catalogue, see `rank_predictions`.
    first_seen
        int64 [items], epoch ms: when each item first occurred. With it there are segments by the target's age.
    """
    names, test = list_metrics(cutoffs), predictions.sessions
    # An empty list has no popularity: it is no part of that mean.
    weight_of = np.array([name.startswith(POPULARITY_BIAS) for name in names]).astype(np.int64)
    sums, weights = np.zeros((len(test), len(names))), np.zeros((len(test), 2))
    divisions = {division: rows for division, rows in SEGMENTS.items() if division != AGE or first_seen is not None}
    segment_sums = {division: np.zeros((len(rows), len(names))) for division, rows in divisions.items()}
    segment_weights = {division: np.zeros((len(rows), 2)) for division, rows in divisions.items()}
    shown = np.zeros((len(cutoffs), competitor.model.n_items), dtype=bool)
    rest = RemainingItems(test)
    for block in rank_predictions(competitor, predictions, max(cutoffs), negatives=negatives):
        values = compute_metrics(block, rest, cutoffs, popularity) * block.weights[:, None]
        counted = np.column_stack([np.ones(len(values)), block.tops[:, 0] != NO_ITEM]) * block.weights[:, None]
        _add_rows(sums, block.owner, values)
        _add_rows(weights, block.owner, counted)
        for division, measure in _measure_divisions(block, test, first_seen).items():
            edges = [fewest for _, fewest in divisions[division]]
            members = _mark_members(np.searchsorted(edges, measure, side="right") - 1, len(edges))
            segment_sums[division] += members @ values
            segment_weights[division] += members @ counted
        for row, cutoff in enumerate(cutoffs):
            listed = block.tops[:, :cutoff]
            shown[row, listed[listed != NO_ITEM]] = True
    coverage = {f"{COVERAGE}@{cutoff}": float(shown[row].mean()) for row, cutoff in enumerate(cutoffs)}
    return ModelMetrics(names, sums, weights, weight_of, segment_sums, segment_weights, coverage)


def _measure_divisions(
    block: RankedBlock, test: Sessions, first_seen: NDArray[np.int64] | None
) -> dict[str, NDArray[np.int64]]:
    """Return the value that divides a block's predictions, int64 [b], for each division."""
    measures = {"prefix": block.ends, "session": test.lengths[block.owner]}
    if first_seen is not None:
        moments = test.times[test.offsets[block.owner] + block.places]
        # Where others' later events are trained on, an item may be first met after it is asked for: it is new then.
        measures[AGE] = np.maximum(moments - first_seen[block.targets], 0)
    return measures


def _mark_members(segment: NDArray[np.int64], count: int) -> Doubles:
    """Mark which predictions belong to which segment: float64 [count, b], 1 or 0."""
    members: Doubles = (segment == np.arange(count)[:, None]).astype(np.float64)
    return members


def _add_rows(table: Doubles, rows: NDArray[np.int64], values: Doubles) -> None:
    """Add values [b, m] to rows of a table; the rows ascend."""
    starts = np.flatnonzero(np.diff(rows, prepend=-1))
    table[rows[starts]] += np.add.reduceat(values, starts, axis=0)
