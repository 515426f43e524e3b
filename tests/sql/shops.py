"""Small files, and steps of SQL over them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds

from endcap.spec.sql_step import SqlSpec
from endcap.sql import ROWS, run_sql
from endcap.store import Store
from tests.events.shops import ROWS as EVENTS
from tests.events.shops import write_csv

Json = dict[str, Any]


def make_spec(folder: Path, text: str, **settings: Any) -> SqlSpec:
    """A statement that reads `clicks`, a CSV file of four events, if its settings name no other inputs."""
    inputs = {"clicks": {"path": str(write_csv(folder / "clicks.csv", EVENTS))}}
    return SqlSpec.model_validate({"text": text, "inputs": inputs, **settings})


def run(store: Store, spec: SqlSpec, **arguments: Any) -> str:
    return run_sql("clean", spec, "test", store, **arguments)


def read(store: Store, address: str) -> pa.Table:
    """The rows in the order of the files."""
    table: pa.Table = ds.dataset(store.fetch(address) / ROWS, format="parquet", partitioning=None).to_table()
    return table


def values(store: Store, address: str) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in read(store, address).to_pylist()]


def facts(store: Store, address: str) -> Json:
    found: Json = store.manifest(address)["facts"]
    return found
