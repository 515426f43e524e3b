"""Publish lists in the online store by model version, in one step, and roll them back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from endcap.batch import part_files
from endcap.batch.progress import EVERY
from endcap.batch.recommend import VersionLists
from endcap.deploy.state import Target
from endcap.errors import NotFoundError, OnlineStoreError
from endcap.online import OnlineStore
from endcap.spec import Recommender
from endcap.store import Store

PATIENCE = 10.0
"""Seconds that a call of the store may take: nobody waits for it as for a ranking."""
AT_ONCE = 1000
"""Rows that are written at a time."""
Progress = Callable[[str], None]


def name_lists_table(recommender: str, version: str) -> str:
    """Return the table of a model version's lists, from customers' ids to rows."""
    return f"lists/{recommender}/{version}"


def publish_lists(
    recommender: Recommender,
    versions: Sequence[VersionLists],
    store: Store,
    online: OnlineStore,
    *,
    progress: Progress = lambda line: None,
) -> None:
    """Publish each version's lists under their artifact's key, all customers' at once. The lists before them are kept.

    Lists that are published already are not written again, only kept for another `batch.keep`. A version's table is
    removed that long after its last publication.

    Raises
    ------
    OnlineStoreError
        With what to do; what was published stays.
    """
    for version_lists in versions:
        table, reported = name_lists_table(recommender.name, version_lists.version), time.monotonic()
        whole = version_lists.facts["customers"]
        try:
            for done, rows in _read_rows(store.fetch(version_lists.address)):
                if not online.write(table, version_lists.key, rows, recommender.batch.keep):
                    break  # these very rows are there, published before
                if done == whole or time.monotonic() - reported > EVERY:
                    reported = time.monotonic()
                    progress(f"version {version_lists.version}: {done:,} of {whole:,} lists are written")
            online.publish(table, version_lists.key)
        except OnlineStoreError as error:
            raise OnlineStoreError(
                f"{str(error).rstrip('.')}. The lists of version {version_lists.version} are not published. They are "
                f"kept in {version_lists.address}, and the lists that were published before stay in use. Run the same "
                "command again when the online store is back: it then only publishes",
                code="batch.not-published",
                version=version_lists.version,
                address=version_lists.address,
                cause=error.to_json(),
            ) from error


def roll_back(recommender: Recommender, targets: Sequence[Target], online: OnlineStore) -> list[str]:
    """Publish each version's previous lists again, and return a line a version. A second call goes forth again.

    Raises
    ------
    NotFoundError
        If no version has previous lists.
    """
    previous = {
        target.version: _find_previous(online, name_lists_table(recommender.name, target.version)) for target in targets
    }
    published = {version: key for version, key in previous.items() if key is not None}
    if not published:
        raise NotFoundError(
            f"{recommender.name}: no version ({', '.join(previous)}) has lists in the online store from before its "
            "last publication. The store keeps them for batch.keep. `endcap recommend` makes new ones",
            code="batch.nothing-before",
            recommender=recommender.name,
            versions=list(previous),
        )
    for version, key in published.items():
        online.publish(name_lists_table(recommender.name, version), key)
    lines = {version: f"the lists {key} are published again" for version, key in published.items()}
    return [f"version {version}: {lines.get(version, 'it has no lists from before')}" for version in previous]


def _find_previous(online: OnlineStore, name: str) -> str | None:
    """Find the version that was published before the present one."""
    kept = online.versions(name)
    if online.published(name) is None or len(kept) < 2:
        return None
    # Behind the present one stand that and others that never were published: only those may still be written.
    return None if online.write(name, kept[1], {}) else kept[1]


def _read_rows(folder: Path) -> Iterator[tuple[int, dict[str, bytes]]]:
    """Yield the artifact's rows, some at a time, with the number of rows up to then."""
    done = 0
    for file in part_files.list_parts(folder):
        for batch in pq.ParquetFile(file).iter_batches(AT_ONCE, columns=["customer", "items", "scores", "made"]):
            rows = _encode_rows(batch)
            done += len(rows)
            yield done, dict(zip(batch.column("customer").to_pylist(), rows, strict=True))


def _encode_rows(batch: pa.RecordBatch) -> list[bytes]:
    """Encode each row as JSON; scores have the digits of a float32, a fallback's is null."""
    items, times = batch.column("items").to_pylist(), batch.column("made").cast("int64").to_pylist()
    flat = batch.column("scores").flatten().to_numpy(zero_copy_only=False)
    scores = np.split(flat.astype(np.float32), np.cumsum([len(row_items) for row_items in items])[:-1])
    rows = zip(items, scores, times, strict=True)
    return [
        orjson.dumps({"items": row_items, "scores": row_scores, "made": moment}, option=orjson.OPT_SERIALIZE_NUMPY)
        for row_items, row_scores, moment in rows
    ]
