"""The validation part as a model is measured on it while it learns: one number, larger is better."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from endcap.features.queries import QueryTargets
from endcap.features.sessions import Ints, Sessions
from endcap.models.ranking import mask_excluded
from endcap.models.renaming import rename_fields
from endcap.spec.recommender import Exclude

CUTOFF = 20
_SCORE_BYTES = 64 * 2**20


class Scorer(Protocol):
    """The part of a model that validation uses."""

    n_items: int

    def score(self, sessions: Sessions) -> NDArray[np.float32]: ...


@rename_fields(asked="queries", wanted="targets")
@dataclass(frozen=True)
class Validation:
    """Queries, and the items that came next: p targets after q queries.

    Attributes
    ----------
    queries
        q sessions, as the model reads them.
    targets
        int32 [p], the items that came next.
    exclude
        Which items of a query are left out, as the recommender says it.
    histories
        The q sessions before preprocessing; None if there is none.
    row
        int64 [p], ascending: the query of each target; empty: one target for each query, in order. Targets of one query
        are of one moment: none is ranked against another.
    weights
        float64 [p], what each target counts; empty: 1.
    session
        int64 [p], ascending: the validation session of each target; empty: one for each.
    """

    queries: Sessions
    targets: NDArray[np.int32]
    exclude: Exclude = "none"
    histories: Sessions | None = None
    row: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    weights: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    session: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def __post_init__(self) -> None:
        count = len(self.targets)
        for name, values in (("row", np.arange(count)), ("weights", np.ones(count)), ("session", np.arange(count))):
            if count and not len(getattr(self, name)):
                object.__setattr__(self, name, values)

    @classmethod
    def of(cls, predictions: QueryTargets, exclude: Exclude) -> Validation:
        """Return the validation by queries of validation sessions and their targets."""
        return cls(
            predictions.prefixes(),
            predictions.targets,
            exclude,
            row=predictions.row,
            weights=predictions.weights,
            session=predictions.owner,
        )

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, mask: NDArray[np.bool_]) -> Validation:
        """Return the targets under a mask (bool [p]), which leaves or takes moments whole."""
        rows = np.unique(self.row[mask])
        return Validation(
            self.queries.take(rows),
            self.targets[mask],
            self.exclude,
            None if self.histories is None else self.histories.take(rows),
            np.searchsorted(rows, self.row[mask]),
            self.weights[mask],
            self.session[mask],
        )

    def measure(self, model: Scorer) -> float:
        """Return next_ndcg@20 among all items: 0 where a target is not listed, or where there is none."""
        return compute_ndcg(self.ranks(model), self.weights)

    def ranks(self, model: Scorer) -> Ints:
        """Return the rank of each target, 1 the best, 0 where the model does not list it: int64 [p]."""
        ranks = np.zeros(len(self), dtype=np.int64)
        for rows, taken in self.blocks(model.n_items):
            scores = model.score(self.queries.take(rows))
            self.mask(scores, rows)
            ranks[taken] = rank_within(scores, self.row[taken] - rows[0], self.targets[taken])
        return ranks

    def blocks(self, n_items: int) -> Iterator[tuple[Ints, slice]]:
        """Yield queries whose scores of so many items fit into a block of memory, and the slice of their targets."""
        size = max(1, _SCORE_BYTES // (4 * max(1, n_items)))
        for begin in range(0, len(self.queries), size):
            end = min(begin + size, len(self.queries))
            first, last = np.searchsorted(self.row, [begin, end])
            yield np.arange(begin, end), slice(int(first), int(last))

    def mask(self, scores: NDArray[np.float32], rows: Ints) -> None:
        """Set the scores of excluded items after some queries to -inf, in place.

        The items are those of the session before preprocessing.

        Parameters
        ----------
        scores
            float32 [len(rows), items].
        rows
            int64, the queries.
        """
        if self.exclude != "none":
            histories = self.queries if self.histories is None else self.histories
            mask_excluded(scores, histories.take(rows), self.exclude)


def compute_ndcg(ranks: Ints, weights: NDArray[np.float64] | None = None, cutoff: int = CUTOFF) -> float:
    """Compute NDCG at a cutoff with one relevant item: the weighted mean of 1 / log2(1 + rank).

    Parameters
    ----------
    ranks
        int64 [p], from 1; 0: not listed.
    weights
        float64 [p]; None: all count the same.
    cutoff
        Larger ranks count 0.

    Notes
    -----
    MRR hardly depends on whether an item is 10th or not listed, the hit rate not on whether it is first or 20th.
    Settings that one of them chooses do badly by the other. NDCG lies between.
    """
    counted = np.ones(len(ranks)) if weights is None else weights
    listed = (ranks > 0) & (ranks <= cutoff)
    gains = counted[listed] / np.log2(1 + ranks[listed])
    return float(gains.sum()) / max(float(counted.sum()), 1.0)


def rank_within(scores: NDArray[np.float32], row: Ints, targets: NDArray[np.int32]) -> Ints:
    """Rank each target in its row as if the other targets of that row were not there.

    Parameters
    ----------
    scores
        float32 [q, items].
    row
        int64 [p], ascending: the row of each target.
    targets
        int32 [p].

    Returns
    -------
    numpy.ndarray
        int64 [p], from 1; 0 if the target's score is -inf. Of equal scores the smaller index comes first.
    """
    alone = len(row) == 0 or bool((np.diff(row) > 0).all())
    if alone and len(row) == len(scores):
        return rank_targets(scores, targets)
    ranks = np.zeros(len(row), dtype=np.int64)
    counts = np.bincount(row, minlength=len(scores))
    size = max(1, _SCORE_BYTES // (4 * max(1, scores.shape[1])))
    for begin in range(0, len(row), size):
        part = slice(begin, begin + size)
        ranks[part] = rank_targets(scores[row[part]], targets[part])
    if counts.max(initial=0) > 1:
        # Of the targets of a row the n-th best has n - 1 of them before it.
        order = np.lexsort((np.where(ranks > 0, ranks, np.iinfo(np.int64).max), row))
        before = np.empty(len(row), dtype=np.int64)
        before[order] = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
        ranks = np.where(ranks > 0, ranks - before, 0)
    return ranks


def rank_targets(scores: NDArray[np.float32], targets: NDArray[np.int32]) -> Ints:
    """Rank one item of each row of [n, items]: int64 [n], 0 if its score is -inf; of equal scores the smaller index
    first.
    """
    own = scores[np.arange(len(targets)), targets][:, None]
    better = np.count_nonzero(scores > own, axis=1)
    # Ties are rare: rows without one need no second look.
    tied = np.flatnonzero(np.count_nonzero(scores == own, axis=1) > 1)
    before = np.arange(scores.shape[1]) < targets[tied, None]
    better[tied] += np.count_nonzero((scores[tied] == own[tied]) & before, axis=1)
    return np.where(np.isfinite(own[:, 0]), better + 1, 0).astype(np.int64)
