"""The best items of many customers at once, as the ranker would list them one by one."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from endcap.features.sessions import Ints, Sessions
from endcap.models import NO_ITEM, Model, top
from endcap.spec.recommender import Exclude

Scores = NDArray[np.float32]

SCORE_BYTES, LEAST_ROWS = 32 * 2**20, 32
"""Memory for one block's scores, and the least customers of a block. Two blocks are worked on at once, because the
scores of all customers would not fit into memory. Larger blocks cost time, because the system clears their memory each
time. If the catalogue is large, blocks of fewer customers would be slower for each customer."""


def count_block_rows(n_items: int) -> int:
    """Return the number of customers of a block."""
    return max(LEAST_ROWS, SCORE_BYTES // (4 * max(1, n_items)))


@dataclass(frozen=True)
class ItemLists:
    """Lists of n customers.

    `items` (int32 [n, k]) are vocabulary indices, best first, -1 behind a list's end. `scores` (float32 [n, k]) are NaN
    for popular items that fill up a list.
    """

    items: NDArray[np.int32]
    scores: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.items)


class ListRanker:
    """Lists by one model, without items that may not be shown.

    The items that the model scores come first, by score. Then, as fallback, come the most popular items that may be
    shown and are not listed yet, without a score. A list is shorter than k only if no more items may be shown.
    """

    def __init__(self, model: Model, exclude: Exclude, allowed: NDArray[np.bool_], k: int) -> None:
        """Prepare the ranking.

        `allowed` (bool [n_items]) is what the shop's rules leave to everyone. `exclude` applies to a session's own
        items.
        """
        self._model, self._exclude = model, exclude
        self._k = min(k, model.n_items)
        self._forbidden = np.flatnonzero(~allowed)
        # The vocabulary is in the order of popularity. An item that is forbidden has the place behind the last.
        self._popular = np.flatnonzero(allowed).astype(np.int32)
        self._place = np.full(model.n_items, len(self._popular), dtype=np.int64)
        self._place[self._popular] = np.arange(len(self._popular))

    def rank(self, sessions: Sessions, owned: Sessions, tell: Callable[[int], None] = lambda rows: None) -> ItemLists:
        """List the best items after each session.

        `owned` has as many sessions: items that session i's customer is not shown again. `tell` gets the number of
        sessions of each finished block, from another thread.
        """
        shape = (len(sessions), self._k)
        lists = ItemLists(np.empty(shape, dtype=np.int32), np.empty(shape, dtype=np.float32))
        size = count_block_rows(self._model.n_items)

        def ordered(rows: Ints, scores: Scores) -> None:
            self._order(scores, sessions.take(rows), owned.take(rows), lists.items, lists.scores, rows)
            tell(len(rows))

        # While one block is put in order, which takes one core, the next is scored.
        with ThreadPoolExecutor(1) as beside:
            before: Future[None] | None = None
            for start in range(0, len(sessions), size):
                rows = np.arange(start, min(start + size, len(sessions)))
                scores = self._model.score(sessions.take(rows))
                if before is not None:
                    before.result()
                before = beside.submit(ordered, rows, scores)
                del scores
            if before is not None:
                before.result()
        return lists

    def _order(
        self,
        scores: Scores,
        sessions: Sessions,
        owned: Sessions,
        items: NDArray[np.int32],
        values: Scores,
        rows: Ints,
    ) -> None:
        """Write a block's lists into `rows` of items and values. The scores are changed."""
        hidden = [owned]
        if self._exclude != "none":
            hidden.append(sessions.last(1) if self._exclude == "last" else sessions)
        scores[:, self._forbidden] = -np.inf
        for session_items in hidden:
            scores[session_items.session_of_event, session_items.items] = -np.inf
        best = top(scores, self._k)
        for row in np.flatnonzero(best.items[:, -1] == NO_ITEM):
            self._fill(
                best.items[row],
                [
                    session_items.items[session_items.offsets[row] : session_items.offsets[row + 1]]
                    for session_items in hidden
                ],
            )
        items[rows] = best.items
        # Padding has -inf; an item of the model's own has a finite score.
        values[rows] = np.where(np.isfinite(best.scores), best.scores, np.float32(np.nan))

    def _fill(self, listed: NDArray[np.int32], hidden: list[NDArray[np.int32]]) -> None:
        """Put the most popular items behind a list's end, in place."""
        count = int(np.count_nonzero(listed != NO_ITEM))
        taken = self._place[np.concatenate([listed[:count], *hidden])]
        # Of so many at least as many as are needed are not taken, if there are so many.
        free = np.ones(min(len(self._popular), len(listed) - count + len(taken)), dtype=bool)
        free[taken[taken < len(free)]] = False
        fallbacks = self._popular[: len(free)][free][: len(listed) - count]
        listed[count : count + len(fallbacks)] = fallbacks
