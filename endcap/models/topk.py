"""The best items of each row of scores, found exactly and quickly; of equal scores the smaller index comes first.

A catalogue is large and a list short. So each row is laid out in lanes, and one quick pass takes the maximum of each
column over the lanes. At least k values of the row reach the k-th largest maximum, and few more do. Only these are put
in order, as integers that hold a score and an index, so that no two are equal.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

NONE = -1
Scores = NDArray[np.float32]
Places = NDArray[np.int64]
MOST_LANES = 64
SCORES_AT_ONCE = 1_000_000
"""What is worked on at a time stays near the processor."""
_LOW = 0xFFFFFFFF
_LEAST = np.iinfo(np.int64).min


def find_best(scores: Scores, k: int) -> Places:
    """Return the positions of the k largest scores of each row, best first.

    Parameters
    ----------
    scores
        float32 [n, m]; NaN counts as -inf.
    k
        Positions for each row.

    Returns
    -------
    numpy.ndarray
        int64 [n, min(k, m)]; -1 if a row has no more scores above -inf.
    """
    scores = np.ascontiguousarray(scores, dtype=np.float32)
    k = min(k, scores.shape[1])
    order = np.empty((len(scores), k), dtype=np.int64)
    size = max(1, SCORES_AT_ONCE // max(1, scores.shape[1]))
    for start in range(0, len(scores), size):
        part = scores[start : start + size]
        border = _find_border(part, k)
        owner, places = np.divmod(np.flatnonzero(part >= border[:, None]), part.shape[1])
        order[start : start + size] = _order_places(part, owner, places, k)
    return order


def _find_border(scores: Scores, k: int) -> Scores:
    """Return a finite value for each row that its k largest finite values reach: float32 [n]."""
    rows, width = scores.shape
    lanes = min(MOST_LANES, int((width / max(k, 1)) ** 0.5))
    if lanes > 1:
        columns = width // lanes
        # fmax passes over NaN.
        scores = np.fmax.reduce(scores[:, : lanes * columns].reshape(rows, lanes, columns), axis=1)
    scores = np.where(np.isnan(scores), np.float32(-np.inf), scores)
    place = scores.shape[1] - k
    border: Scores = np.partition(scores, place, axis=1)[:, place] if k else np.zeros(rows, dtype=np.float32)
    return np.maximum(border, np.finfo(np.float32).min)


def _order_places(scores: Scores, owner: Places, places: Places, k: int) -> Places:
    """Return the k largest of some places of each row, best first, padded with -1. owner (ascending), places: [c]."""
    counts = np.bincount(owner, minlength=len(scores))
    keys = np.full((len(scores), max(k, int(counts.max(initial=0)))), _LEAST)
    keys[owner, np.arange(len(owner)) - (np.cumsum(counts) - counts)[owner]] = _make_keys(scores[owner, places], places)
    place = keys.shape[1] - k
    last = np.sort(np.partition(keys, place, axis=1)[:, place:] if 0 < place < keys.shape[1] else keys, axis=1)
    last = last[:, last.shape[1] - k :][:, ::-1]
    ordered: Places = np.where(last == _LEAST, NONE, _LOW - (last & _LOW))
    return ordered


def _make_keys(values: Scores, places: Places) -> Places:
    """Return integers in the order of the values, equal ones in the reverse order of their places: int64, like
    `values`.
    """
    # Adding 0 makes -0 plain 0. Of negative floats, whose bits ascend as they fall, the bits below the sign are turned.
    bits = (values + np.float32(0)).view(np.int32)
    ascending = np.where(bits < 0, bits ^ np.int32(0x7FFFFFFF), bits).astype(np.int64)
    keys: Places = (ascending << 32) + (_LOW - places)
    return keys
