"""Shoppers of a cluster's shop, as its intake reports them, and a watch on what Envoy routes them by."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import pyarrow.parquet as pq
from minio import Minio

from endcap.deploy import find_state
from endcap.store import open_store
from tests.cluster.object_store import ObjectStore
from tests.rollout.shop import Crowd

VISITS = 600
"""A second."""
Shares = dict[str, float]


class ReportedShoppers:
    """Shoppers who come each second and meet the arms that the desired state has. A store's bucket gets the reports.

    `rates` are those of clicks by arm, and may be changed at any time.
    """

    def __init__(self, object_store: ObjectStore, store: str) -> None:
        self.rates: dict[str, float] = {}
        self._store, self._crowd, self._number = store, Crowd(1_000_000), 0
        host = object_store.endpoint.removeprefix("http://")
        keys = (object_store.access_key, object_store.secret_key)
        self._client = Minio(host, *keys, secure=False, region=object_store.region)

    @contextmanager
    def come(self) -> Iterator[None]:
        """Have them come for the length of a block."""
        store = open_store(self._store)

        def report() -> None:
            state = find_state("shoes", store)
            assert state is not None
            span = timedelta(seconds=1)
            begins = datetime.now(UTC) - span
            tables = self._crowd.visit(state, begins, VISITS, span, **self.rates)
            place = urlsplit(self._store)
            for kind, table in tables.items():
                body = io.BytesIO()
                pq.write_table(table, body)
                name = f"{place.path.strip('/')}/intake/{kind}/date={begins:%Y-%m-%d}/test-{self._number:012d}.parquet"
                self._client.put_object(place.netloc, name, io.BytesIO(body.getvalue()), body.tell())
            self._number += 1

        with repeat(report, 1.0):
            yield


@contextmanager
def record(look: Callable[[], Shares]) -> Iterator[list[tuple[datetime, Shares]]]:
    """Note each change of what `look` returns, and when it was seen, for the length of a block."""
    changes: list[tuple[datetime, Shares]] = []

    def note() -> None:
        shares = look()
        if not changes or changes[-1][1] != shares:
            changes.append((datetime.now(UTC), shares))

    with repeat(note, 0.05):
        yield changes


@contextmanager
def repeat(act: Callable[[], None], pause: float) -> Iterator[None]:
    """Act again and again in a thread. What it raises, the block raises at its end."""
    stop, failures = threading.Event(), list[BaseException]()

    def run() -> None:
        try:
            while not stop.wait(pause):
                act()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    for failure in failures:
        raise failure
