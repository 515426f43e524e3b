"""Which items a request may list, and what removed the others."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from endcap.ranking.request import CATEGORY, RankRequest
from endcap.ranking.session import ItemIndex, ShopperContext
from endcap.rules import Rulebook
from endcap.spec.recommender import Exclude
from endcap.spec.rules import OWNED

SESSION = "session"
"""The name of the rule that removes the session's own items in an explanation: the recommender's `exclude`."""
Places = NDArray[np.int32]


@dataclass(frozen=True)
class RequestCandidates:
    """A request's candidates.

    requested: their ids as the request has them. places: vocabulary indices, ascending, each once. order: the position
    of each of these in the request. unknown: ids outside the vocabulary, in the order of the request, each once.
    """

    requested: Sequence[str]
    places: Places
    order: NDArray[np.intp]
    unknown: list[str]

    def get_ids(self, items: Places) -> list[str]:
        """Return the ids of some of `places`.

        They come from the request, which is in the processor's cache. A large vocabulary is not.
        """
        return [self.requested[place] for place in self.order[np.searchsorted(self.places, items)].tolist()]


@dataclass(frozen=True)
class EligibleItems:
    """The items that one request may list.

    places: their indices, ascending. None: all items that `allowed` allows and `hidden` does not name. allowed: whether
    the rules allow each item, bool [n_items], read-only. hidden: indices of items that the request, the recommender or
    the customer's possessions remove. candidates: the request's candidates, None without any.
    """

    places: Places | None
    allowed: NDArray[np.bool_]
    hidden: Places
    candidates: RequestCandidates | None

    @property
    def unknown(self) -> Sequence[str]:
        """Candidates outside the vocabulary, each once, in the order of the request."""
        return self.candidates.unknown if self.candidates is not None else ()

    def mask_scores(self, scores: NDArray[np.float32]) -> None:
        """Set the scores of all other items to -inf, in place. scores: float32 [n_items]. `places` must be None."""
        if not self.allowed.all():
            np.copyto(scores, -np.inf, where=~self.allowed)
        scores[self.hidden] = -np.inf

    def are_eligible(self, items: Places) -> NDArray[np.bool_]:
        """Return whether each of these items is eligible: bool, shaped like `items`."""
        if self.places is not None:
            return _are_among(items, self.places)
        return self.allowed[items] & ~_are_among(items, np.sort(self.hidden))

    def take_popular(self, ranked: Places, count: int) -> Places:
        """Return up to `count` of the most popular eligible items that are not in `listed`."""
        if self.places is not None:
            return self.places[~_are_among(self.places, np.sort(ranked))][:count]
        remaining = self.allowed.copy()
        remaining[self.hidden] = remaining[ranked] = False
        return np.flatnonzero(remaining)[:count].astype(np.int32)


class EligibilityFilter:
    """Select the eligible items of one recommender's requests."""

    def __init__(self, vocabulary: ItemIndex, rulebook: Rulebook, exclude: Exclude) -> None:
        self.vocabulary, self.rulebook, self.exclude = vocabulary, rulebook, exclude

    def select(self, request: RankRequest, context: ShopperContext, session: Places) -> EligibleItems:
        """Return what a request may list. session: the known items of its session, oldest first."""
        allowed = self.rulebook.allowed_mask(request.surface)
        hidden = self._list_hidden(request, context, session)
        places, candidates = self._match_filters(request), None
        if request.candidates is not None:
            candidates = self._index_candidates(request.candidates)
            requested = candidates.places
            places = requested if places is None else requested[_are_among(requested, places)]
        if places is not None:
            places = places[allowed[places]]
            if len(hidden):
                places = places[~_are_among(places, np.sort(hidden))]
        return EligibleItems(places, allowed, hidden, candidates)

    def select_unknown(
        self, unknown: Sequence[str], request: RankRequest, context: ShopperContext, ids: Sequence[str]
    ) -> Iterator[str]:
        """Yield the unknown candidates that are eligible. ids: all items of the request's session."""
        hidden = {*request.exclude, *context.owned, *self._list_excluded(ids)}
        filters = list(iterate_filters(request))
        for item in unknown:
            if item in hidden or item == request.item or self.rulebook.find_rule(item, request.surface) is not None:
                continue
            if all(self.rulebook.has_value(item, name, values) for name, values in filters):
                yield item

    def explain_removals(
        self, request: RankRequest, context: ShopperContext, ids: Sequence[str]
    ) -> list[dict[str, Any]]:
        """List what rules, the customer's possessions and the recommender's `exclude` remove, as `Answer.removed`."""
        excluded, owned = self._list_excluded(ids), context.owned if request.explains_owned else ()
        if request.candidates is None:
            return self._count_removals(request, {OWNED: owned, SESSION: excluded})
        personal = {**dict.fromkeys(excluded, SESSION), **dict.fromkeys(owned, OWNED)}
        candidates = dict.fromkeys(request.candidates)
        reasons = ((item, self.rulebook.find_rule(item, request.surface) or personal.get(item)) for item in candidates)
        return [{"item": item, "rule": rule} for item, rule in reasons if rule is not None]

    def _count_removals(self, request: RankRequest, personal: Mapping[str, Collection[str]]) -> list[dict[str, Any]]:
        matching = self._match_filters(request)
        counts = self.rulebook.count_removed(request.surface, matching)
        allowed = self.rulebook.allowed_mask(request.surface)
        remaining = allowed.copy() if matching is None else np.zeros_like(allowed)
        if matching is not None:
            remaining[matching] = allowed[matching]
        for rule, items in personal.items():
            index = self.vocabulary.indices(list(items))
            index = np.unique(index[index >= 0])
            counts[rule] = int(remaining[index].sum())
            remaining[index] = False
        return [{"rule": rule, "items": count} for rule, count in counts.items() if count]

    def _match_filters(self, request: RankRequest) -> Places | None:
        """Return the items that match the request's filters, ascending. None: the request has no filter."""
        places: Places | None = None
        for name, values in iterate_filters(request):
            matching = self.rulebook.find_items(name, values).astype(np.int32)
            places = matching if places is None else places[_are_among(places, matching)]
        return places

    def _index_candidates(self, candidates: Sequence[str]) -> RequestCandidates:
        index = self.vocabulary.indices(candidates)
        order = np.argsort(index, kind="stable")
        first = np.searchsorted(index[order], 0)
        unknown = list(dict.fromkeys(candidates[place] for place in order[:first].tolist()))
        order = order[first:]
        places = index[order]
        again = np.flatnonzero(places[1:] == places[:-1])
        if len(again):
            places, order = np.delete(places, again), np.delete(order, again)
        return RequestCandidates(candidates, places, order, unknown)

    def _list_hidden(self, request: RankRequest, context: ShopperContext, session: Places) -> Places:
        items = [*request.exclude, *context.owned]
        if request.item is not None:
            items.append(request.item)
        excluded = {"none": session[:0], "last": session[-1:], "seen": session}[self.exclude]
        if not items:
            return excluded
        index = self.vocabulary.indices(items)
        return np.concatenate([index[index >= 0], excluded])

    def _list_excluded(self, ids: Sequence[str]) -> Sequence[str]:
        """Return the ids that the recommender's `exclude` removes. `last`: the last item and the last known one."""
        if self.exclude != "last":
            return ids if self.exclude == "seen" else ()
        known_items = (item for item in reversed(ids) if self.vocabulary.index(item) >= 0)
        return [*ids[-1:], *islice(known_items, 1)]


def _are_among(items: Places, places: Places) -> NDArray[np.bool_]:
    """Return whether each item is among ascending places: bool, shaped like `items`."""
    if not len(places):
        return np.zeros(len(items), dtype=np.bool_)
    nearest = np.searchsorted(places, items)
    nearest[nearest == len(places)] = 0
    among: NDArray[np.bool_] = places[nearest] == items
    return among


def iterate_filters(request: RankRequest) -> Iterator[tuple[str, Collection[str]]]:
    """Yield each attribute that the request filters by, with the values that it accepts."""
    if request.category is not None:
        yield CATEGORY, [request.category]
    yield from request.filters.items()
