"""The sessions of requests as arrays: what a model is asked about."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from endcap.features.sessions import Sessions, Types
from endcap.online.base import RecentEvent
from endcap.online.visits import Visits
from endcap.ranking.request import Event, RankRequest

NOBODY = -1
"""The customer of a session whose customer is unknown."""

Evaluate = Callable[[Sessions], Mapping[str, NDArray[np.float32]]]


class Ids(Protocol):
    """What a ranker needs of a vocabulary: ids by index, most popular first, and back."""

    @property
    def ids(self) -> Sequence[str]: ...

    def index(self, item: str) -> int:
        """The item's index, or -1."""

    def indices(self, items: Sequence[str]) -> NDArray[np.int32]:
        """The index of each item, int32 [len(items)], -1 where it is not in the vocabulary."""


@dataclass(frozen=True)
class Precomputed:
    """A customer's list of the last batch: item ids, best first, and scores; None of fallbacks, which come last."""

    items: Sequence[str]
    scores: Sequence[float | None]


@dataclass(frozen=True)
class Known:
    """What the online store knows of one request's shopper.

    events: the recent ones of its session, else of its customer, oldest first; a request's own events count before
    them. owned: the items that the customer has. listed: the customer's list, for `precomputed`. seen: whether anything
    is known of the session or the customer, such as events that do not count. away: the store should have said, and did
    not.
    """

    events: Sequence[Event | RecentEvent] = ()
    owned: Collection[str] = ()
    listed: Precomputed | None = None
    seen: bool = False
    away: bool = False


@dataclass(frozen=True)
class Asked:
    """Sessions of n requests, of the items that the model knows. ids: each session's items, unknown ones too."""

    sessions: Sessions
    ids: list[list[str]]

    def own(self, row: int) -> NDArray[np.int32]:
        """The known items of a session, oldest first."""
        start, end = self.sessions.offsets[row : row + 2]
        return self.sessions.items[start:end]

    def unknown(self, row: int) -> int:
        """How many of its events are of items that the model does not know."""
        return len(self.ids[row]) - len(self.own(row))


class Reader:
    """Reads sessions out of requests, as the model's training read them out of the log."""

    def __init__(
        self,
        vocabulary: Ids,
        *,
        evaluate: Evaluate | None = None,
        event_types: Collection[str] | None = None,
        customers: Mapping[str, int] | None = None,
    ) -> None:
        """See `Ranker`."""
        self._vocabulary = vocabulary
        self._evaluate = evaluate
        self._visits = Visits(None if event_types is None else frozenset(event_types))
        self._customers = customers or {}

    def read(self, requests: Sequence[RankRequest], known: Sequence[Known], now: int) -> Asked:
        """The requests' sessions. `now`: epoch ms, the time of events that carry none."""
        ids: list[list[str]] = []
        flat: list[str] = []
        times: list[int] = []
        kinds: list[str | None] = []
        edges = [0]
        for request, told in zip(requests, known, strict=True):
            events = self._events(request, told)
            if events is None:
                own = request.items if request.items is not None else [request.item or ""]
                times += [now] * len(own)
                kinds += [None] * len(own)
            else:
                own = [event.item for event in events]
                times += [now if event.time is None else event.time for event in events]
                kinds += [event.type for event in events]
            ids.append(own)
            flat += own
            edges.append(len(flat))
        customers = [self._customers.get(request.customer or "", NOBODY) for request in requests]
        sessions = Sessions(
            self._vocabulary.indices(flat),
            np.array(times, dtype=np.int64),
            np.array(edges, dtype=np.int64),
            np.array(customers, dtype=np.int32),
            types=None if self._evaluate is None else Types.of(kinds),
        )
        sessions = _known_only(sessions)
        if self._evaluate is not None:
            sessions = replace(sessions, features=self._evaluate(sessions))
        return Asked(sessions, ids)

    def _events(self, request: RankRequest, known: Known) -> Sequence[Event | RecentEvent] | None:
        """A session's events that count; None where it is of items alone."""
        if request.items is not None or request.item is not None:
            return None
        events = known.events if request.events is None else request.events
        return self._visits.counting(events)


def _known_only(sessions: Sessions) -> Sessions:
    """Without the events of unknown items."""
    there = sessions.items >= 0
    if np.count_nonzero(there) == len(there):
        return sessions
    # How many known items stand before each place.
    before = np.concatenate([[0], np.cumsum(there)])
    types = None if sessions.types is None else sessions.types[there]
    return replace(
        sessions,
        items=sessions.items[there],
        times=sessions.times[there],
        offsets=before[sessions.offsets],
        types=types,
    )
