"""What rankings need of shoppers: which of their events are recent, and what they own."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

import orjson

from endcap import ids
from endcap.online.base import (
    EVENTS,
    KeyFault,
    OnlineQuery,
    OnlineResult,
    RecentEvent,
    TableKeys,
    parse_events,
)
from endcap.online.key_names import CUSTOMERS, OWNED, name_customer_owner, name_session_owner
from endcap.online.visits import Visits

StoredSource = Literal["session", "customer", "history", "none"]
"""Where a request's recent events come from: the session, the customer's last visit, the customer's history in the
training data, or nowhere."""


@dataclass(frozen=True)
class ShopperData:
    """What the online store knows about the shopper of each request.

    Attributes
    ----------
    events
        Recent events for each request, oldest first.
    owned
        Items for each request that must not be shown again.
    degraded
        Whether the store was not asked or did not answer in time. The other fields are then empty.
    recognised
        Whether anything is known of the session or the customer, even if it does not count.
    sources
        Where the events of each request come from.
    unreadable
        Why a value of a request could not be read, by the request's place. The request's other data are complete.
    """

    events: list[list[RecentEvent]]
    owned: list[set[str]]
    degraded: bool
    recognised: list[bool]
    sources: list[StoredSource]
    unreadable: dict[int, KeyFault] = field(default_factory=dict)


class ShopperSource(Protocol):
    """What is asked of shoppers: an online store, or what one would have said at another time."""

    MOST_EVENTS: int

    def read(self, query: OnlineQuery) -> OnlineResult:
        """Read recent events, sets and rows; see `OnlineStore.read`."""


class ShopperReader:
    """Reads what rankings need of shoppers: which events are recent, and what is owned.

    Parameters
    ----------
    source
        What is asked.
    history
        A table of `endcap.features.publishing` with each customer's history when the model was trained. Its events
        count if the store has none that are more recent. Its owned items always count.
    visits
        Which events count, and what ends a customer's visit.
    """

    def __init__(self, source: ShopperSource, *, history: str | None = None, visits: Visits | None = None) -> None:
        self._source, self._history, self._visits = source, history, visits or Visits()

    def look_up(
        self,
        customers: Sequence[str | None],
        sessions: Sequence[str | None],
        most: int,
        *,
        now: int | None = None,
    ) -> ShopperData:
        """Look up recent events and owned items for requests.

        Parameters
        ----------
        customers, sessions
            The customer's and the session's id of each request, or None.
        most
            The number of events to return for each request.
        now
            The moment as of which items are owned, epoch milliseconds. None: when the store has answered.

        Returns
        -------
        ShopperData
            The data of each request.

        Notes
        -----
        The events are those of the session if it has any, else those of the customer's last visit, else those of the
        customer's history. The owned items are those that the customer or the session bought, including the history.

        If a request has a customer and a session, events that were sent with this session's id and no customer count
        too, unless another customer has a session with the same id: then they may be that customer's. If a request has
        no customer, only events without a customer count.

        This takes one round trip, or two if somebody has many events that do not count, and none if no request has an
        id.
        """
        shoppers = [
            _Shopper(_accept_id(customer), _accept_id(session))
            for customer, session in zip(customers, sessions, strict=True)
        ]
        owners = list(dict.fromkeys(owner for shopper in shoppers for owner in shopper.owners))
        if not owners:
            return _make_empty_data(len(shoppers), degraded=False)
        shared = list(dict.fromkeys(shopper.nobody for shopper in shoppers if shopper.nobody is not None))
        known = (
            list(dict.fromkeys(shopper.customer for shopper in shoppers if shopper.customer is not None))
            if self._history
            else []
        )
        history = [TableKeys(self._history, known)] if self._history and known else []
        query = OnlineQuery(owners, self._visits.count_reads(most), [(OWNED, owners), (CUSTOMERS, shared)], history)
        result = self._ask(query)
        moment = time.time_ns() // 1_000_000 if now is None else now
        if result is None:
            return _make_empty_data(len(shoppers), degraded=True)
        events, owned = dict(zip(owners, result.events, strict=True)), dict(zip(owners, result.sets[0], strict=True))
        short = [owner for owner, some in events.items() if self._visits.needs_more(some, most)]
        more = self._ask(OnlineQuery(short, self._source.MOST_EVENTS)) if short else OnlineResult()
        if more is not None:
            events |= zip(short, more.events, strict=True)
        session_customers = dict(zip(shared, result.sets[1], strict=True))
        faults = {**result.faults, **(more.faults if more is not None else {})}
        pasts = self._read_histories(zip(known, result.rows[0], strict=True) if history else (), faults)
        # Of a session whose customers cannot be read nobody can say that it is this customer's alone.
        session_customers |= {session: {"", " "} for session in shared if (CUSTOMERS, session) in faults}
        self._tell(faults)
        answers = ShopperData([], [], more is None, [], [])
        for number, shopper in enumerate(shoppers):
            if faults and (fault := shopper.fault(faults, self._history)) is not None:
                answers.unreadable[number] = fault
            visit, past = shopper.visit(session_customers), pasts.get(shopper.customer, _NO_HISTORY)
            recent = self._visits.select_session_events(_merge_events([events[owner] for owner in visit]))
            source: StoredSource = "session"
            if not recent and shopper.customer is not None:
                recent = self._visits.find_last_visit(events[name_customer_owner(shopper.customer)])
                source = "customer" if recent else "history"
                recent = recent or past.recent
            answers.sources.append(source if recent else "none")
            answers.events.append(list(recent[-most:]) if most > 0 else [])
            own_owners = visit if shopper.customer is None else [*visit, name_customer_owner(shopper.customer)]
            answers.owned.append(past.owned_at(moment).union(*(owned[owner] for owner in own_owners)))
            answers.recognised.append(
                bool(recent or past.known) or any(events[owner] or owned[owner] for owner in own_owners)
            )
        return answers

    def _read_histories(
        self, rows: Iterable[tuple[str, bytes | None]], faults: dict[tuple[str, str], KeyFault]
    ) -> dict[str | None, _CustomerHistory]:
        """Read customers' histories from their rows. A row that cannot be read is added to the faults."""
        pasts: dict[str | None, _CustomerHistory] = {}
        for customer, row in rows:
            try:
                if row:
                    pasts[customer] = _CustomerHistory.read(row)
            except (ValueError, TypeError):
                faults[self._history or "", customer] = "unreadable"
        return pasts

    def _ask(self, query: OnlineQuery) -> OnlineResult | None:
        """Return what the source says; None if it does not answer."""
        return self._source.read(query)

    def _tell(self, faults: Mapping[tuple[str, str], KeyFault]) -> None:
        """Report keys that cannot be read."""


def _make_empty_data(shoppers: int, *, degraded: bool) -> ShopperData:
    return ShopperData(
        [[] for _ in range(shoppers)],
        [set() for _ in range(shoppers)],
        degraded,
        [False] * shoppers,
        ["none"] * shoppers,
    )


def _accept_id(id_: str | None) -> str | None:
    """The id, or None where there is none, or it is none: no writer has written of it."""
    return id_ if id_ is not None and ids.find_id_fault(id_) is None else None


class _Shopper(NamedTuple):
    """Who a request is for."""

    customer: str | None
    session: str | None

    @property
    def nobody(self) -> str | None:
        """The owner of nobody's events under the id of a customer's session, or None."""
        return None if self.customer is None or self.session is None else name_session_owner(self.session, None)

    @property
    def owners(self) -> list[str]:
        """All whose events and sets may count."""
        named = [] if self.session is None else [name_session_owner(self.session, self.customer)]
        named += [] if self.nobody is None else [self.nobody]
        return named if self.customer is None else [*named, name_customer_owner(self.customer)]

    def fault(self, faults: Mapping[tuple[str, str], KeyFault], history: str | None) -> KeyFault | None:
        """Why something of this shopper's own cannot be read, or None."""
        places = [(where, owner) for owner in self.owners for where in (EVENTS, OWNED, CUSTOMERS)]
        if history is not None and self.customer is not None:
            places.append((history, self.customer))
        return next((faults[place] for place in places if place in faults), None)

    def visit(self, customers: Mapping[str, set[str]]) -> list[str]:
        """The owners of the session. customers: those known of each `nobody`."""
        if self.session is None:
            return []
        own = name_session_owner(self.session, self.customer)
        return [own] if self.nobody is None or customers[self.nobody] - {self.customer} else [own, self.nobody]


def _merge_events(parts: Sequence[list[RecentEvent]]) -> list[RecentEvent]:
    """Several owners' events, oldest first."""
    some = [part for part in parts if part]
    if len(some) < 2:
        return some[0] if some else []
    return sorted(itertools.chain(*some), key=lambda event: event.time)


class _CustomerHistory(NamedTuple):
    """A customer's row of `endcap.features.publishing`: the last events, a visit or its end, and what is owned."""

    recent: list[RecentEvent]
    owned: list[tuple[str, int | None]]
    known: bool = True

    @classmethod
    def read(cls, row: bytes) -> _CustomerHistory:
        """Raises ValueError or TypeError where it is no such row."""
        past = orjson.loads(row)
        if type(past) is not dict:
            raise TypeError("no object")
        owned = [(item, until) for item, until in past.get("owned", ())]
        if not all(type(item) is str and type(until) in (int, type(None)) for item, until in owned):
            raise TypeError("no items with the time that ends each")
        return cls(parse_events(past.get("recent", [])), owned, bool(past))

    def owned_at(self, now: int) -> set[str]:
        """What the customer owns then (epoch ms)."""
        return {item for item, until in self.owned if until is None or until > now}


_NO_HISTORY = _CustomerHistory([], [], known=False)
