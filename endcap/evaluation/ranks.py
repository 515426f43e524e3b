"""Prefixes of the test sessions, ranked over the whole catalogue or some of it, in blocks of bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from endcap.evaluation.barred import Barred
from endcap.evaluation.given import GivenItems
from endcap.evaluation.negatives import Negatives
from endcap.features.sessions import Ints, Sessions
from endcap.models import NO_ITEM, Model, mask_excluded, top
from endcap.spec.recommender import Exclude, Protocol

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
    customers: NDArray[np.int32] | None = None
    """The model's own index of each of the test's customers, -1 where it does not know one, and a last -1 for those who
    are unknown to the test too: int32 [c + 1]. None: the test's indices are its own."""
    barred: Barred | None = None
    """What the shop's rules take away; None: there are none."""


@dataclass(frozen=True)
class Block:
    """Some prefixes of the test sessions and what a model recommends after each.

    owner: int64 [b], the session, ascending. ends: int64 [b], the prefix's length, which is the position of the next
    item. targets: int32 [b], the next item. tops: int32 [b, k], best first, in the model's own vocabulary, -1 where the
    list is shorter. listed: the same in the test's vocabulary, -1 also for an item that the test does not know. weight:
    what a prediction counts, less than 1 where it is made among several draws of items.
    """

    owner: Ints
    ends: Ints
    targets: Items
    tops: Items
    listed: Items
    weight: float = 1.0

    @property
    def ranks(self) -> Ints:
        """The next item's place in the list, 1 the best, 0 where it is not listed: int64 [b]."""
        hits = self.listed == self.targets[:, None]
        return np.where(hits.any(axis=1), hits.argmax(axis=1) + 1, 0)


def rank_prefixes(
    competitor: Competitor,
    test: Sessions,
    k: int,
    *,
    protocol: Protocol = "every-prefix",
    negatives: Negatives | GivenItems | None = None,
) -> Iterator[Block]:
    """The k best items after every proper prefix of every test session, or after all but its last event.

    negatives: only the next item and these are ranked, a block for each draw; None: the whole catalogue.
    Ties go to the smaller vocabulary index, which is the more popular item. An excluded item is not in the list, nor is
    one that a rule takes away, so a target that is either is a miss, and so is one that the model does not know; items
    of a prefix that it does not know are skipped.
    """
    size = max(1, SCORE_BYTES // (4 * competitor.model.n_items))
    for first, part in _parts(test, size):
        prefixes, targets, owner = part.prefixes(last_only=protocol == "leave-one-out")
        at_once = protocol == "every-prefix" and competitor.translation is None and len(prefixes) <= size
        for start in range(0, len(prefixes), size):
            rows = slice(start, start + size)
            asked = prefixes if len(prefixes) <= size else prefixes.take(np.arange(len(prefixes))[rows])
            scores = _scores(competitor, asked, part if at_once else None)
            about = (owner[rows] + first, asked.lengths, targets[rows])
            if negatives is None:
                tops = top(scores, k).items
                yield Block(*about, tops, _in_test(competitor, tops))
                continue
            for drawn in negatives.of(*about[:2]):
                tops = _among(competitor, scores, np.column_stack([targets[rows], drawn]), k)
                yield Block(*about, tops, _in_test(competitor, tops), 1 / negatives.draws)


def recommend(competitor: Competitor, prefixes: Sessions, k: int) -> Items:
    """The k best items after each of some histories, in the competitor's own vocabulary: int32 [n, k]."""
    return top(_scores(competitor, prefixes), k).items


def _scores(competitor: Competitor, prefixes: Sessions, whole: Sessions | None = None) -> NDArray[np.float32]:
    """Scores of the competitor's items after each prefix, -inf for those that may not be listed.

    whole: the sessions that these are all prefixes of, in order: a model may pass over them once.
    """
    own = prefixes if competitor.translation is None else _translate(prefixes, competitor.translation.to_own)
    told = own if whole is None else whole
    if competitor.customers is not None:
        told = replace(told, customers=competitor.customers[told.customers])
    if competitor.evaluate is not None:
        # What is declared of an event looks back only, so that it is the same in a session and in its prefixes.
        told = replace(told, features=competitor.evaluate(told))
    scores = competitor.model.score(told) if whole is None else competitor.model.score_prefixes(told)
    mask_excluded(scores, own, competitor.exclude)
    if competitor.barred is not None:
        competitor.barred.hide(scores, prefixes)
    return scores


def _in_test(competitor: Competitor, tops: Items) -> Items:
    """Listed items in the test's vocabulary."""
    if competitor.translation is None:
        return tops
    return np.where(tops == NO_ITEM, NO_ITEM, competitor.translation.to_test[tops]).astype(np.int32)


def _among(competitor: Competitor, scores: NDArray[np.float32], candidates: Items, k: int) -> Items:
    """The k best of each row's candidates (int32 [b, c], the test's vocabulary, -1 none), in the own vocabulary."""
    own = candidates
    if competitor.translation is not None:
        own = np.where(candidates == NO_ITEM, NO_ITEM, competitor.translation.to_own[candidates])
    # Ascending, so that the smaller place of a tie is the smaller index.
    own = np.sort(own, axis=1).astype(np.int32)
    theirs = np.where(own == NO_ITEM, np.float32(-np.inf), np.take_along_axis(scores, own.astype(np.int64), axis=1))
    places = top(theirs, k).items
    return np.where(places == NO_ITEM, NO_ITEM, np.take_along_axis(own, places.astype(np.int64), axis=1))


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


def _parts(test: Sessions, size: int) -> Iterator[tuple[int, Sessions]]:
    """Runs of sessions with about `size` prefixes at most, each with its first session's number.

    Their prefixes together are not too many events either.
    """
    prefixes, load = np.cumsum(test.lengths), np.cumsum(test.lengths * (test.lengths - 1) // 2)
    start = 0
    while start < len(test):
        counted, done = (prefixes[start - 1], load[start - 1]) if start else (0, 0)
        within = np.searchsorted(prefixes, counted + size, side="right")
        end = max(start + 1, int(min(within, np.searchsorted(load, done + PREFIX_EVENTS, side="right"))))
        yield start, test.take(np.arange(start, end))
        start = end
