"""Item neighbours by cosine (Sarwar et al., 2001, "Item-based collaborative filtering recommendation algorithms")."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from endcap.features.sessions import Ints, Sessions
from endcap.models.base import FitReport, Fitting, Model, ModelState
from endcap.models.customer_items import CustomerItems, pick_scores, read_rows
from endcap.models.rows import split_runs
from endcap.spec.model import ItemKNNSpec

_BLOCK_PAIRS = 10_000_000  # of items seen together, counted at a time


class ItemKNN(Model):
    """An item's score is the sum of its similarities to the items of the session, and of its customer.

    Attributes
    ----------
    similarity
        float32 [items had, items scored], sparse: a number for each neighbour of each scored item.

    Notes
    -----
    Of the rows (sessions, or customers' whole histories: `history`), c_i hold item i and c_ij hold both i and j. The
    two are similar by c_ij / (sqrt(c_i c_j) + shrink). Only an item's own most similar `neighbours` score it (ties: the
    smaller index), as in section 3.2 of Sarwar et al., 2001. If they were kept for each item of the history instead, as
    by Deshpande and Karypis (2004), popular items would be neighbours of most items and fill the rankings. With
    `history: customer` the model remembers customers' rows and scores by the items of the customer and the session
    together; a stranger's session counts alone. It has no opinion on items without any of these as a neighbour.
    """

    name = "item-knn"
    specification = ItemKNNSpec

    def __init__(self, parameters: ItemKNNSpec) -> None:
        self.parameters = parameters
        self._set_index(0, csr_array(np.zeros((0, 0), dtype=np.float32)), CustomerItems.make_empty())

    def _set_index(self, n_items: int, similarity: csr_array, histories: CustomerItems) -> None:
        self.n_items, self.similarity, self.histories = n_items, similarity, histories

    @property
    def known_customers(self) -> NDArray[np.int32]:
        return self.histories.customers

    def fit(self, train: Sessions, n_items: int, fitting: Fitting) -> FitReport:
        rows, histories = read_rows(train, n_items, self.parameters.history)
        self._set_index(n_items, self._find_neighbours(rows).T.tocsr(), histories)
        return FitReport()

    def _find_neighbours(self, rows: csr_array) -> csr_array:
        """Return each item's neighbours, from rows of ones [rows, items]: float32 [items, neighbours' items]."""
        n_items = rows.shape[1]
        columns = rows.T.tocsr()
        held = np.diff(columns.indptr)
        # A block's product visits, for each row that holds an item, all that the row holds.
        visits = columns @ np.diff(rows.indptr).astype(np.float64)
        counts, kept = [np.zeros(0, np.int64)], [(np.zeros(0, np.int32), np.zeros(0, np.float32))]
        for begin, end in split_runs(visits / _BLOCK_PAIRS):
            together = (columns[begin:end] @ rows).tocoo()
            item, other = together.row + begin, together.col
            cosine = together.data / (np.sqrt(held[item] * np.float64(1) * held[other]) + self.parameters.shrink)
            apart = item != other
            best = _select_first(item[apart], -cosine[apart], other[apart], self.parameters.neighbours)
            chosen = np.flatnonzero(apart)[best]
            counts.append(np.bincount(together.row[chosen], minlength=end - begin))
            kept.append((other[chosen].astype(np.int32), cosine[chosen].astype(np.float32)))
        starts = np.concatenate([[0], np.cumsum(np.concatenate(counts))])
        neighbours, similarities = (np.concatenate(part) for part in zip(*kept, strict=True))
        return csr_array((similarities, neighbours, starts), shape=(n_items, n_items))

    def score(self, sessions: Sessions) -> NDArray[np.float32]:
        scores: NDArray[np.float32] = (self.histories.select_rows(sessions, self.n_items) @ self.similarity).toarray()
        scores[scores == 0] = -np.inf
        return scores

    def score_items(self, sessions: Sessions, items: Sequence[NDArray[np.int32]]) -> list[NDArray[np.float32]]:
        """See `Model.score_items`."""
        scores = pick_scores(self.histories.select_rows(sessions, self.n_items) @ self.similarity, items)
        for values in scores:
            values[values == 0] = -np.inf
        return scores

    def get_state(self) -> ModelState:
        arrays: dict[str, NDArray[Any]] = {
            "neighbour_starts": self.similarity.indptr.astype(np.int64),
            "neighbours": self.similarity.indices.astype(np.int32),
            "similarities": self.similarity.data,
        }
        return ModelState({**arrays, **self.histories.arrays()})

    def set_state(self, state: ModelState) -> None:
        arrays, size = state.arrays, self.n_items
        parts = (arrays["similarities"], arrays["neighbours"], arrays["neighbour_starts"])
        self._set_index(size, csr_array(parts, shape=(size, size)), CustomerItems.from_arrays(arrays))


def _select_first(group: Ints, order: NDArray[np.float64], tie: Ints, count: int) -> Ints:
    """Return positions of each group's `count` entries of least `order`, by group and order: int64."""
    ranked = np.lexsort((tie, order, group))
    groups = group[ranked]
    place = np.arange(len(groups)) - np.searchsorted(groups, groups)
    return ranked[place < count]
