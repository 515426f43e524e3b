"""An online store as serving asks it: a bounded time, no error, and no call for a while after one that failed.

A call runs on a thread of its own, since sockets' time limits bound neither the look-up of a host's name nor an answer
that comes byte by byte. After a failure the store is left alone for `rest` seconds; then one caller tries it again,
while the others go on without.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as LateError
from dataclasses import dataclass, field
from typing import Literal

from endcap.online.base import (
    KeyFault,
    OnlineQuery,
    OnlineResult,
    OnlineStore,
    TableKeys,
)
from endcap.online.shopper_reader import ShopperReader
from endcap.online.visits import Visits

THREADS = 4
ReadOutcome = Literal["ok", "failed", "skipped"]
ReadObserver = Callable[[ReadOutcome, float], None]
FaultObserver = Callable[[str, str, KeyFault], None]
"""Is told of a key that cannot be read: what it is of, its owner or key, and why."""


@dataclass(frozen=True)
class GuardedRows:
    """Rows of a published table.

    Attributes
    ----------
    rows
        The rows in the order of the keys; None for a missing row.
    degraded
        Whether the store was not asked or did not answer in time. All rows are then None.
    unreadable
        Why a row could not be read, by its key.
    """

    rows: list[bytes | None]
    degraded: bool
    unreadable: dict[str, KeyFault] = field(default_factory=dict)


class GuardedStore(ShopperReader):
    """An online store behind a circuit breaker, for processes that serve. Any number of threads may share it.

    Parameters
    ----------
    store
        The store.
    timeout
        The seconds that a call may take in all.
    rest
        The seconds after a failure during which the store is not asked.
    history
        A table of `endcap.features.publishing` with each customer's history when the model was trained. Its events
        count if the store has none that are more recent. Its owned items always count.
    visits
        Which events count, and what ends a customer's visit.
    observe
        Called after each call with its outcome and its seconds (0 if skipped), for metrics.
    passed_over
        Called for each key that cannot be read. This concerns one customer, and is not a failure of the store.
    """

    def __init__(
        self,
        store: OnlineStore,
        *,
        timeout: float = 0.05,
        rest: float = 1.0,
        history: str | None = None,
        visits: Visits | None = None,
        observe: ReadObserver = lambda outcome, seconds: None,
        passed_over: FaultObserver = lambda where, key, fault: None,
    ) -> None:
        super().__init__(store, history=history, visits=visits)
        self._passed_over, self._observe = passed_over, observe
        self._store, self._timeout, self._rest = store, timeout, rest
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="online-store")
        self._lock = threading.Lock()
        self._next = 0.0
        """When the store may be asked again; 0: now."""
        self.error = ""
        """Of the last call that failed, until one succeeds."""

    @property
    def degraded(self) -> bool:
        """Whether the last call failed."""
        return self._next > 0

    def rows(self, table: str, keys: Sequence[str]) -> GuardedRows:
        """Read rows of a table's published version, such as lists made in advance.

        Parameters
        ----------
        table
            The table.
        keys
            The rows' keys.

        Returns
        -------
        GuardedRows
            The rows, in the order of the keys.
        """
        result = self._ask(OnlineQuery(rows=[TableKeys(table, keys)]))
        if result is None:
            return GuardedRows([None for _ in keys], True)
        self._tell(result.faults)
        return GuardedRows(result.rows[0], False, {key: fault for (_, key), fault in result.faults.items()})

    def pass_over(self, where: str, key: str) -> None:
        """Report a row that its reader cannot understand."""
        self._passed_over(where, key, "unreadable")

    def _tell(self, faults: Mapping[tuple[str, str], KeyFault]) -> None:
        for (where, key), fault in faults.items():
            self._passed_over(where, key, fault)

    def close(self) -> None:
        """Stop the threads and close the store's connections."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._store.close()

    def _ask(self, query: OnlineQuery) -> OnlineResult | None:
        """What the store answers within its time, or None."""
        if not self._may_ask():
            self._observe("skipped", 0.0)
            return None
        begun = time.monotonic()
        call = self._threads.submit(self._store.read, query)
        try:
            result = call.result(self._timeout)
        except Exception as error:  # whatever it is, a ranking does not fail for it
            call.cancel()  # where all threads wait, it must not be made when nobody wants it any more
            late = isinstance(error, LateError)
            self.error = f"no answer in {self._timeout:g} s" if late else str(error) or type(error).__name__
            self._next = time.monotonic() + self._rest
            self._observe("failed", time.monotonic() - begun)
            return None
        self._next, self.error = 0.0, ""
        self._observe("ok", time.monotonic() - begun)
        return result

    def _may_ask(self) -> bool:
        """Whether this caller may ask; after a failure one may, once the rest is over, and the others wait for it."""
        if not self._next:
            return True
        with self._lock:
            now = time.monotonic()
            if self._next > now:
                return False
            self._next = now + self._rest
            return True
