"""Every prefix of every test session, ranked over the whole catalogue, in blocks of bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from endcap.features.sessions import Ints, Sessions
from endcap.models import NO_ITEM, Model, mask_excluded, top
from endcap.spec.recommender import Exclude

SCORE_BYTES = 64 * 2**20
"""Of one block's scores; small enough to stay near the processor, far below what a machine has."""
PREFIX_EVENTS = 4_000_000
"""Events of all prefixes that are laid out at once: a session of length l has l (l - 1) / 2 of them."""
Items = NDArray[np.int32]


@dataclass(frozen=True)
class Translation:
    """Between the test's vocabulary and another model's. to_own: int32 [test items], to_test: int32 [own items];
    -1 where the other side does not have the item."""

    to_own: Items
    to_test: Items

    @classmethod
    def between(cls, test: list[str], own: list[str]) -> Translation | None:
        """None where the two vocabularies are the same."""
        if test == own:
            return None
        own_index = {item: index for index, item in enumerate(own)}
        to_own = np.fromiter((own_index.get(item, NO_ITEM) for item in test), np.int32, len(test))
        to_test = np.full(len(own), NO_ITEM, dtype=np.int32)
        known = np.flatnonzero(to_own != NO_ITEM)
        to_test[to_own[known]] = known
        return cls(to_own, to_test)


@dataclass(frozen=True)
class Competitor:
    """A fitted model as it is judged: what it leaves out, and how its vocabulary relates to the test's."""

    model: Model
    exclude: Exclude = "none"
    translation: Translation | None = None
    evaluate: Callable[[Sessions], Mapping[str, NDArray[np.float32]]] | None = None
    """Makes the model's event-level features of what it is asked, where the test sessions do not bring its own."""


@dataclass(frozen=True)
class Block:
    """Some prefixes of the test sessions and what a model recommends after each.

    owner: int64 [b], the session. ends: int64 [b], the prefix's length, which is the position of the next item.
    targets: int32 [b], the next item. tops: int32 [b, k], best first, in the model's own vocabulary, -1 where the list
    is shorter. listed: the same in the test's vocabulary, -1 also for an item that the test does not know.
    """

    owner: Ints
    ends: Ints
    targets: Items
    tops: Items
    listed: Items

    @property
    def ranks(self) -> Ints:
        """The next item's place in the list, 1 the best, 0 where it is not listed: int64 [b]."""
        hits = self.listed == self.targets[:, None]
        return np.where(hits.any(axis=1), hits.argmax(axis=1) + 1, 0)


def rank_prefixes(competitor: Competitor, test: Sessions, k: int) -> Iterator[Block]:
    """The k best items after every proper prefix of every test session.

    Ties go to the smaller vocabulary index, which is the more popular item. An excluded item is not in the list, so a
    target that is excluded is a miss, and so is one that the model does not know; items of a prefix that it does not
    know are skipped.
    """
    size = max(1, SCORE_BYTES // (4 * competitor.model.n_items))
    for first, part in _parts(test):
        prefixes, targets, owner = part.prefixes()
        for start in range(0, len(prefixes), size):
            rows = np.arange(start, min(start + size, len(prefixes)))
            asked = prefixes.take(rows)
            tops = _recommend(competitor, asked, k)
            listed = tops
            if competitor.translation is not None:
                listed = np.where(tops == NO_ITEM, NO_ITEM, competitor.translation.to_test[tops]).astype(np.int32)
            yield Block(owner[rows] + first, asked.lengths, targets[rows], tops, listed)


def _recommend(competitor: Competitor, prefixes: Sessions, k: int) -> Items:
    own = prefixes if competitor.translation is None else _translate(prefixes, competitor.translation.to_own)
    if competitor.evaluate is not None:
        own = replace(own, features=competitor.evaluate(own))
    scores = competitor.model.score(own)
    mask_excluded(scores, own, competitor.exclude)
    return top(scores, k).items


def _translate(sessions: Sessions, to_own: Items) -> Sessions:
    """The sessions in another vocabulary, without the items that it lacks."""
    items = to_own[sessions.items]
    known = items != NO_ITEM
    counts = np.bincount(sessions.session_of_event[known], minlength=len(sessions))
    return Sessions(
        items[known],
        sessions.times[known],
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        sessions.customers,
        {name: values[known] for name, values in sessions.features.items()},
        None if sessions.types is None else sessions.types[known],
    )


def _parts(test: Sessions) -> Iterator[tuple[int, Sessions]]:
    """Runs of sessions whose prefixes together are not too many events, each with its first session's number."""
    load = np.cumsum(test.lengths * (test.lengths - 1) // 2)
    start = 0
    while start < len(test):
        done = load[start - 1] if start else 0
        end = max(start + 1, int(np.searchsorted(load, done + PREFIX_EVENTS, side="right")))
        yield start, test.take(np.arange(start, end))
        start = end
