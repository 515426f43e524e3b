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

from endcap.fallback_reasons import (
    FEW_SCORES,
    LIST_FILLED,
    NO_HISTORY,
    ONLINE_STORE_AWAY,
    UNKNOWN_CANDIDATES,
    UNKNOWN_CUSTOMER,
    UNKNOWN_ITEMS,
    UNKNOWN_SESSION,
)
from endcap.features.sessions import Sessions
from endcap.models.base import Model
from endcap.models.topk import NONE, find_best
from endcap.pseudonyms import Pseudonymiser
from endcap.ranking.answer import Answer, write_items
from endcap.ranking.eligibility import EligibilityFilter, EligibleItems
from endcap.ranking.request import RankRequest, parse_instance
from endcap.ranking.session import Evaluate, ItemIndex, RequestReader, RequestSessions, ShopperContext
from endcap.rules import Catalogue, Rulebook
from endcap.spec.recommender import Exclude
from endcap.spec.rules import Rules
from endcap.spec.serving import ServingSpec

BLOCK_BYTES = 256 * 2**20
NARROW_SHARE = 0.25
"""Up to this share of the catalogue, the model scores eligible items alone. Above it, one pass over all is cheaper."""
SORT_ALL_BELOW = 1000
"""Up to so many scores are sorted as a whole. Of more, only the best are sorted."""
_NO_CONTEXT = ShopperContext()


@dataclass(frozen=True)
class _RankedItems:
    """Indices of items, best first, and their scores. together: as in `Answer`."""

    items: NDArray[np.int32]
    scores: NDArray[np.float32]
    precomputed: bool = False
    together: int = 0


class Ranker:
    """Rank the items of one model for requests.

    An item is eligible if the request (candidates, filters, exclusions), the recommender (`exclude`), the shop's rules
    and the customer's possessions all allow it. Eligible items that the model scores come first, by score. Ties go to
    the smaller vocabulary index, which is the more popular item. If these are fewer than k, the most popular of the
    other eligible items follow without a score. Candidates that the model does not know come last, in the order of the
    request. Session items that the model does not know are skipped. Both count as `unknown`. An answer that has items
    without a score names the reason.

    Parameters
    ----------
    model
        The model that scores items.
    vocabulary
        The model's items by index, most popular first.
    items
        One row for each item, in vocabulary order, with the attributes that requests may filter by.
    exclude
        Which items of a session its own answer leaves out: ``none``, ``last`` or ``seen``.
    serving
        The limits of requests, and the default of `k`.
    evaluate
        Computes the model's event features of sessions. None: the model uses none.
    event_types
        The types that count, as in training. None: all count.
    customers
        The model's index of each customer that it knows, by id.
    rulebook
        The shop's rules on this vocabulary. None: no rules, and the attributes of `items`.
    pseudonymiser
        Maps the customers and sessions of requests, if the model, the lists and the online store know them by
        pseudonyms. None: they know them by their ids.

    Notes
    -----
    An answer does not depend on the other requests of its batch. A ranker does not change after `prepare`, so one
    thread may check requests while another ranks.
    """

    def __init__(
        self,
        model: Model,
        vocabulary: ItemIndex,
        items: pa.Table,
        *,
        exclude: Exclude = "none",
        serving: ServingSpec | None = None,
        evaluate: Evaluate | None = None,
        event_types: Collection[str] | None = None,
        customers: Mapping[str, int] | None = None,
        rulebook: Rulebook | None = None,
        pseudonymiser: Pseudonymiser | None = None,
    ) -> None:
        self.model = model
        self.vocabulary = vocabulary
        self.exclude: Exclude = exclude
        self.serving = serving or ServingSpec()
        self.evaluate = evaluate
        self.pseudonymiser = pseudonymiser
        self._items = items
        self._apply_rulebook(rulebook or Rulebook(vocabulary, items, Rules()))
        self._reader = RequestReader(vocabulary, evaluate=evaluate, event_types=event_types, customers=customers)

    def _apply_rulebook(self, rulebook: Rulebook) -> None:
        self.rulebook = rulebook
        self.attributes: Mapping[str, Collection[str]] = rulebook.attributes
        """The attributes that a request may filter by, with their values."""
        self._filter = EligibilityFilter(self.vocabulary, rulebook, self.exclude)

    def with_catalogue(self, catalogue: Catalogue) -> Ranker:
        """Return a ranker with these rules and item attributes, which shares this one's model."""
        ranker = copy.copy(self)
        ranker._apply_rulebook(Rulebook(self.vocabulary, self._items, catalogue))
        ranker.rulebook.prepare()
        return ranker

    def with_customers(self, customers: Mapping[str, int]) -> Ranker:
        """Return a ranker that knows the model's customers by other ids, and shares the rest with this one.

        Parameters
        ----------
        customers
            The model's index of each customer, by id.
        """
        ranker = copy.copy(self)
        ranker._reader = self._reader.with_customers(customers)
        return ranker

    def prepare(self) -> None:
        """Compute in advance what the first requests would wait for. A server calls this once, before it is ready."""
        self.model.prepare()
        self.rulebook.prepare()

    def parse(self, instance: Any, number: int = 0) -> RankRequest:
        """Check one instance of the V1 protocol against this recommender's limits, and map its shopper's ids.

        Parameters
        ----------
        instance
            The instance as JSON values.
        number
            Its position in the call, from 0, which an error names.

        Raises
        ------
        RequestError
            If the instance is not a valid request.
        """
        request = parse_instance(instance, number, self.serving, self.attributes)
        return request if self.pseudonymiser is None else request.map_owners(self.pseudonymiser.pseudonymise)

    def rank(
        self,
        requests: Sequence[RankRequest],
        *,
        now: int | Sequence[int] | None = None,
        contexts: Sequence[ShopperContext] | None = None,
    ) -> list[Answer]:
        """Rank items for requests.

        Parameters
        ----------
        requests
            Requests that `parse` has checked.
        now
            The time of events that carry none, in epoch milliseconds: one for all requests, or one for each. None: the
            present.
        contexts
            What the online store knows of each request's shopper. None: nothing.

        Returns
        -------
        list of Answer
            One answer for each request, in their order.
        """
        moment = int(time.time() * 1000) if now is None else now
        size = max(1, BLOCK_BYTES // (4 * max(1, self.model.n_items)))
        moments = [moment] * len(requests) if isinstance(moment, int) else moment
        waiting = zip(requests, contexts or [_NO_CONTEXT] * len(requests), moments, strict=True)
        answers: list[Answer] = []
        while block := list(islice(waiting, size)):
            answers += self._rank_block(
                [request for request, _, _ in block],
                [context for _, context, _ in block],
                [moment_of_request for _, _, moment_of_request in block],
            )
        return answers

    def _rank_block(
        self, requests: Sequence[RankRequest], contexts: Sequence[ShopperContext], moments: Sequence[int]
    ) -> list[Answer]:
        sessions = self._reader.read(requests, contexts, moments)
        rows = range(len(requests))
        eligible = [self._filter.select(requests[row], contexts[row], sessions.known_items(row)) for row in rows]
        count = [request.k or self.serving.k for request in requests]
        picked = [self._rank_without_model(requests[row], contexts[row], eligible[row], count[row]) for row in rows]
        narrow, broad = list[int](), list[int]()
        for row in rows:
            if picked[row] is None:
                (narrow if self._is_narrow(eligible[row]) else broad).append(row)
        if narrow:
            places = [places for row in narrow if (places := eligible[row].places) is not None]
            scores = self.model.score_items(_take_sessions(sessions.sessions, narrow), places)
            for row, items, row_scores in zip(narrow, places, scores, strict=True):
                picked[row] = _rank_some(items, row_scores, count[row], len(narrow))
        if broad:
            for row, row_scores in zip(broad, self.model.score(_take_sessions(sessions.sessions, broad)), strict=True):
                picked[row] = _rank_all(eligible[row], row_scores, count[row], len(broad))
        return [
            self._make_answer(requests[row], contexts[row], eligible[row], items_of_row, sessions, row, count[row])
            for row, items_of_row in enumerate(picked)
            if items_of_row is not None
        ]

    def _is_narrow(self, eligible: EligibleItems) -> bool:
        return eligible.places is not None and len(eligible.places) <= NARROW_SHARE * self.model.n_items

    def _rank_without_model(
        self, request: RankRequest, context: ShopperContext, eligible: EligibleItems, k: int
    ) -> _RankedItems | None:
        """Rank what needs no model: an empty set, or the customer's precomputed list if k of its items are eligible.

        None: the model must score.
        """
        if eligible.places is not None and not len(eligible.places):
            return _RankedItems(eligible.places, np.zeros(0, dtype=np.float32))
        if not request.precomputed or context.stored_list is None:
            return None
        items = self.vocabulary.indices(context.stored_list.items)
        scores = np.asarray(context.stored_list.scores, dtype=np.float32)[items >= 0]
        items = items[items >= 0]
        rows = np.flatnonzero(eligible.are_eligible(items))[:k]
        # The list's fallbacks come last and have no score.
        scored = scores[rows][~np.isnan(scores[rows])]
        return _RankedItems(items[rows], scored, precomputed=True) if len(rows) == k else None

    def _make_answer(
        self,
        request: RankRequest,
        context: ShopperContext,
        eligible: EligibleItems,
        ranked: _RankedItems,
        sessions: RequestSessions,
        row: int,
        k: int,
    ) -> Answer:
        items, scores = ranked.items, ranked.scores
        if len(items) < k:
            items = np.concatenate([items, eligible.take_popular(items, k - len(items))])
        filled = len(items) > len(scores)
        if eligible.candidates is not None:
            ids = eligible.candidates.get_ids(items)
        else:
            ids = [self.vocabulary.ids[item] for item in items.tolist()]
        if len(ids) < k and eligible.unknown:
            selected = self._filter.select_unknown(eligible.unknown, request, context, sessions.item_ids[row])
            ids += islice(selected, k - len(ids))
        return Answer(
            ids,
            [*scores.tolist(), *[None] * (len(ids) - len(scores))],
            sessions.count_unknown(row) + len(eligible.unknown),
            self._filter.explain_removals(request, context, sessions.item_ids[row]) if request.explain else None,
            ranked.precomputed,
            _explain_fallbacks(request, context, ranked, sessions, row, filled=filled)
            if len(ids) > len(scores)
            else None,
            write_items(ids, scores),
            ranked.together,
        )


def _explain_fallbacks(
    request: RankRequest,
    context: ShopperContext,
    ranked: _RankedItems,
    sessions: RequestSessions,
    row: int,
    *,
    filled: bool,
) -> str:
    """Name why an answer has fallbacks (`endcap.fallback_reasons`). filled: whether the model knows one of them."""
    if not filled:
        return UNKNOWN_CANDIDATES
    if ranked.precomputed:
        return LIST_FILLED
    if len(ranked.scores) or len(sessions.known_items(row)):
        return FEW_SCORES
    if sessions.item_ids[row]:
        return UNKNOWN_ITEMS
    if context.store_unavailable and request.needs_stored_events:
        return ONLINE_STORE_AWAY
    if context.is_known or not request.needs_stored_events:
        return NO_HISTORY
    return UNKNOWN_SESSION if request.customer is None else UNKNOWN_CUSTOMER


def _take_sessions(sessions: Sessions, rows: Sequence[int]) -> Sessions:
    return sessions if len(rows) == len(sessions) else sessions.take(np.array(rows, dtype=np.int64))


def _rank_all(eligible: EligibleItems, scores: NDArray[np.float32], k: int, together: int) -> _RankedItems:
    """Rank by the scores of every item, float32 [n_items], which change. together: as in `Answer`."""
    if eligible.places is not None:
        return _rank_some(eligible.places, scores[eligible.places], k, together)
    eligible.mask_scores(scores)
    places = find_best(scores[None], k)[0]
    places = places[places != NONE].astype(np.int32)
    return _RankedItems(places, scores[places], together=together)


def _rank_some(items: NDArray[np.int32], scores: NDArray[np.float32], k: int, together: int) -> _RankedItems:
    """Rank items that ascend as `endcap.models.topk` does: ties go to the smaller index, none at -inf or NaN."""
    if len(scores) > SORT_ALL_BELOW:
        order = find_best(scores[None], k)[0]
        order = order[order != NONE]
    else:
        order = np.argsort(-scores, kind="stable")[: min(k, np.count_nonzero(scores > -np.inf))]
    return _RankedItems(items[order], scores[order], together=together)
