"""A dataset's items and customers as rows of the online store, for predictors that were trained on that dataset.

Tables ``features/items/<dataset key>`` and ``features/customers/<dataset key>`` have a row for each id, as JSON:

    item      {"attributes": {name: value}, "events": n, "first_seen": epoch ms}
    customer  {"attributes": {name: value}, "events": n, "recent": [[item, epoch ms, type?], …],
               "owned": [[item, epoch ms or null], …]}

`recent` has the customer's last HISTORY events of the dataset's training part, oldest first, as
`endcap.online.RecentEvent` has them. If gaps cut sessions, these are the events of the customer's last session alone.
The type is there if the shop declares a feature of it. `owned` is there if the shop has such a rule: what the customer
bought, and until when that counts (null: always).
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from endcap.errors import NotFoundError
from endcap.features.dataset_files import OWNED_FILE, read_declared_features
from endcap.online import OnlineStore, name_feature_table
from endcap.spec.rules import Owned

VERSION = "rows"
"""The only version of each table, because a dataset is immutable; how long items are owned is added to it."""
LAST_SESSION = "last-session"
"""The version of customers whose `recent` has their last session alone."""
HISTORY = 50
"""Events of each customer, as many as `serving.recent_events` has by default."""
KEEP = timedelta(days=30)
AT_ONCE = 2000
"""Rows in one call."""
EVENTS_AT_ONCE = 5_000_000
"""Events that are held in memory and sorted together: about 200 MB."""
SAY_EVERY = 5.0
"""Seconds between two lines of progress."""
Progress = Callable[[str], None]
Row = tuple[str, bytes]


def renew_features(key: str, online: OnlineStore, *, owned: Owned | None = None, by_gap: bool = False) -> bool:
    """Return whether a dataset's rows are published as `publish_features` would do it; if so, keep them for KEEP from
    now on."""
    versions = {"items": VERSION, "customers": _name_customers_version(_to_milliseconds(owned), by_gap=by_gap)}
    return all(_renew(name_feature_table(name, key), version, online) for name, version in versions.items())


def publish_features(
    dataset: Path,
    key: str,
    online: OnlineStore,
    progress: Progress = lambda line: None,
    *,
    owned: Owned | None = None,
    by_gap: bool = False,
) -> dict[str, int]:
    """Write the rows of the dataset in a folder to the online store, and publish them.

    Several processes may publish the same at once. Nothing half-written is read: the same call begins anew.

    Parameters
    ----------
    dataset
        Its folder.
    key
        The dataset's fingerprint, the last part of its address.
    online
        The store.
    owned
        The shop's rule.
    by_gap
        Whether gaps cut the dataset's sessions.

    Returns
    -------
    dict
        Rows written of `items` and of `customers`; 0 if all were there. They are kept for KEEP from now on.

    Raises
    ------
    OnlineStoreError
        If the store fails.
    """
    items = EntityTable(dataset / "items.parquet", "item")
    for_ms = _to_milliseconds(owned)
    customers = _build_customer_rows(dataset, items.ids, for_ms, by_gap=by_gap)
    version = _name_customers_version(for_ms, by_gap=by_gap)
    tables = {"items": (VERSION, items.iterate_rows("events", "first_seen")), "customers": (version, customers)}
    return {name: _publish(name_feature_table(name, key), *rows, online, progress) for name, rows in tables.items()}


def build_customer_rows(dataset: Path, *, owned: Owned | None = None, by_gap: bool = False) -> Iterator[Row]:
    """Yield each customer's id and row as `publish_features` writes them. Parameters as there."""
    items = EntityTable(dataset / "items.parquet", "item").ids
    return _build_customer_rows(dataset, items, _to_milliseconds(owned), by_gap=by_gap)


def _to_milliseconds(owned: Owned | None) -> int | None:
    return None if owned is None or owned.keep is None else owned.keep // timedelta(milliseconds=1)


def _name_customers_version(owned_for: int | None, *, by_gap: bool) -> str:
    version = LAST_SESSION if by_gap else VERSION
    return version if owned_for is None else f"{version}-{owned_for}"


def _renew(table: str, version: str, online: OnlineStore) -> bool:
    """Return whether a table's version is the published one; if so, keep it for KEEP from now on."""
    if online.published(table) == version:
        with contextlib.suppress(NotFoundError):  # forgotten between the two calls
            online.publish(table, version)
            return True
    return False


def _publish(table: str, version: str, rows: Iterator[Row], online: OnlineStore, progress: Progress) -> int:
    if _renew(table, version, online):
        progress(f"{table} is in the online store")
        return 0
    written, reported = 0, time.monotonic()
    while True:  # once without rows too: a table may be empty
        part = dict(itertools.islice(rows, AT_ONCE))
        if (part or not written) and not online.write(table, version, part, KEEP):
            break  # it was published before, or another has done so meanwhile
        written += len(part)
        if len(part) < AT_ONCE:
            break
        if time.monotonic() - reported > SAY_EVERY:
            progress(f"{table}: {written:,} rows are in the online store")
            reported = time.monotonic()
    online.publish(table, version)
    progress(f"{table}: {written:,} rows published in the online store")
    return written


class EntityTable:
    """Items or customers: their ids, counts and attributes."""

    def __init__(self, file: Path, name: str) -> None:
        # Without `partitioning`, folders above the file that are named like `a=b` would become columns.
        table = pq.read_table(file, partitioning=None)
        self.ids: list[str] = table[name].cast(pa.string()).to_pylist()
        self.table = table.drop_columns([name])

    def iterate_fields(self, *counts: str) -> Iterator[dict[str, Any]]:
        """Yield counts and attributes of each, a batch in memory at a time."""
        attributes = [name for name in self.table.column_names if name not in counts]
        for batch in self.table.to_batches(AT_ONCE):
            for row in batch.to_pylist():
                yield {"attributes": {name: row[name] for name in attributes}, **{name: row[name] for name in counts}}

    def iterate_rows(self, *counts: str) -> Iterator[Row]:
        for id_, fields in zip(self.ids, self.iterate_fields(*counts), strict=True):
            yield id_, orjson.dumps(fields, default=str)


def _build_customer_rows(dataset: Path, items: Sequence[str], owned_for: int | None, *, by_gap: bool) -> Iterator[Row]:
    """Yield the rows of customers. `items` are ids by number; an item is owned for `owned_for` ms."""
    customers = EntityTable(dataset / "customers.parquet", "customer")
    fields = customers.iterate_fields("events")
    for first, last in _split_customers(customers.table["events"].to_numpy()):
        rows: list[Iterator[Any]] = [
            itertools.islice(customers.ids, first, last),
            itertools.islice(fields, last - first),
        ]
        names = ["recent"]
        rows.append(_read_recent(dataset, first, last, items, by_gap=by_gap))
        if (dataset / OWNED_FILE).is_file():
            names.append("owned")
            rows.append(_read_owned(dataset, first, last, items, owned_for))
        for id_, known, *more in zip(*rows, strict=True):
            yield id_, orjson.dumps({**known, **dict(zip(names, more, strict=True))}, default=str)


def _split_customers(counts: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Yield ranges (first, last + 1) of customers whose events fit into memory. `counts` are the events of each
    customer."""
    ends = np.cumsum(counts)
    first = 0
    while first < len(counts):
        before = ends[first - 1] if first else 0
        last = max(first + 1, int(np.searchsorted(ends, before + EVENTS_AT_ONCE, side="right")))
        yield first, last
        first = last


def _read_recent(
    dataset: Path, first: int, last: int, ids: Sequence[str], *, by_gap: bool
) -> Iterator[list[list[Any]]]:
    """Yield the last events of the customers first … last - 1, oldest first; with `by_gap`, of their last sessions."""
    kind = next((feature for feature in read_declared_features(dataset) if feature.kind == "type"), None)
    types = (kind.types or []) if kind else []
    more = ["session", *([kind.name] if kind else [])]
    customers, items, times, sessions, *codes = _read_events(dataset / "events.parquet", first, last, more)
    order = np.lexsort((times, customers))  # stable: equal times stay in the order of the file
    ends = np.searchsorted(customers[order], np.arange(first, last + 1))
    for begin, end in itertools.pairwise(ends.tolist()):
        places = order[max(begin, end - HISTORY) : end]
        if by_gap:  # a customer's sessions lie behind each other
            places = places[sessions[places] == sessions[places[-1:]]]
        events = [[ids[item], time] for item, time in zip(items[places].tolist(), times[places].tolist(), strict=True)]
        if codes:
            for event, code in zip(events, codes[0][places].astype(int).tolist(), strict=True):
                event += [types[code - 1]] if code else []
        yield events


def _read_owned(
    dataset: Path, first: int, last: int, ids: Sequence[str], owned_for: int | None
) -> Iterator[list[list[Any]]]:
    """Yield what the customers first … last - 1 own, each item with the time until which it is owned after its last
    buying."""
    customers, items, times = _read_events(dataset / OWNED_FILE, first, last, [])
    if len(items):  # in the order of customer, item, time
        final = np.append((np.diff(customers) != 0) | (np.diff(items) != 0), True)
        customers, items, times = customers[final], items[final], times[final]
    ends = np.searchsorted(customers, np.arange(first, last + 1))
    for begin, end in itertools.pairwise(ends.tolist()):
        bought = zip(items[begin:end].tolist(), times[begin:end].tolist(), strict=True)
        yield [[ids[item], None if owned_for is None else time + owned_for] for item, time in bought]


def _read_events(file: Path, first: int, last: int, more: Sequence[str]) -> list[NDArray[Any]]:
    """Read customer, item, time and more columns of the events of the customers first … last - 1, in the file's order.

    The file is read part by part, and only rows of these customers are kept.
    """
    columns = ["customer", "item", "time", *more]
    with pq.ParquetFile(file) as parquet:
        parts = [
            batch.filter(pc.and_(pc.greater_equal(batch["customer"], first), pc.less(batch["customer"], last)))
            for batch in parquet.iter_batches(columns=columns)
        ]
        schema = pa.schema([parquet.schema_arrow.field(name) for name in columns])
    return [column.to_numpy() for column in pa.Table.from_batches(parts, schema=schema).columns]
