"""From requests to ordered items."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from endcap.features.sessions import Sessions, Types
from endcap.models.base import NO_ITEM, Model, top
from endcap.ranking.request import Event, RankRequest, parse_instance
from endcap.spec.recommender import Exclude, Serving

BLOCK_BYTES = 256 * 2**20
NOBODY = -1
"""The customer of a session whose customer is unknown."""

Evaluate = Callable[[Sessions], Mapping[str, NDArray[np.float32]]]


class Ids(Protocol):
    """What a ranker needs of a vocabulary: ids by index, most popular first, and back."""

    @property
    def ids(self) -> Sequence[str]: ...

    def index(self, item: str) -> int:
        """The item's index, or -1."""


@dataclass(frozen=True)
class Answer:
    """Item ids, best first. A score of None marks a fallback: an item that the model had no opinion on."""

    ids: list[str]
    scores: list[float | None]
    unknown: int = 0
    """How many of the request's session items and candidates the model does not know."""

    def to_json(self) -> dict[str, Any]:
        """``{"items": [{"item", "score"[, "fallback": true]}, …], "unknown": n}``."""
        items = [
            {"item": item, "score": score} if score is not None else {"item": item, "score": None, "fallback": True}
            for item, score in zip(self.ids, self.scores, strict=True)
        ]
        return {"items": items, "unknown": self.unknown}


class Ranker:
    """Ranks the items of one model. Its answer to a request does not depend on what else is in the batch.

    Items that the model scores come first, by score, ties to the smaller vocabulary index (the more popular item).
    Where that gives fewer than k, the most popular items not yet listed fill up, without a score. `category` and
    `candidates` restrict both, `exclude` (the request's and the recommender's) removes from both.
    Session items that the model does not know are skipped. Candidates that it does not know come last, in the order
    given, unless a category is asked for: theirs is not known. Both are counted as `unknown`.
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
    ) -> None:
        """`items`: a row an item, in vocabulary order; its column `category`, if any, is what requests may restrict by.

        evaluate: the model's event-level features of sessions, or None where it uses none.
        event_types: events of other types are skipped, as in training; None: all count.
        customers: the index, to the model, of each customer that it knows, by id; all others are unknown to it.
        """
        self.model = model
        self.vocabulary = vocabulary
        self.exclude: Exclude = exclude
        self.serving = serving or Serving()
        self._ids = np.asarray(vocabulary.ids, dtype=object)
        self.evaluate = evaluate
        self._event_types = None if event_types is None else frozenset(event_types)
        self._customers = customers or {}
        self._categories = _by_category(items)

    @property
    def categories(self) -> Collection[str]:
        """The categories that a request may name."""
        return self._categories.keys()

    def parse(self, instance: Any, number: int = 0) -> RankRequest:
        """The request of a V1 instance, checked against this recommender's limits. Raises RequestError."""
        return parse_instance(instance, number, self.serving, self.categories)

    def rank(self, requests: Sequence[RankRequest], *, now: int | None = None) -> list[Answer]:
        """One answer a request. `now`: epoch milliseconds, the time of events that carry none."""
        moment = int(time.time() * 1000) if now is None else now
        size = max(1, BLOCK_BYTES // (4 * max(1, self.model.n_items)))
        waiting = iter(requests)
        answers: list[Answer] = []
        while block := list(islice(waiting, size)):
            answers += self._rank_block(block, moment)
        return answers

    def _rank_block(self, requests: Sequence[RankRequest], now: int) -> list[Answer]:
        sessions, unknown = self._sessions(requests, now)
        scores = self.model.score(sessions)
        allowed = np.ones(scores.shape, dtype=bool)
        for row, request in enumerate(requests):
            self._restrict(allowed[row], request)
        _forbid_own(allowed, sessions, self.exclude)
        scores[~allowed] = -np.inf
        k = [request.k or self.serving.k for request in requests]
        best = top(scores, max(k))
        return [
            self._answer(request, best.items[row, : k[row]], best.scores[row], allowed[row], k[row], unknown[row])
            for row, request in enumerate(requests)
        ]

    def _answer(
        self,
        request: RankRequest,
        ranked: NDArray[np.int32],
        scores: NDArray[np.float32],
        allowed: NDArray[np.bool_],
        k: int,
        unknown: int,
    ) -> Answer:
        listed = ranked[ranked != NO_ITEM]
        strangers = self._strangers(request)
        ids: list[str] = self._ids[listed].tolist()
        if len(ids) < k:
            allowed[listed] = False
            ids += self._ids[np.flatnonzero(allowed)[: k - len(ids)]].tolist()
            if request.category is None:
                hidden = self._never_listed(request)
                ids += list(islice((item for item in strangers if item not in hidden), k - len(ids)))
        known: list[float | None] = scores[: len(listed)].tolist()
        return Answer(ids, known + [None] * (len(ids) - len(known)), unknown + len(strangers))

    def _strangers(self, request: RankRequest) -> list[str]:
        """Candidates outside the vocabulary, each once, in the order given."""
        if request.candidates is None:
            return []
        return [item for item in dict.fromkeys(request.candidates) if self.vocabulary.index(item) < 0]

    def _never_listed(self, request: RankRequest) -> set[str]:
        """What `_restrict` and `_forbid_own` hide, by id: strangers have no place in the mask."""
        own = [event.item for event in request.sequence if self._counts(event)]
        excluded = {"none": [], "last": own[-1:], "seen": own}[self.exclude]
        return {*_asked_to_hide(request), *excluded}

    def _restrict(self, allowed: NDArray[np.bool_], request: RankRequest) -> None:
        if request.category is not None:
            allowed[:] = False
            allowed[self._categories[request.category]] = True
        if request.candidates is not None:
            candidates = np.zeros_like(allowed)
            candidates[self._indices(request.candidates)] = True
            allowed &= candidates
        allowed[self._indices(_asked_to_hide(request))] = False

    def _indices(self, ids: Collection[str]) -> NDArray[np.int64]:
        """Vocabulary indices of the ids that are known."""
        index = np.fromiter(map(self.vocabulary.index, ids), dtype=np.int64, count=len(ids))
        return index[index >= 0]

    def _sessions(self, requests: Sequence[RankRequest], now: int) -> tuple[Sessions, list[int]]:
        """The requests' sessions of known items, and how many events of each the model does not know."""
        items, times, types, unknown = [], [], [], []
        for request in requests:
            events = [event for event in request.sequence if self._counts(event)]
            index = [self.vocabulary.index(event.item) for event in events]
            known = [place for place, item in enumerate(index) if item >= 0]
            moments = (events[place].time for place in known)
            items.append([index[place] for place in known])
            times.append([now if moment is None else moment for moment in moments])
            types += [events[place].type for place in known]
            unknown.append(len(events) - len(known))
        customers = [self._customers.get(request.customer or "", NOBODY) for request in requests]
        sessions = replace(Sessions.of(items, times), customers=np.array(customers, dtype=np.int32))
        if self.evaluate is None:
            return sessions, unknown
        sessions = replace(sessions, types=Types.of(types))
        return replace(sessions, features=self.evaluate(sessions)), unknown

    def _counts(self, event: Event) -> bool:
        return event.type is None or self._event_types is None or event.type in self._event_types


def _asked_to_hide(request: RankRequest) -> list[str]:
    return request.exclude if request.item is None else [*request.exclude, request.item]


def _forbid_own(allowed: NDArray[np.bool_], sessions: Sessions, exclude: Exclude) -> None:
    """What `mask_excluded` does to scores, on the mask that fallbacks are drawn from too."""
    if exclude == "none":
        return
    picked = sessions.last(1) if exclude == "last" else sessions
    allowed[picked.session_of_event, picked.items] = False


def _by_category(items: pa.Table) -> dict[str, NDArray[np.int64]]:
    """Rows of each category."""
    if "category" not in items.column_names:
        return {}
    column = items.column("category").combine_chunks().dictionary_encode()
    codes = column.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    order = np.argsort(codes, kind="stable")
    edges = np.searchsorted(codes[order], np.arange(len(column.dictionary) + 1))
    names: list[str] = column.dictionary.to_pylist()
    return {name: order[start:end] for name, start, end in zip(names, edges, edges[1:], strict=False)}
