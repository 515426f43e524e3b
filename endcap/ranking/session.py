"""The sessions of requests as arrays, which models score."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from endcap.features.sessions import Sessions, Types
from endcap.online.base import RecentEvent
from endcap.online.shopper_reader import StoredSource
from endcap.online.visits import Visits
from endcap.ranking.request import RankRequest, RequestEvent

NOBODY = -1
"""The customer of a session whose customer is unknown."""

Evaluate = Callable[[Sessions], Mapping[str, NDArray[np.float32]]]


class ItemIndex(Protocol):
    """What a ranker needs of a vocabulary: ids by index, most popular first, and back."""

    @property
    def ids(self) -> Sequence[str]: ...

    def index(self, item: str) -> int:
        """The item's index, or -1."""

    def indices(self, items: Sequence[str]) -> NDArray[np.int32]:
        """The index of each item, int32 [len(items)], -1 where it is not in the vocabulary."""


@dataclass(frozen=True)
class PrecomputedList:
    """A customer's list of the last batch: item ids, best first, and scores. Fallbacks come last and have None."""

    items: Sequence[str]
    scores: Sequence[float | None]


@dataclass(frozen=True)
class ShopperContext:
    """What the online store knows of one request's shopper.

    Parameters
    ----------
    events
        Recent events of the session, else of the customer, oldest first. Events in the request take their place.
    owned
        Ids of the items that the customer owns.
    stored_list
        The customer's precomputed list, if the request accepts it.
    is_known
        Whether the store knows the session or the customer, even if only by events that do not count.
    store_unavailable
        Whether the store should have answered and did not.
    source
        Where the events come from. No ranking depends on it.
    """

    events: Sequence[RequestEvent | RecentEvent] = ()
    owned: Collection[str] = ()
    stored_list: PrecomputedList | None = None
    is_known: bool = False
    store_unavailable: bool = False
    source: StoredSource = "none"


@dataclass(frozen=True)
class RequestSessions:
    """The sessions of n requests. sessions: without unknown items. item_ids: all items of each session."""

    sessions: Sessions
    item_ids: list[list[str]]

    def known_items(self, row: int) -> NDArray[np.int32]:
        """Return the known items of a session, oldest first."""
        start, end = self.sessions.offsets[row : row + 2]
        return self.sessions.items[start:end]

    def count_unknown(self, row: int) -> int:
        """Count a session's events whose item the model does not know."""
        return len(self.item_ids[row]) - len(self.known_items(row))


class RequestReader:
    """Read sessions from requests, as training read them from the log. Parameters are those of `Ranker`."""

    def __init__(
        self,
        vocabulary: ItemIndex,
        *,
        evaluate: Evaluate | None = None,
        event_types: Collection[str] | None = None,
        customers: Mapping[str, int] | None = None,
    ) -> None:
        self._vocabulary = vocabulary
        self._evaluate = evaluate
        self._visits = Visits(None if event_types is None else frozenset(event_types))
        self._customers = customers or {}

    def with_customers(self, customers: Mapping[str, int]) -> RequestReader:
        """Return a reader that knows the customers by other ids."""
        reader = copy.copy(self)
        reader._customers = customers
        return reader

    def read(
        self, requests: Sequence[RankRequest], contexts: Sequence[ShopperContext], now: int | Sequence[int]
    ) -> RequestSessions:
        """Return the requests' sessions.

        Parameters
        ----------
        requests, contexts
            As in `Ranker.rank`.
        now
            The time of events that carry none, in epoch milliseconds: one for all requests, or one for each.
        """
        moments = [now] * len(requests) if isinstance(now, int) else now
        ids: list[list[str]] = []
        flat: list[str] = []
        times: list[int] = []
        types_of_events: list[str | None] = []
        offsets = [0]
        for request, context, moment in zip(requests, contexts, moments, strict=True):
            events = self._select_events(request, context)
            if events is None:
                items = request.items if request.items is not None else [request.item or ""]
                times += [moment] * len(items)
                types_of_events += [None] * len(items)
            else:
                items = [event.item for event in events]
                times += [moment if event.time is None else event.time for event in events]
                types_of_events += [event.type for event in events]
            ids.append(items)
            flat += items
            offsets.append(len(flat))
        customers = [self._customers.get(request.customer or "", NOBODY) for request in requests]
        sessions = Sessions(
            self._vocabulary.indices(flat),
            np.array(times, dtype=np.int64),
            np.array(offsets, dtype=np.int64),
            np.array(customers, dtype=np.int32),
            types=None if self._evaluate is None else Types.of(types_of_events),
        )
        sessions = _drop_unknown_items(sessions)
        if self._evaluate is not None:
            sessions = replace(sessions, features=self._evaluate(sessions))
        return RequestSessions(sessions, ids)

    def _select_events(
        self, request: RankRequest, context: ShopperContext
    ) -> Sequence[RequestEvent | RecentEvent] | None:
        """Return a session's events that count. None: the session has items alone."""
        if request.items is not None or request.item is not None:
            return None
        events = context.events if request.events is None else request.events
        return self._visits.select_session_events(events)


def _drop_unknown_items(sessions: Sessions) -> Sessions:
    """Return the sessions without events of unknown items."""
    is_known = sessions.items >= 0
    if np.count_nonzero(is_known) == len(is_known):
        return sessions
    # How many known items stand before each place.
    before = np.concatenate([[0], np.cumsum(is_known)])
    types = None if sessions.types is None else sessions.types[is_known]
    return replace(
        sessions,
        items=sessions.items[is_known],
        times=sessions.times[is_known],
        offsets=before[sessions.offsets],
        types=types,
    )
