"""What a snapshot is, on disk and as a handle."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from endcap.store import Store

EVENTS = pa.schema(
    [
        ("session", pa.string()),
        ("customer", pa.string()),
        ("item", pa.string()),
        ("time", pa.int64()),
        ("type", pa.string()),
        ("part", pa.string()),
        ("row", pa.int64()),
    ]
)
"""Columns of ``events/day=…/part-….parquet``. time: epoch ms (UTC); part: train or test; row: the reading order."""
QUARANTINE = "quarantine.jsonl"


@dataclass(frozen=True)
class Snapshot:
    """A snapshot's files. events: a glob; items, customers: None where the shop has no such table."""

    address: str
    events: str
    items: Path | None
    customers: Path | None
    quarantine: Path
    facts: dict[str, Any]


def open_snapshot(store: Store, address: str) -> Snapshot:
    """The snapshot at `address`. Raises NotFoundError, IntegrityError."""
    folder = store.fetch(address)
    items, customers = folder / "items.parquet", folder / "customers.parquet"
    return Snapshot(
        address,
        str(folder / "events" / "*" / "*.parquet"),
        items if items.is_file() else None,
        customers if customers.is_file() else None,
        folder / QUARANTINE,
        store.manifest(address)["facts"],
    )
