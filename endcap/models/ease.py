"""EASE: linear item-to-item weights in closed form (Steck, 2019, "Embarrassingly shallow autoencoders")."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack
from scipy.sparse import csr_array

from endcap.errors import DataError
from endcap.features.sessions import Sessions
from endcap.models import checkpoint
from endcap.models.base import FitReport, Fitting, Model, ModelState
from endcap.models.customer_items import CustomerItems, pick_scores, read_rows
from endcap.models.epochs import fit_fingerprint
from endcap.spec.model import EASESpec

MOST_ITEMS = 30_000
"""Larger catalogues are refused: the fit holds items x items numbers of 8 bytes, 7.2 GB here."""
MOST_DENSE = 5_000
"""Up to so many items all weights are kept, 100 MB of them."""
KEPT = 1_000
"""In a larger catalogue, of each item's weights only so many, the strongest, are kept."""
DEAR = 2_000
"""From so many items a fit, which takes a second or more, is kept in its workspace."""
_BLOCK_NUMBERS = 8_000_000  # of the items x items matrix worked on at a time
Matrix = NDArray[np.float64]


class EASE(Model):
    """An item's score is the sum of its weights from the items of the session, and of its customer.

    Notes
    -----
    The weights B minimise |X - XB|² + lambda |B|² with a diagonal of zeros. X has a one where a row (a session, or a
    customer's whole history: `history`) holds an item. B = -P / diag(P) by column, off the diagonal, with P = (XᵀX +
    lambda I)⁻¹ (Steck, 2019, equation 8). With `history: customer` the model remembers customers' rows and scores by
    the items of the customer and the session together; a stranger's session counts alone. It has no opinion if there
    are none of these, nor on items that training does not have.
    """

    name = "ease"
    specification = EASESpec

    def __init__(self, parameters: EASESpec) -> None:
        self.parameters = parameters
        self.n_items = 0
        self.weights: NDArray[np.float32] | csr_array = np.zeros((0, 0), dtype=np.float32)
        self.known_items = np.zeros(0, dtype=np.bool_)
        self.histories = CustomerItems.make_empty()

    @property
    def known_customers(self) -> NDArray[np.int32]:
        return self.histories.customers

    def fit(self, train: Sessions, n_items: int, fitting: Fitting) -> FitReport:
        """Learn; see `Model.fit`. A large catalogue's fit is kept in the workspace and not repeated there.

        Raises
        ------
        DataError
            The catalogue is too large.
        """
        if n_items > MOST_ITEMS:
            raise DataError(
                f"model ease: the catalogue has {n_items:,} items, which would take {8 * n_items**2 / 1e9:,.0f} GB of "
                f"memory; allowed: at most {MOST_ITEMS:,} items. Take `name: item-knn`, whose memory grows with what "
                "was seen together, or set the shop's filters.min_item_events higher",
                code="models.too-many-items",
                model="ease",
                found=n_items,
                limit=MOST_ITEMS,
            )
        self.n_items = n_items
        if fitting.workspace is None or n_items < DEAR:
            self._solve(train)
            return FitReport()
        fit = fit_fingerprint(self.parameters.model_dump(mode="json"), train, n_items, fitting)
        if kept := checkpoint.read(fitting.workspace, fit):
            self._set_arrays(kept[1][self.name])
            return FitReport()
        self._solve(train)
        if fitting.keeps:
            checkpoint.write(fitting.workspace, fit, {}, {self.name: self._arrays()})
        return FitReport()

    def _solve(self, train: Sessions) -> None:
        n_items = self.n_items
        rows, self.histories = read_rows(train, n_items, self.parameters.history)
        gram = _compute_gram(rows)
        self.known_items = gram.diagonal() > 0
        gram[np.diag_indices(n_items)] += self.parameters.regularisation
        inverse = _invert(gram)
        self.weights = _compute_weights(inverse) if n_items <= MOST_DENSE else _keep_strongest(inverse, KEPT)

    def score(self, sessions: Sessions) -> NDArray[np.float32]:
        rows = self.histories.select_rows(sessions, self.n_items)
        product = rows @ self.weights
        scores: NDArray[np.float32] = product if isinstance(product, np.ndarray) else product.toarray()
        scores[:, ~self.known_items] = -np.inf
        scores[rows @ self.known_items.astype(np.float32) == 0] = -np.inf
        return scores

    def score_items(self, sessions: Sessions, items: Sequence[NDArray[np.int32]]) -> list[NDArray[np.float32]]:
        """See `Model.score_items`. If all weights are kept, every item is scored."""
        if isinstance(self.weights, np.ndarray):
            return super().score_items(sessions, items)
        rows = self.histories.select_rows(sessions, self.n_items)
        scores = pick_scores(rows @ self.weights, items)
        for values, indices, count in zip(scores, items, rows @ self.known_items.astype(np.float32), strict=True):
            values[~self.known_items[indices] | (count == 0)] = -np.inf
        return scores

    def get_state(self) -> ModelState:
        return ModelState(self._arrays())

    def set_state(self, state: ModelState) -> None:
        self._set_arrays(state.arrays)

    def _arrays(self) -> dict[str, NDArray[Any]]:
        arrays = {"seen": self.known_items.astype(np.uint8), **self.histories.arrays()}
        if isinstance(self.weights, np.ndarray):
            return {**arrays, "weights": self.weights}
        return arrays | {part: getattr(self.weights, part) for part in ("data", "indices", "indptr")}

    def _set_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take what `_arrays` returned."""
        self.known_items = arrays["seen"].astype(np.bool_)
        self.histories = CustomerItems.from_arrays(arrays)
        self.weights = arrays["weights"] if "weights" in arrays else _build_sparse(arrays, self.n_items)


def _compute_gram(rows: csr_array) -> Matrix:
    """Return XᵀX, float64 [items, items], of float32 ones: exact while an item has fewer than 2^24 rows."""
    n_items = rows.shape[1]
    gram = np.empty((n_items, n_items))
    columns = rows.T.tocsr()
    for begin, end in _list_blocks(n_items):
        gram[begin:end] = (columns[begin:end] @ rows).toarray()
    return gram


def _invert(gram: Matrix) -> Matrix:
    """Return the inverse of a symmetric positive definite matrix, in the matrix's own memory."""
    if not len(gram):
        return gram
    # Of a symmetric matrix the transpose is the same, in the order of memory that LAPACK works in.
    factor, _ = lapack.dpotrf(gram.T, lower=1, clean=0, overwrite_a=1)
    inverse, failed = lapack.dpotri(factor, lower=1, overwrite_c=1)
    if failed:
        raise ArithmeticError(f"dpotri: {failed}; a matrix with a ridge above 0 has an inverse")
    for begin, end in _list_blocks(len(inverse)):
        inverse[:begin, begin:end] = inverse[begin:end, :begin].T
        corner = np.tril(inverse[begin:end, begin:end])
        inverse[begin:end, begin:end] = corner + np.tril(corner, -1).T
    return np.asarray(inverse)


def _compute_weights(inverse: Matrix, begin: int = 0, end: int | None = None) -> NDArray[np.float32]:
    """Return columns begin:end of B: float32 [items, end - begin]."""
    ends = len(inverse) if end is None else end
    columns = np.arange(begin, ends)
    weights = inverse[:, begin:ends] / -inverse[columns, columns]
    weights[columns, columns - begin] = 0.0
    return weights.astype(np.float32)


def _keep_strongest(inverse: Matrix, count: int) -> csr_array:
    """Return B with the `count` entries of largest size of each column."""
    n_items = len(inverse)
    sources, targets, kept = [], [], []
    for begin, end in _list_blocks(n_items):
        weights = _compute_weights(inverse, begin, end)
        best = np.argpartition(-np.abs(weights), count, axis=0)[:count]
        sources.append(best.T.ravel().astype(np.int32))
        targets.append(np.repeat(np.arange(begin, end, dtype=np.int32), count))
        kept.append(np.take_along_axis(weights, best, axis=0).T.ravel())
    place = (np.concatenate(sources), np.concatenate(targets))
    matrix = csr_array((np.concatenate(kept), place), shape=(n_items, n_items))
    matrix.eliminate_zeros()
    return matrix


def _build_sparse(arrays: Mapping[str, NDArray[Any]], n_items: int) -> csr_array:
    return csr_array((arrays["data"], arrays["indices"], arrays["indptr"]), shape=(n_items, n_items))


def _list_blocks(n_items: int) -> list[tuple[int, int]]:
    step = max(1, _BLOCK_NUMBERS // max(n_items, 1))
    return [(begin, min(begin + step, n_items)) for begin in range(0, n_items, step)]
