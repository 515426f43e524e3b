"""The items of customers or sessions as rows of a binary matrix, as user-to-item models read a log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from endcap.features.sessions import Ints, Sessions
from endcap.spec.model import History


@dataclass(frozen=True)
class CustomerItems:
    """The distinct items of each customer that a model remembers, in compressed rows.

    Attributes
    ----------
    customers
        int32 [c], indices of the dataset's customers, ascending.
    starts
        int64 [c+1]: customer number r had items[starts[r]:starts[r+1]].
    items
        int32, ascending for each customer.
    """

    customers: NDArray[np.int32]
    starts: Ints
    items: NDArray[np.int32]

    @classmethod
    def make_empty(cls) -> Self:
        """Return the items of no customer."""
        return cls(np.zeros(0, np.int32), np.zeros(1, np.int64), np.zeros(0, np.int32))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return arrays for the model's file; `from_arrays` takes them."""
        return {"customers": self.customers, "history_starts": self.starts, "history_items": self.items}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Return the object that `arrays` wrote."""
        return cls(arrays["customers"], arrays["history_starts"], arrays["history_items"])

    def select_rows(self, sessions: Sessions, n_items: int) -> csr_array:
        """Return the rows to score: a one for each item of a session and of its customer, float32 [n, n_items]."""
        known, place = find_sorted(self.customers, sessions.customers)
        counts = self.starts[place[known] + 1] - self.starts[place[known]]
        begins = np.repeat(self.starts[place[known]] - np.cumsum(counts) + counts, counts)
        own_items = self.items[begins + np.arange(counts.sum())]
        rows = np.concatenate([sessions.session_of_event, np.repeat(np.flatnonzero(known), counts)])
        return build_binary_rows(rows, np.concatenate([sessions.items, own_items]), len(sessions), n_items)


def read_rows(train: Sessions, n_items: int, history: History) -> tuple[csr_array, CustomerItems]:
    """Return the rows to learn from, and what is remembered of customers.

    Parameters
    ----------
    train
        Training sessions.
    n_items
        Items of the vocabulary.
    history
        `session`: a row is a session, and nothing is remembered. `customer`: a row is all that a customer had; a
        session of an unknown customer is a row of its own.

    Returns
    -------
    tuple
        Ones, float32 [rows, n_items]; and the customers' items.
    """
    if history == "session":
        return build_binary_rows(train.session_of_event, train.items, len(train), n_items), CustomerItems.make_empty()
    customers, owner = number_owners(train)
    rows = build_binary_rows(owner[train.session_of_event], train.items, int(owner.max(initial=-1)) + 1, n_items)
    known = rows[: len(customers)]
    return rows, CustomerItems(customers, known.indptr.astype(np.int64), known.indices.astype(np.int32))


def number_owners(train: Sessions) -> tuple[NDArray[np.int32], Ints]:
    """Return the customers that occur, ascending, and the number of each session's owner among them: int64 [n].

    A session of an unknown customer is an owner of its own, numbered after the customers.
    """
    known = train.customers >= 0
    customers, number = np.unique(train.customers[known], return_inverse=True)
    owner = np.empty(len(train), dtype=np.int64)
    owner[known] = number
    owner[~known] = len(customers) + np.arange(np.count_nonzero(~known))
    return customers.astype(np.int32), owner


def find_sorted(ascending: NDArray[np.int32], values: NDArray[np.int32]) -> tuple[NDArray[np.bool_], Ints]:
    """Find values in a sorted array.

    Parameters
    ----------
    ascending
        Distinct values, ascending.
    values
        [n], the values to find.

    Returns
    -------
    tuple of numpy.ndarray
        bool [n], whether each value occurs; and int64 [n], its position (any position if it does not occur).
    """
    if not len(ascending):
        return np.zeros(len(values), dtype=np.bool_), np.zeros(len(values), dtype=np.int64)
    place = np.minimum(np.searchsorted(ascending, values), len(ascending) - 1)
    return ascending[place] == values, place


def build_binary_rows(rows: Ints, items: NDArray[np.int32], n_rows: int, n_items: int) -> csr_array:
    """Return a matrix with a one for each pair (row, item), however often it occurs.

    Parameters
    ----------
    rows, items
        [e] each, the pairs.
    n_rows, n_items
        Sizes of the matrix.

    Returns
    -------
    scipy.sparse.csr_array
        float32 [n_rows, n_items], the columns of a row ascending.
    """
    pairs = np.unique(rows * np.int64(max(n_items, 1)) + items)
    row, item = np.divmod(pairs, max(n_items, 1))
    starts = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=n_rows))])
    return csr_array((np.ones(len(item), np.float32), item, starts), shape=(n_rows, n_items))


def pick_scores(rows: csr_array, items: Sequence[NDArray[np.int32]]) -> list[NDArray[np.float32]]:
    """Return rows[i, items[i]], 0 where nothing is stored: float32 [len(items[i])] for each row i."""
    picked = []
    for begin, end, indices in zip(rows.indptr[:-1], rows.indptr[1:], items, strict=True):
        # Of memory that is asked for as nought only what is touched is made.
        row = np.zeros(rows.shape[1], dtype=np.float32)
        row[rows.indices[begin:end]] = rows.data[begin:end]
        picked.append(row[indices])
    return picked
