"""Running sums, added one by one: so they do not depend, to the last bit, on how values were cut into batches."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_Floats = NDArray[np.float64]
_Ints = NDArray[np.int64]


def accumulate(start: float, values: NDArray[Any]) -> _Floats:
    """Return the running sums from `start` on, added one by one: float64 [n + 1]."""
    sums = np.empty(len(values) + 1)
    sums[0] = start
    sums[1:] = values
    return np.cumsum(sums, out=sums)


def add_at(start: float, rows: _Ints, values: _Floats, places: _Ints) -> list[float]:
    """Return the running sums at some places, of values in rising rows. Rows without a value would add nothing."""
    sums: list[float] = accumulate(start, values)[np.searchsorted(rows, places)].tolist()
    return sums


def widen(values: NDArray[Any], size: int) -> NDArray[Any]:
    wider = np.zeros(size, values.dtype)
    wider[: len(values)] = values
    return wider
