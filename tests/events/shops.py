"""Small shops and logs, and what a snapshot of them holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from endcap.events import snapshot_days
from endcap.spec.shop import Shop
from endcap.store import Store

COLUMNS = {"session": "session", "customer": "customer", "type": "type"}
HEADER = "session,customer,item,time,type"
ROWS = [
    "s1,c1,i1,2024-03-01T10:00:00Z,view",
    "s1,c1,i2,2024-03-01T10:01:00Z,view",
    "s2,,i1,2024-03-02T00:30:00+02:00,cart",
    "s2,,i3,2024-03-02T08:00:00Z,view",
]
STORED = [
    ("s1", "c1", "i1", 1709287200000, "view"),
    ("s1", "c1", "i2", 1709287260000, "view"),
    ("s2", None, "i1", 1709332200000, "cart"),
    ("s2", None, "i3", 1709366400000, "view"),
]


def make_shop(*sources: Any, events: dict[str, Any] | None = None, **more: Any) -> Shop:
    """A shop over these sources (paths, or dicts as in its file) with all columns named as in HEADER."""
    declared = [source if isinstance(source, dict) else {"path": str(source)} for source in sources]
    return Shop.model_validate(
        {
            "apiVersion": "endcap/v2",
            "kind": "Shop",
            "name": "test",
            "events": {"sources": declared, "columns": COLUMNS} | (events or {}),
        }
        | more
    )


def write_csv(file: Path, rows: list[str], header: str = HEADER) -> Path:
    """A CSV file with a header line."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{line}\n" for line in [header, *rows]))
    return file


@dataclass(frozen=True)
class Snapshot:
    """A snapshot's files. events: SQL of their list; items, customers: None where the shop has no such table."""

    address: str
    events: str
    items: Path | None
    customers: Path | None
    quarantine: Path
    facts: dict[str, Any]


def open_snapshot(store: Store, address: str) -> Snapshot:
    """The snapshot at `address`."""
    opened = snapshot_days.open_snapshot(store, address)
    folder = opened.path
    items, customers = folder / "items.parquet", folder / "customers.parquet"
    return Snapshot(
        address,
        str([str(file) for file in opened.files]),
        items if items.is_file() else None,
        customers if customers.is_file() else None,
        folder / "quarantine.jsonl",
        opened.facts,
    )


def stored(store: Store, address: str, columns: str = "session, customer, item, time, type") -> list[Any]:
    """The snapshot's events in reading order."""
    tables = [
        f"SELECT *, file + {first} AS place FROM read_parquet('{file}', hive_partitioning = true)"
        for day in snapshot_days.open_snapshot(store, address).days
        for file, first in zip(day.files, day.first_files, strict=True)
    ]
    return duckdb.sql(f"SELECT {columns} FROM ({' UNION ALL '.join(tables)}) ORDER BY place, position").fetchall()


def facts(store: Store, address: str) -> dict[str, Any]:
    """What the manifest says."""
    return open_snapshot(store, address).facts
