"""Ranking metrics at cutoffs, for each prediction.

A prediction is a query (a prefix of a test session), its target, and the list of items that a model recommends. Hit
rate, MRR and next NDCG look at the target alone. Recall, precision and NDCG look at the rest of the session: the set of
distinct items that follow. If several items came at one time, each is a target and is ranked without the others;
recall, precision and NDCG then use the query's own list, from which nothing is taken. These are the measures of the
session-based literature (Ludewig and Jannach, 2018, "Evaluation of session-based recommendation algorithms", sections
4.2 and 5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from endcap.evaluation.ranks import RankedBlock
from endcap.features.sessions import Sessions
from endcap.models import NO_ITEM
from endcap.spec.gate import P90_MS

PER_LIST = ("hr", "recall", "precision", "mrr", "next_ndcg", "ndcg")
POPULARITY_BIAS = "popularity_bias"
COVERAGE = "coverage"
Doubles = NDArray[np.float64]


def list_metrics(cutoffs: Sequence[int]) -> list[str]:
    """List the metrics that are means over predictions, in the order of `compute_metrics`' columns."""
    return [f"{name}@{cutoff}" for cutoff in cutoffs for name in (*PER_LIST, POPULARITY_BIAS)]


def lower_is_better(metric: str) -> bool:
    """Return whether less is better: so it is for popularity bias and for the time of a prediction."""
    return metric.startswith(POPULARITY_BIAS) or metric == P90_MS


class RemainingItems:
    """The distinct items that follow each prefix of the test sessions."""

    def __init__(self, test: Sessions) -> None:
        self._width = int(test.items.max(initial=0)) + 1
        position = np.arange(len(test.items)) - np.repeat(test.offsets[:-1], test.lengths)
        keys = test.session_of_event * self._width + test.items
        # An item follows a prefix of length e if its last event in the session is at position e or later.
        order = np.argsort(keys, kind="stable")
        is_last = np.ones(len(keys), dtype=bool)
        is_last[:-1] = keys[order][1:] != keys[order][:-1]
        self._keys = keys[order][is_last]
        self._last = position[order][is_last]
        marks = np.zeros(len(keys) + 1, dtype=np.int64)
        marks[1:][order[is_last]] = 1
        self._lasts_before = np.cumsum(marks)
        self._offsets = test.offsets

    def counts(self, block: RankedBlock) -> NDArray[np.int64]:
        """Count the distinct items that follow each query: int64 [b]."""
        starts = self._offsets[block.owner] + block.ends
        counts: NDArray[np.int64] = self._lasts_before[self._offsets[block.owner + 1]] - self._lasts_before[starts]
        return counts

    def hits(self, block: RankedBlock) -> NDArray[np.bool_]:
        """Mark the listed items that follow the query: bool [b, k]."""
        keys = block.owner[:, None] * self._width + block.listed
        place = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        follows = (self._keys[place] == keys) & (self._last[place] >= block.ends[:, None])
        inside: NDArray[np.bool_] = follows & (block.listed >= 0) & (block.listed < self._width)
        return inside


@dataclass(frozen=True)
class ItemPopularity:
    """Each item's training events as a share of the most popular item's: float64 [items]."""

    share: Doubles

    @classmethod
    def of(cls, training: Sessions, n_items: int) -> ItemPopularity:
        counts = np.bincount(training.items, minlength=n_items)
        return cls(counts / max(1, counts.max(initial=0)))


def compute_metrics(
    block: RankedBlock, rest: RemainingItems, cutoffs: Sequence[int], popularity: ItemPopularity
) -> Doubles:
    """Compute each prediction's metrics: float64 [b, metrics], with columns as in `list_metrics`.

    Notes
    -----
    Let the list be cut to its first k items, rel be the distinct items that follow, and rank the target's place:

    - hr@k: 1 if rank <= k.  mrr@k: 1 / rank if rank <= k, else 0.
    - next_ndcg@k: 1 / log2(1 + rank) if rank <= k, else 0: NDCG of the target alone. Settings are chosen by it.
    - recall@k: |list and rel| / |rel|.  precision@k: |list and rel| / k.
    - ndcg@k: sum over hits at place i of 1 / log2(i + 1), divided by that sum of an ideal list, whose first
      min(|rel|, k) places are hits (Järvelin and Kekäläinen, 2002, binary gain; as trec_eval's ndcg_cut).
    - popularity_bias@k: mean over the list of an item's training events divided by the most popular item's (average
      recommendation popularity, Yin et al., 2012, normalised as by Ludewig and Jannach, 2018). It is 0 for an empty
      list, which the mean over predictions leaves out.
    """
    ranks, hits, relevant = block.ranks, rest.hits(block), rest.counts(block)
    depth = hits.shape[1]
    discounts = 1 / np.log2(np.arange(2, depth + 2))
    ideal = np.concatenate([[0.0], np.cumsum(discounts)])
    hit_counts, gains = np.cumsum(hits, axis=1), np.cumsum(hits * discounts, axis=1)
    sizes = np.cumsum(block.tops != NO_ITEM, axis=1)
    share = np.where(block.listed >= 0, popularity.share[block.listed], 0.0)
    shares = np.cumsum(share, axis=1)
    columns = []
    for cutoff in cutoffs:
        at = cutoff - 1
        hit = (ranks > 0) & (ranks <= cutoff)
        columns += [
            hit,
            hit_counts[:, at] / relevant,
            hit_counts[:, at] / cutoff,
            np.where(hit, 1 / np.maximum(ranks, 1), 0.0),
            np.where(hit, 1 / np.log2(1 + np.maximum(ranks, 1)), 0.0),
            gains[:, at] / ideal[np.minimum(relevant, cutoff)],
            shares[:, at] / np.maximum(sizes[:, at], 1),
        ]
    return np.column_stack(columns).astype(np.float64)
