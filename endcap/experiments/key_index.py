"""Numbers in the place of 64-bit keys, so that what is known of each stands in arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class KeyIndex:
    """Numbers for 64-bit keys, from 0 on, in the order in which keys are first seen."""

    def __init__(self) -> None:
        self._ordered = np.zeros(0, np.uint64)
        self._numbers = np.zeros(0, np.int64)

    def __len__(self) -> int:
        return len(self._ordered)

    def number(self, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return each key's number, a new one for a new key: int64 [n]."""
        distinct, first = np.unique(keys, return_index=True)
        is_new = self.find(distinct) < 0
        if is_new.any():
            new = distinct[is_new][np.argsort(first[is_new])]
            ordered = np.concatenate([self._ordered, new])
            order = np.argsort(ordered)
            numbers = np.arange(len(self), len(ordered))
            self._numbers = np.concatenate([self._numbers, numbers])[order]
            self._ordered = ordered[order]
        return self.find(keys)

    def find(self, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return each key's number; -1 for a key without one: int64 [n]."""
        if not len(self):
            return np.full(len(keys), -1)
        at = np.minimum(np.searchsorted(self._ordered, keys), len(self) - 1)
        return np.where(self._ordered[at] == keys, self._numbers[at], -1)
