"""From requests to ordered items."""

from __future__ import annotations

import copy
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from endcap.features.sessions import Sessions
from endcap.models.base import Model
from endcap.models.topk import NONE, best
from endcap.ranking.answer import Answer, write_items
from endcap.ranking.pool import Pool, Pools
from endcap.ranking.request import RankRequest, parse_instance
from endcap.ranking.session import Asked, Evaluate, Ids, Known, Reader
from endcap.reasons import (
    FEW_SCORES,
    LIST_FILLED,
    NO_HISTORY,
    ONLINE_STORE_AWAY,
    UNKNOWN_CANDIDATES,
    UNKNOWN_CUSTOMER,
    UNKNOWN_ITEMS,
    UNKNOWN_SESSION,
)
from endcap.rules import Catalogue, Rulebook
from endcap.spec.recommender import Exclude, Serving
from endcap.spec.rules import Rules

BLOCK_BYTES = 256 * 2**20
FEW = 0.25
"""Up to this share of the catalogue is scored by itself; for more, a model's one pass over all items is cheaper."""
ORDERED_WHOLE = 1000
"""So many scores are put in order whole; of more only the best are."""
_NOTHING = Known()


@dataclass(frozen=True)
class _Picked:
    """Indices of items, best first, and their scores."""

    items: NDArray[np.int32]
    scores: NDArray[np.float32]
    precomputed: bool = False


class Ranker:
    """Ranks the items of one model. Its answer to a request does not depend on what else is in the batch.

    What may be listed at all is said by the request (candidates, filters, exclusions), by the recommender (`exclude`),
    by the shop's rules, and by what the customer owns. Of that, items that the model scores come first, by score, ties
    to the smaller vocabulary index (the more popular item). Where they are fewer than k, the most popular items not
    yet listed fill up, without a score. Candidates that the model does not know come last, in the order given.
    Session items that it does not know are skipped. Both are counted as `unknown`. An answer with items without a score
    says why there are any.

    Nothing in it changes after `prepare`: one thread may check requests while another ranks.
    """

    def __init__(
        self,
        model: Model,
        vocabulary: Ids,
        items: pa.Table,
        *,
        exclude: Exclude = "none",
        serving: Serving | None = None,
        evaluate: Evaluate | None = None,
        event_types: Collection[str] | None = None,
        customers: Mapping[str, int] | None = None,
        rulebook: Rulebook | None = None,
    ) -> None:
        """`items`: a row an item, in vocabulary order, with the attributes that requests may filter by.

        evaluate: the model's event-level features of sessions, or None where it uses none.
        event_types: events of other types are skipped, as in training; None: all count.
        customers: the index, to the model, of each customer that it knows, by id; all others are unknown to it.
        rulebook: the shop's rules on this vocabulary; None: no rules, and the attributes of `items`.
        """
        self.model = model
        self.vocabulary = vocabulary
        self.exclude: Exclude = exclude
        self.serving = serving or Serving()
        self.evaluate = evaluate
        self._items = items
        self._follow(rulebook or Rulebook(vocabulary, items, Rules()))
        self._reader = Reader(vocabulary, evaluate=evaluate, event_types=event_types, customers=customers)

    def _follow(self, rulebook: Rulebook) -> None:
        self.rulebook = rulebook
        self.attributes: Mapping[str, Collection[str]] = rulebook.attributes
        """The attributes that a request may filter by, and the values of each."""
        self._pools = Pools(self.vocabulary, rulebook, self.exclude)

    def with_catalogue(self, catalogue: Catalogue) -> Ranker:
        """A ranker with these rules and item attributes; the model and all that belongs to it are shared."""
        other = copy.copy(self)
        other._follow(Rulebook(self.vocabulary, self._items, catalogue))
        other.rulebook.prepare()
        return other

    def prepare(self) -> None:
        """Work out what the first requests would else wait for; whoever serves calls it once, before the first."""
        self.model.prepare()
        self.rulebook.prepare()

    def parse(self, instance: Any, number: int = 0) -> RankRequest:
        """The request of a V1 instance, checked against this recommender's limits. Raises RequestError."""
        return parse_instance(instance, number, self.serving, self.attributes)

    def rank(
        self, requests: Sequence[RankRequest], *, now: int | None = None, known: Sequence[Known] | None = None
    ) -> list[Answer]:
        """One answer a request.

        now: epoch milliseconds, the time of events that carry none. known: what the online store says, one a request.
        """
        moment = int(time.time() * 1000) if now is None else now
        size = max(1, BLOCK_BYTES // (4 * max(1, self.model.n_items)))
        waiting = zip(requests, known or [_NOTHING] * len(requests), strict=True)
        answers: list[Answer] = []
        while block := list(islice(waiting, size)):
            answers += self._rank_block([request for request, _ in block], [told for _, told in block], moment)
        return answers

    def _rank_block(self, requests: Sequence[RankRequest], known: Sequence[Known], now: int) -> list[Answer]:
        asked = self._reader.read(requests, known, now)
        rows = range(len(requests))
        pools = [self._pools.of(requests[row], known[row], asked.own(row)) for row in rows]
        count = [request.k or self.serving.k for request in requests]
        picked = [self._unscored(requests[row], known[row], pools[row], count[row]) for row in rows]
        few, whole = list[int](), list[int]()
        for row in rows:
            if picked[row] is None:
                (few if self._is_few(pools[row]) else whole).append(row)
        if few:
            places = [places for row in few if (places := pools[row].places) is not None]
            scores = self.model.score_items(_part(asked.sessions, few), places)
            for row, items, own in zip(few, places, scores, strict=True):
                picked[row] = _best(items, own, count[row])
        if whole:
            for row, own in zip(whole, self.model.score(_part(asked.sessions, whole)), strict=True):
                picked[row] = _best_of_all(pools[row], own, count[row])
        return [
            self._answer(requests[row], known[row], pools[row], one, asked, row, count[row])
            for row, one in enumerate(picked)
            if one is not None
        ]

    def _is_few(self, pool: Pool) -> bool:
        return pool.places is not None and len(pool.places) <= FEW * self.model.n_items

    def _unscored(self, request: RankRequest, known: Known, pool: Pool, k: int) -> _Picked | None:
        """What needs no model, or None: nothing of nothing, and the best k of the customer's list, where the request
        takes it and it has so many that may be listed."""
        if pool.places is not None and not len(pool.places):
            return _Picked(pool.places, np.zeros(0, dtype=np.float32))
        if not request.precomputed or known.listed is None:
            return None
        items = self.vocabulary.indices(known.listed.items)
        scores = np.asarray(known.listed.scores, dtype=np.float32)[items >= 0]
        items = items[items >= 0]
        kept = np.flatnonzero(pool.keep(items))[:k]
        # Of a list's fallbacks, which stand behind all others, there is no score.
        scored = scores[kept][~np.isnan(scores[kept])]
        return _Picked(items[kept], scored, precomputed=True) if len(kept) == k else None

    def _answer(
        self, request: RankRequest, known: Known, pool: Pool, picked: _Picked, asked: Asked, row: int, k: int
    ) -> Answer:
        items, scores = picked.items, picked.scores
        if len(items) < k:
            items = np.concatenate([items, pool.others(items, k - len(items))])
        filled = len(items) > len(scores)
        if pool.candidates is not None:
            ids = pool.candidates.named(items)
        else:
            ids = [self.vocabulary.ids[item] for item in items.tolist()]
        if len(ids) < k and pool.strangers:
            admitted = self._pools.admitted(pool.strangers, request, known, asked.ids[row])
            ids += islice(admitted, k - len(ids))
        return Answer(
            ids,
            [*scores.tolist(), *[None] * (len(ids) - len(scores))],
            asked.unknown(row) + len(pool.strangers),
            self._pools.removed(request, known, asked.ids[row]) if request.explain else None,
            picked.precomputed,
            _reason(request, known, picked, asked, row, filled=filled) if len(ids) > len(scores) else None,
            write_items(ids, scores),
        )


def _reason(request: RankRequest, known: Known, picked: _Picked, asked: Asked, row: int, *, filled: bool) -> str:
    """Why an answer has fallbacks (`endcap.reasons`). filled: whether items that the model knows are among them."""
    if not filled:
        return UNKNOWN_CANDIDATES
    if picked.precomputed:
        return LIST_FILLED
    if len(picked.scores) or len(asked.own(row)):
        return FEW_SCORES
    if asked.ids[row]:
        return UNKNOWN_ITEMS
    if known.away and request.leaves_events:
        return ONLINE_STORE_AWAY
    if known.seen or not request.leaves_events:
        return NO_HISTORY
    return UNKNOWN_SESSION if request.customer is None else UNKNOWN_CUSTOMER


def _part(sessions: Sessions, rows: Sequence[int]) -> Sessions:
    return sessions if len(rows) == len(sessions) else sessions.take(np.array(rows, dtype=np.int64))


def _best_of_all(pool: Pool, scores: NDArray[np.float32], k: int) -> _Picked:
    """scores: of every item, float32 [n_items]; changed."""
    if pool.places is not None:
        return _best(pool.places, scores[pool.places], k)
    pool.forbid(scores)
    places = best(scores[None], k)[0]
    places = places[places != NONE].astype(np.int32)
    return _Picked(places, scores[places])


def _best(items: NDArray[np.int32], scores: NDArray[np.float32], k: int) -> _Picked:
    """The best of items that ascend, as `endcap.models.topk` has it: ties to the smaller index, none at -inf or NaN."""
    if len(scores) > ORDERED_WHOLE:
        order = best(scores[None], k)[0]
        order = order[order != NONE]
    else:
        order = np.argsort(-scores, kind="stable")[: min(k, np.count_nonzero(scores > -np.inf))]
    return _Picked(items[order], scores[order])
