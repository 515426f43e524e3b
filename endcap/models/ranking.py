"""Ranked items: the best of scores, and scores of items that are left out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from endcap.features.sessions import Sessions
from endcap.models.topk import find_best
from endcap.spec.recommender import Exclude

NO_ITEM = -1
"""Pads a ranking that has fewer than k items."""


@dataclass(frozen=True)
class RankedItems:
    """The best items of some sessions, by their indices.

    Attributes
    ----------
    items
        int32 [n, k], best first, padded with `NO_ITEM`.
    scores
        float32 [n, k], -inf under the padding.
    """

    items: NDArray[np.int32]
    scores: NDArray[np.float32]


def mask_excluded(scores: NDArray[np.float32], sessions: Sessions, exclude: Exclude) -> None:
    """Set scores of a session's own items to -inf, in place.

    Parameters
    ----------
    scores
        float32 [n, n_items].
    sessions
        n sessions.
    exclude
        Which items: `none`, those of the `last` event, or `all`.
    """
    if exclude == "none":
        return
    picked = sessions.last(1) if exclude == "last" else sessions
    scores[picked.session_of_event, picked.items] = -np.inf


def top(scores: NDArray[np.float32], k: int) -> RankedItems:
    """Rank the k largest finite scores of each row.

    Parameters
    ----------
    scores
        float32 [n, m].
    k
        Items of a ranking. Of two items with equal scores the smaller index comes first.
    """
    order = find_best(scores, k)
    highest = np.where(order == NO_ITEM, -np.inf, np.take_along_axis(scores, order, axis=1)).astype(np.float32)
    pad = ((0, 0), (0, k - order.shape[1]))
    items = np.pad(order.astype(np.int32), pad, constant_values=NO_ITEM)
    return RankedItems(items, np.pad(highest, pad, constant_values=-np.inf))
