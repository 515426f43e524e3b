"""What may be listed for a request, and what was taken out of it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from endcap.ranking.request import CATEGORY, RankRequest
from endcap.ranking.session import Ids, Known
from endcap.rules import Rulebook
from endcap.spec.recommender import Exclude
from endcap.spec.rules import OWNED

SESSION = "session"
"""What takes the session's own items away, where it is told: the recommender's `exclude`."""
Places = NDArray[np.int32]


@dataclass(frozen=True)
class Candidates:
    """A request's candidates.

    places: indices of those in the vocabulary, ascending, each once. order: where each of these was given. strangers:
    the others in the order given, each once.
    """

    given: Sequence[str]
    places: Places
    order: NDArray[np.intp]
    strangers: list[str]

    def named(self, items: Places) -> list[str]:
        """The ids of some of `places`, out of the request: those are at hand, and a large vocabulary's are far from
        the processor."""
        return [self.given[place] for place in self.order[np.searchsorted(self.places, items)].tolist()]


@dataclass(frozen=True)
class Pool:
    """The items of one request.

    places: indices of the items that may be listed, ascending; None: all that `allowed` allows and that are not in
    `hidden`. allowed: what the rules say, bool [n_items], read-only. hidden: indices of what request, recommender and
    customer's possessions take away. candidates: those that the request names, None where it names none.
    """

    places: Places | None
    allowed: NDArray[np.bool_]
    hidden: Places
    candidates: Candidates | None

    @property
    def strangers(self) -> Sequence[str]:
        """Candidates outside the vocabulary, each once, in the order given."""
        return self.candidates.strangers if self.candidates is not None else ()

    def forbid(self, scores: NDArray[np.float32]) -> None:
        """Set what may not be listed to -inf, in place; float32 [n_items]. Of a pool without places."""
        if not self.allowed.all():
            np.copyto(scores, -np.inf, where=~self.allowed)
        scores[self.hidden] = -np.inf

    def keep(self, items: Places) -> NDArray[np.bool_]:
        """Which of some items may be listed: bool, like `items`."""
        if self.places is not None:
            return _found(items, self.places)
        return self.allowed[items] & ~_found(items, np.sort(self.hidden))

    def others(self, listed: Places, count: int) -> Places:
        """The first, that is the most popular, of the items that may be listed and are not."""
        if self.places is not None:
            return self.places[~_found(self.places, np.sort(listed))][:count]
        rest = self.allowed.copy()
        rest[self.hidden] = rest[listed] = False
        return np.flatnonzero(rest)[:count].astype(np.int32)


class Pools:
    """Makes the pools of one recommender's requests."""

    def __init__(self, vocabulary: Ids, rulebook: Rulebook, exclude: Exclude) -> None:
        self.vocabulary, self.rulebook, self.exclude = vocabulary, rulebook, exclude

    def of(self, request: RankRequest, known: Known, session: Places) -> Pool:
        """session: the known items of the request's session, oldest first."""
        allowed = self.rulebook.allowed(request.surface)
        hidden = self._hidden(request, known, session)
        places, candidates = self._having(request), None
        if request.candidates is not None:
            candidates = self._candidates(request.candidates)
            asked = candidates.places
            places = asked if places is None else asked[_found(asked, places)]
        if places is not None:
            places = places[allowed[places]]
            if len(hidden):
                places = places[~_found(places, np.sort(hidden))]
        return Pool(places, allowed, hidden, candidates)

    def admitted(
        self, strangers: Sequence[str], request: RankRequest, known: Known, ids: Sequence[str]
    ) -> Iterator[str]:
        """The strangers that may be listed. ids: the items of the request's session, unknown ones too."""
        hidden = {*request.exclude, *known.owned, *self._left_out(ids)}
        asked = list(wanted(request))
        for item in strangers:
            if item in hidden or item == request.item or self.rulebook.why(item, request.surface) is not None:
                continue
            if all(self.rulebook.has(item, name, values) for name, values in asked):
                yield item

    def removed(self, request: RankRequest, known: Known, ids: Sequence[str]) -> list[dict[str, Any]]:
        """What rules, the customer's possessions and the recommender's `exclude` take away; see `Answer.removed`."""
        left_out, owned = self._left_out(ids), known.owned if request.tells_owned else ()
        if request.candidates is None:
            return self._counted(request, {OWNED: owned, SESSION: left_out})
        personal = {**dict.fromkeys(left_out, SESSION), **dict.fromkeys(owned, OWNED)}
        candidates = dict.fromkeys(request.candidates)
        told = ((item, self.rulebook.why(item, request.surface) or personal.get(item)) for item in candidates)
        return [{"item": item, "rule": rule} for item, rule in told if rule is not None]

    def _counted(self, request: RankRequest, personal: Mapping[str, Collection[str]]) -> list[dict[str, Any]]:
        having = self._having(request)
        counts = self.rulebook.counts(request.surface, having)
        allowed = self.rulebook.allowed(request.surface)
        left = allowed.copy() if having is None else np.zeros_like(allowed)
        if having is not None:
            left[having] = allowed[having]
        for rule, items in personal.items():
            index = self.vocabulary.indices(list(items))
            index = np.unique(index[index >= 0])
            counts[rule] = int(left[index].sum())
            left[index] = False
        return [{"rule": rule, "items": count} for rule, count in counts.items() if count]

    def _having(self, request: RankRequest) -> Places | None:
        """The items that have what the request filters by, ascending; None where it filters by nothing."""
        places: Places | None = None
        for name, values in wanted(request):
            having = self.rulebook.where(name, values).astype(np.int32)
            places = having if places is None else places[_found(places, having)]
        return places

    def _candidates(self, candidates: Sequence[str]) -> Candidates:
        index = self.vocabulary.indices(candidates)
        order = np.argsort(index, kind="stable")
        first = np.searchsorted(index[order], 0)
        strangers = list(dict.fromkeys(candidates[place] for place in order[:first].tolist()))
        order = order[first:]
        places = index[order]
        again = np.flatnonzero(places[1:] == places[:-1])
        if len(again):
            places, order = np.delete(places, again), np.delete(order, again)
        return Candidates(candidates, places, order, strangers)

    def _hidden(self, request: RankRequest, known: Known, session: Places) -> Places:
        asked = [*request.exclude, *known.owned]
        if request.item is not None:
            asked.append(request.item)
        own = {"none": session[:0], "last": session[-1:], "seen": session}[self.exclude]
        if not asked:
            return own
        index = self.vocabulary.indices(asked)
        return np.concatenate([index[index >= 0], own])

    def _left_out(self, ids: Sequence[str]) -> Sequence[str]:
        """What the recommender's `exclude` leaves out, by id. The last item, and the last one that the model knows."""
        if self.exclude != "last":
            return ids if self.exclude == "seen" else ()
        known = (item for item in reversed(ids) if self.vocabulary.index(item) >= 0)
        return [*ids[-1:], *islice(known, 1)]


def _found(items: Places, places: Places) -> NDArray[np.bool_]:
    """Which of the items are among places that ascend: bool, like `items`."""
    if not len(places):
        return np.zeros(len(items), dtype=np.bool_)
    at = np.searchsorted(places, items)
    at[at == len(places)] = 0
    found: NDArray[np.bool_] = places[at] == items
    return found


def wanted(request: RankRequest) -> Iterator[tuple[str, Collection[str]]]:
    """Each attribute that the request filters by, with its values."""
    if request.category is not None:
        yield CATEGORY, [request.category]
    yield from request.filters.items()
