"""The thread that writes accepted records to the online store: recent events by customer and session, and owned items.

It writes after the request is answered, from a bounded queue. While the store cannot be reached the queue fills. Then
the oldest records are dropped and counted; they are in the segments all the same.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import orjson

from endcap.errors import OnlineStoreError
from endcap.online import CUSTOMERS, NO_ITEM, OWNED, KeyFault, OnlineStore, make_unreadable_error
from endcap.online.record_updates import MOST_CUSTOMERS, PURCHASE, Retention, StoreUpdate
from endcap_serving.intake import metrics
from endcap_serving.intake.records import NAMES
from endcap_serving.intake.segments import Frame
from endcap_serving.json_log import make_log_fields
from endcap_serving.log_limiter import LogLimiter

log = logging.getLogger("endcap.intake")
EVENTS, ORDERS = NAMES.index("events"), NAMES.index("orders")
MOST_WAITING = 100_000
"""Records in the queue."""
MOST_AT_ONCE = 2_000
"""Records in one write."""
WAITS = (0.2, 0.5, 1.0, 2.0, 5.0)
"""Seconds before the next try after the first, second, … failure in a row; later ones wait as long as the last."""


class OnlineWriter:
    """Writes records to an online store from a queue, in a thread of its own.

    Parameters
    ----------
    store
        The store. The writer closes it at the end.
    retention
        What the store keeps, and for how long.
    max_waiting
        Records in the queue. If there are more, the oldest are dropped.
    """

    def __init__(self, store: OnlineStore, retention: Retention, max_waiting: int = MOST_WAITING) -> None:
        self._store, self._retention, self._max_waiting = store, retention, max_waiting
        self._waiting: deque[tuple[float, int, dict[str, Any]]] = deque()
        self._wake = threading.Condition()
        self._ending = False
        self._log_unreadable = LogLimiter(
            log, logging.ERROR, "a key of the online store holds other data; the record is not written there"
        )
        self._thread = threading.Thread(target=self._run, name="follow", daemon=True)

    @property
    def lag(self) -> float:
        """Seconds since the oldest record that the store does not have was accepted; 0 if it has all."""
        with self._wake:
            return time.monotonic() - self._waiting[0][0] if self._waiting else 0.0

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def offer(self, kind: int, records: Sequence[dict[str, Any]]) -> None:
        """Put accepted records into the queue. Never waits.

        Parameters
        ----------
        kind
            Position of the records' kind in `records.NAMES`. Impressions are ignored.
        records
            The records, as `records.read_event` and `records.read_order` return them.
        """
        if kind not in (EVENTS, ORDERS):
            return
        now = time.monotonic()
        with self._wake:
            self._waiting.extend((now, kind, record) for record in records)
            excess = len(self._waiting) - self._max_waiting
            for _ in range(excess):
                self._waiting.popleft()
            metrics.ONLINE_WAITING.set(len(self._waiting))
            self._wake.notify()
        if excess > 0:
            metrics.ONLINE_DROPPED.inc(excess)

    def replay(self, frames: Sequence[Frame]) -> None:
        """Offer the records of a segment again. The store ignores those that it has."""
        for frame in frames:
            self.offer(frame.kind, [orjson.loads(record) for record in frame.list_records()])

    def end(self, patience: float) -> None:
        """Write what waits, for `patience` seconds at most, and stop."""
        with self._wake:
            self._ending = True
            self._wake.notify()
        self._thread.join(patience)
        if self._waiting:
            metrics.ONLINE_DROPPED.inc(len(self._waiting))
            log.warning("the online store did not get all records", extra={"records": len(self._waiting)})

    def _run(self) -> None:
        """Write groups of records until the end."""
        tries = 0
        while True:
            with self._wake:
                while not self._waiting and not self._ending:
                    self._wake.wait()
                # The records stay in the queue until the store has them.
                group = [self._waiting[at] for at in range(min(len(self._waiting), MOST_AT_ONCE))]
            if not group:
                self._store.close()
                return
            try:
                self._write_group(group)
                tries = 0
            except OnlineStoreError as error:
                tries += 1
                metrics.ONLINE_FAILED.inc()
                if tries == 1:
                    log.warning("the online store cannot be written; it is tried again", extra=make_log_fields(error))
                with self._wake:
                    if self._ending:
                        self._store.close()
                        return
                    self._wake.wait_for(lambda: self._ending, WAITS[min(tries, len(WAITS)) - 1])
                continue
            except Exception:
                # The store can be reached, so the same records would fail again.
                log.exception("records cannot be written to the online store; they are dropped")
                metrics.ONLINE_DROPPED.inc(len(group))
            self._remove_group(group)

    def _remove_group(self, group: Sequence[tuple[float, int, dict[str, Any]]]) -> None:
        """Take a group out of the queue. Some of it may have been dropped from the queue's head meanwhile."""
        last = group[-1]
        with self._wake:
            index = next((at for at in range(min(len(self._waiting), len(group))) if self._waiting[at] is last), -1)
            for _ in range(index + 1):
                self._waiting.popleft()
            metrics.ONLINE_WAITING.set(len(self._waiting))

    def _write_group(self, group: Sequence[tuple[float, int, dict[str, Any]]]) -> None:
        """Write a group to the store. Raises OnlineStoreError."""
        update = self._group_by_owner(group)
        unreadable: dict[str, KeyFault] = {}
        if update.customers:
            unreadable |= self._store.add(CUSTOMERS, update.customers, self._retention.events, MOST_CUSTOMERS)
        if update.events:
            unreadable |= self._store.append(update.events, self._retention.events)
        if update.owned:
            unreadable |= self._store.add(OWNED, update.owned, self._retention.owned)
        # Another try would meet the same key. The records are in the segments all the same.
        for owner, fault in unreadable.items():
            metrics.ONLINE_UNREADABLE.labels(fault).inc()
            self._log_unreadable(**make_log_fields(make_unreadable_error("events or sets", owner, fault)))

    def _group_by_owner(self, group: Sequence[tuple[float, int, dict[str, Any]]]) -> StoreUpdate:
        """Group a group's events and items by the customers and sessions that they belong to."""
        update = StoreUpdate()
        oldest_time = (time.time() - self._retention.events.total_seconds()) * 1000
        for _, kind, record in group:
            type_ = PURCHASE if kind == ORDERS else record.get("type")
            lines = record["items"] if kind == ORDERS else [record]
            update.add(
                [line.get("item") or NO_ITEM for line in lines],
                record["time"],
                type_,
                customer=record.get("customer"),
                session=record.get("session"),
                is_recent=record["time"] >= oldest_time,
                owns=kind == ORDERS or type_ in self._retention.owned_types,
            )
        return update
