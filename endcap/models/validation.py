"""The validation part as a model sees it while it learns: one number, larger is better."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from endcap.features.sessions import Ints, Sessions
from endcap.spec.recommender import Exclude

if TYPE_CHECKING:
    from endcap.models.base import Model

CUTOFF = 20
_SCORE_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Validation:
    """Histories and what came next. asked: sessions [p], as the model sees them; wanted: int32 [p]; exclude: as the
    recommender has it; histories: sessions [p] before preprocessing, None where there is none."""

    asked: Sessions
    wanted: NDArray[np.int32]
    exclude: Exclude = "none"
    histories: Sessions | None = None

    def __len__(self) -> int:
        return len(self.wanted)

    def measure(self, model: Model) -> float:
        """NDCG@20 of what came next, among all items: 0 where it is not listed, or where nothing was asked."""
        return ndcg(self.ranks(model))

    def ranks(self, model: Model) -> Ints:
        """The place of what came next, 1 the best, 0 where the model does not list it: int64 [p]."""
        ranks = np.zeros(len(self), dtype=np.int64)
        size = max(1, _SCORE_BYTES // (4 * max(1, model.n_items)))
        for begin in range(0, len(self), size):
            rows = np.arange(begin, min(begin + size, len(self)))
            scores = model.score(self.asked.take(rows))
            self.mask(scores, rows)
            ranks[rows] = places(scores, self.wanted[rows])
        return ranks

    def mask(self, scores: NDArray[np.float32], rows: Ints) -> None:
        """Set the scores of what is excluded after some histories to -inf, in place: float32 [len(rows), items].

        Items are left out of the history as it was, whatever preprocessing has made of it.
        """
        from endcap.models.base import mask_excluded

        if self.exclude != "none":
            histories = self.asked if self.histories is None else self.histories
            mask_excluded(scores, histories.take(rows), self.exclude)


def ndcg(ranks: Ints, cutoff: int = CUTOFF) -> float:
    """NDCG at a cutoff of one item, of ranks from 1, 0 where there is none: the mean of 1 / log2(1 + rank).

    MRR all but ignores whether an item is 10th or not listed, the hit rate whether it is first or 20th: settings that
    are chosen by one of them lose the other. This lies between.
    """
    listed = ranks[(ranks > 0) & (ranks <= cutoff)]
    return float((1 / np.log2(1 + listed)).sum()) / max(len(ranks), 1)


def places(scores: NDArray[np.float32], wanted: NDArray[np.int32]) -> Ints:
    """The rank of one item of each row of [n, items], ties to the smaller index; 0 where its score is -inf."""
    own = scores[np.arange(len(wanted)), wanted][:, None]
    better = np.count_nonzero(scores > own, axis=1)
    # Ties are rare: rows without one need no second look.
    tied = np.flatnonzero(np.count_nonzero(scores == own, axis=1) > 1)
    before = np.arange(scores.shape[1]) < wanted[tied, None]
    better[tied] += np.count_nonzero((scores[tied] == own[tied]) & before, axis=1)
    return np.where(np.isfinite(own[:, 0]), better + 1, 0).astype(np.int64)
