"""The online store follows what was taken: recent events by customer and session, and what a customer owns.

It is told after the answer, by a thread of its own, from a bounded queue. While the store is away the queue fills, and
then its oldest are dropped and counted: they are in the segments all the same.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict, deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import orjson

from endcap.errors import OnlineStoreError
from endcap.online import (
    CUSTOMERS,
    NO_ITEM,
    OWNED,
    KeyFault,
    OnlineStore,
    RecentEvent,
    list_owners,
    make_unreadable_error,
    name_customer_owner,
    name_session_owner,
)
from endcap_serving.intake import metrics
from endcap_serving.intake.records import NAMES
from endcap_serving.intake.segments import Frame
from endcap_serving.json_log import log_fields_of
from endcap_serving.log_limiter import LogLimiter

log = logging.getLogger("endcap.intake")
EVENTS, ORDERS = NAMES.index("events"), NAMES.index("orders")
PURCHASE = "purchase"
MOST_WAITING = 100_000
MOST_AT_ONCE = 2_000
MOST_CUSTOMERS = 2
"""Of a session's id: nothing is asked but whether there is another."""
WAITS = (0.2, 0.5, 1.0, 2.0, 5.0)
"""Seconds before a store that failed is asked again; the last for ever."""


@dataclass(frozen=True)
class Retention:
    """How long the store keeps what, and which events make an item the customer's."""

    events: timedelta = timedelta(days=7)
    owned: timedelta | None = None
    """None: for good."""
    owned_types: Collection[str] = ()
    """Besides orders."""


@dataclass
class _StoreUpdate:
    """What one call tells the store."""

    events: dict[str, list[RecentEvent]] = field(default_factory=lambda: defaultdict(list))
    customers: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    owned: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))


class OnlineWriter:
    def __init__(self, store: OnlineStore, keeping: Retention, most_waiting: int = MOST_WAITING) -> None:
        self._store, self._keeping, self._most = store, keeping, most_waiting
        self._waiting: deque[tuple[float, int, dict[str, Any]]] = deque()
        self._wake = threading.Condition()
        self._ending = False
        self._unreadable = LogLimiter(
            log, logging.ERROR, "a key of the online store holds something else; it is passed over"
        )
        self._thread = threading.Thread(target=self._run, name="follow", daemon=True)

    @property
    def lag(self) -> float:
        """Seconds since the oldest record was taken that the store has not got."""
        with self._wake:
            return time.monotonic() - self._waiting[0][0] if self._waiting else 0.0

    def start(self) -> None:
        self._thread.start()

    def offer(self, kind: int, taken: Sequence[dict[str, Any]]) -> None:
        """Have the store told of these records, soon. Never waits."""
        if kind not in (EVENTS, ORDERS):
            return
        now = time.monotonic()
        with self._wake:
            self._waiting.extend((now, kind, record) for record in taken)
            over = len(self._waiting) - self._most
            for _ in range(over):
                self._waiting.popleft()
            metrics.ONLINE_WAITING.set(len(self._waiting))
            self._wake.notify()
        if over > 0:
            metrics.ONLINE_DROPPED.inc(over)

    def replay(self, frames: Sequence[Frame]) -> None:
        """Offer a segment's records again: a store has what it has, and adds the rest."""
        for frame in frames:
            self.offer(frame.kind, [orjson.loads(record) for record in frame.records()])

    def end(self, patience: float) -> None:
        """Tell what waits, for so many seconds at most."""
        with self._wake:
            self._ending = True
            self._wake.notify()
        self._thread.join(patience)
        if self._waiting:
            metrics.ONLINE_DROPPED.inc(len(self._waiting))
            log.warning("the online store has not got all", extra={"records": len(self._waiting)})

    def _run(self) -> None:
        tries = 0
        while True:
            with self._wake:
                while not self._waiting and not self._ending:
                    self._wake.wait()
                # They stay in the queue until the store has them.
                group = [self._waiting[at] for at in range(min(len(self._waiting), MOST_AT_ONCE))]
            if not group:
                self._store.close()
                return
            try:
                self._tell(group)
                tries = 0
            except OnlineStoreError as error:
                tries += 1
                metrics.ONLINE_FAILED.inc()
                if tries == 1:
                    log.warning("the online store does not follow", extra=log_fields_of(error))
                with self._wake:
                    if self._ending:
                        self._store.close()
                        return
                    self._wake.wait_for(lambda: self._ending, WAITS[min(tries, len(WAITS)) - 1])
                continue
            except Exception:
                # Not of the store's being away: the same again would fail again.
                log.exception("records cannot be told to the online store")
                metrics.ONLINE_DROPPED.inc(len(group))
            self._done(group)

    def _done(self, group: Sequence[tuple[float, int, dict[str, Any]]]) -> None:
        """Take a group out of the queue, but for what was dropped from its head meanwhile."""
        last = group[-1]
        with self._wake:
            place = next((at for at in range(min(len(self._waiting), len(group))) if self._waiting[at] is last), -1)
            for _ in range(place + 1):
                self._waiting.popleft()
            metrics.ONLINE_WAITING.set(len(self._waiting))

    def _tell(self, group: Sequence[tuple[float, int, dict[str, Any]]]) -> None:
        update = self._sorted_by_owner(group)
        passed: dict[str, KeyFault] = {}
        if update.customers:
            passed |= self._store.add(CUSTOMERS, update.customers, self._keeping.events, MOST_CUSTOMERS)
        if update.events:
            passed |= self._store.append(update.events, self._keeping.events)
        if update.owned:
            passed |= self._store.add(OWNED, update.owned, self._keeping.owned)
        # The same again would be passed over again; what it said is in the segments all the same.
        for owner, fault in passed.items():
            metrics.ONLINE_UNREADABLE.labels(fault).inc()
            self._unreadable(**log_fields_of(make_unreadable_error("events or sets", owner, fault)))

    def _sorted_by_owner(self, group: Sequence[tuple[float, int, dict[str, Any]]]) -> _StoreUpdate:
        update = _StoreUpdate()
        # A late event that the store would have forgotten by now is not made recent by its coming late.
        forgotten = (time.time() - self._keeping.events.total_seconds()) * 1000
        for _, kind, record in group:
            type_ = PURCHASE if kind == ORDERS else record.get("type")
            lines = record["items"] if kind == ORDERS else [record]
            items = [line.get("item") or NO_ITEM for line in lines]
            customer, session = record.get("customer"), record.get("session")
            if items == [NO_ITEM]:
                # It keeps a customer's visit alive. A session that is named is not cut, nor made somebody's by it.
                session = None
            if record["time"] >= forgotten:
                for owner in list_owners(session, customer):
                    update.events[owner] += [RecentEvent(item, record["time"], type_) for item in items]
                if session is not None and customer is not None:
                    update.customers[name_session_owner(session, None)].add(customer)
            if customer is not None and (kind == ORDERS or type_ in self._keeping.owned_types):
                update.owned[name_customer_owner(customer)].update(item for item in items if item != NO_ITEM)
        return update
