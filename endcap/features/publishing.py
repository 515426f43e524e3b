"""A dataset's items and customers as rows of the online store, for predictors that were trained on that dataset.

Tables ``features/items/<dataset key>`` and ``features/customers/<dataset key>``, a row an id, JSON:

    item      {"attributes": {name: value}, "events": n, "first_seen": epoch ms}
    customer  {"attributes": {name: value}, "events": n, "recent": [[item, epoch ms, type?], …]}

`recent` are the customer's last HISTORY events of the dataset's training part, oldest first, as
`endcap.online.RecentEvent` has them; the type is said where the shop declares a feature of it.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from endcap.errors import NotFoundError, OnlineStoreError
from endcap.features.view import declared_features
from endcap.online import OnlineStore, feature_table, online_url, open_online
from endcap.store import Store

VERSION = "rows"
"""The only version of each table: a dataset is immutable."""
HISTORY = 50
"""Events of each customer, as `serving.recent_events` has it by default."""
KEEP = timedelta(days=30)
AT_ONCE = 2000
"""Rows in one call."""
EVENTS_AT_ONCE = 5_000_000
"""Events that are held in memory and sorted together: about 200 MB."""
SAY_EVERY = 5.0
"""Seconds between two lines of progress."""
PATIENCE = 10.0
"""Seconds that the store may take for each call of ours."""
Progress = Callable[[str], None]
Row = tuple[str, bytes]


def publish_where_asked(shop: str, dataset: str, store: Store, progress: Progress = lambda line: None) -> str:
    """Publish the rows of a dataset of the shop in the online store that the environment names; nothing without one.

    Returns what to add to a line on the dataset. A store that is down costs the rows, which the next run publishes,
    and not the run: models can be trained without it, and predictors rank by what requests carry.
    """
    url = online_url()
    if url is None:
        return ""
    key = store.manifest(dataset)["facts"]["fingerprint"]
    try:
        with open_online(url, shop=shop, timeout=PATIENCE) as online:
            publish_features(store.fetch(dataset), key, online, progress)
    except OnlineStoreError as error:
        progress(f"the rows are not published, the next run tries it again: {error}")
        return "; not in the online store, which failed"
    return "; rows in the online store"


def publish_features(
    dataset: Path, key: str, online: OnlineStore, progress: Progress = lambda line: None
) -> dict[str, int]:
    """Write the rows of the dataset in this folder, and publish them.

    Returns the rows written of `items` and of `customers`, 0 where all were there.

    key: the dataset's fingerprint, the last part of its address. What is there already is kept for KEEP from now on.
    Raises OnlineStoreError; nothing half-written is read, and the same call then begins anew. Several may publish the
    same at once.
    """
    items = _Entries(dataset / "items.parquet", "item")
    made = {"items": items.rows("events", "first_seen"), "customers": _customers(dataset, items.ids)}
    return {name: _publish(feature_table(name, key), rows, online, progress) for name, rows in made.items()}


def _publish(table: str, rows: Iterator[Row], online: OnlineStore, progress: Progress) -> int:
    if online.published(table) == VERSION:
        with contextlib.suppress(NotFoundError):  # forgotten between the two calls
            online.publish(table, VERSION)
            progress(f"{table} is in the online store")
            return 0
    written, said = 0, time.monotonic()
    while True:  # once without rows too: a table may be empty
        part = dict(itertools.islice(rows, AT_ONCE))
        if (part or not written) and not online.write(table, VERSION, part, KEEP):
            progress(f"{table}: another has published it meanwhile")
            return 0
        written += len(part)
        if len(part) < AT_ONCE:
            break
        if time.monotonic() - said > SAY_EVERY:
            progress(f"{table}: {written:,} rows are in the online store")
            said = time.monotonic()
    online.publish(table, VERSION)
    progress(f"{table}: {written:,} rows published in the online store")
    return written


class _Entries:
    """Items or customers: their ids, counts and attributes."""

    def __init__(self, file: Path, name: str) -> None:
        # Without `partitioning`, folders above the file that are named like `a=b` would become columns.
        table = pq.read_table(file, partitioning=None)
        self.ids: list[str] = table[name].cast(pa.string()).to_pylist()
        self.table = table.drop_columns([name])

    def fields(self, *counts: str) -> Iterator[dict[str, Any]]:
        """Counts and attributes of each, a batch in memory at a time."""
        attributes = [name for name in self.table.column_names if name not in counts]
        for batch in self.table.to_batches(AT_ONCE):
            for row in batch.to_pylist():
                yield {"attributes": {name: row[name] for name in attributes}, **{name: row[name] for name in counts}}

    def rows(self, *counts: str) -> Iterator[Row]:
        for id_, fields in zip(self.ids, self.fields(*counts), strict=True):
            yield id_, orjson.dumps(fields, default=str)


def _customers(dataset: Path, items: Sequence[str]) -> Iterator[Row]:
    """items: ids of the dataset's items, by their numbers in it."""
    customers = _Entries(dataset / "customers.parquet", "customer")
    rows = zip(customers.ids, customers.fields("events"), strict=True)
    for first, last in _blocks(customers.table["events"].to_numpy()):
        found = _events(dataset, first, last)
        for (id_, fields), recent in zip(itertools.islice(rows, last - first), found.recent(items), strict=True):
            yield id_, orjson.dumps({**fields, "recent": recent}, default=str)


def _blocks(counts: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Ranges (first, last + 1) of customers whose events fit into memory. counts: events of each customer."""
    ends = np.cumsum(counts)
    first = 0
    while first < len(counts):
        before = ends[first - 1] if first else 0
        last = max(first + 1, int(np.searchsorted(ends, before + EVENTS_AT_ONCE, side="right")))
        yield first, last
        first = last


@dataclass(frozen=True)
class _Events:
    """Events of the customers first … last - 1, in the order of the file. types: codes, 1 + the place in `names`."""

    first: int
    last: int
    items: NDArray[np.int32]
    customers: NDArray[np.int32]
    times: NDArray[np.int64]
    types: NDArray[np.float32] | None
    names: list[str]

    def recent(self, ids: Sequence[str]) -> Iterator[list[list[Any]]]:
        """The last events of each customer, oldest first."""
        order = np.lexsort((self.times, self.customers))  # stable: equal times stay in the order of the file
        ends = np.searchsorted(self.customers[order], np.arange(self.first, self.last + 1))
        for begin, end in itertools.pairwise(ends.tolist()):
            mine = order[max(begin, end - HISTORY) : end]
            times = self.times[mine].tolist()
            recent = [[ids[item], moment] for item, moment in zip(self.items[mine].tolist(), times, strict=True)]
            if self.types is not None:
                for event, code in zip(recent, self.types[mine].astype(int).tolist(), strict=True):
                    event += [self.names[code - 1]] if code else []
            yield recent


def _events(dataset: Path, first: int, last: int) -> _Events:
    """Reads the file part by part, and keeps what is of these customers."""
    kind = next((feature for feature in declared_features(dataset) if feature.kind == "type"), None)
    columns = ["item", "customer", "time", *([kind.name] if kind else [])]
    parts = []
    with pq.ParquetFile(dataset / "events.parquet") as file:
        for batch in file.iter_batches(columns=columns):
            owners = batch["customer"].to_numpy()
            parts.append(batch.filter(pa.array((owners >= first) & (owners < last))))
        found = pa.Table.from_batches(parts, schema=pa.schema([file.schema_arrow.field(name) for name in columns]))
    items, customers, times, *types = (found[name].to_numpy() for name in columns)
    names = (kind.types or []) if kind else []
    return _Events(first, last, items, customers, times, types[0] if types else None, names)
