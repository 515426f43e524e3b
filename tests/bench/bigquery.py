"""Ingest of a table of BigQuery at an emulator: rows a second and peak memory of the reading process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
from google.cloud.bigquery import TimePartitioning

from tests.bench.ingest import RUN
from tests.bigquery.emulator import PROJECT, Emulator, Field, run_emulator

ROWS = 2_000_000
BLOCK = 500_000
DAYS = 10
START = 1_767_225_600_000_000
DAY = 86_400_000_000
SCHEMA = [
    Field("session", "STRING"),
    Field("customer", "STRING"),
    Field("time", "TIMESTAMP"),
    Field("type", "STRING"),
    Field("items", "STRUCT", "REPEATED", fields=[Field("item_id", "STRING"), Field("price", "FLOAT64")]),
]


def measure(rows: int = ROWS) -> list[dict[str, Any]]:
    """Rows a second, and peak memory; of a table by days, and of the same rows in one part."""
    with run_emulator() as emulator:
        emulator.create_table("bench.days", SCHEMA, by=TimePartitioning(field="time"))
        emulator.create_table("bench.whole", SCHEMA)
        for start in range(0, rows, BLOCK):
            block = make_rows(start, min(BLOCK, rows - start), rows)
            emulator.load("bench.days", block)
            emulator.load("bench.whole", block)
        days, whole = (_run(emulator, table, rows) for table in ("days", "whole"))
    how = (
        f"{rows:,} rows of session, customer, time, type and items[].item_id of an emulator on the same cores; a "
        "process of its own; "
    )
    return [
        _result("rows_days", rows / days["seconds"], "rows/s", None, False, f"{how}{DAYS} partitions"),
        _result("rows_whole", rows / whole["seconds"], "rows/s", None, False, f"{how}no partitions, 4 streams"),
        _result("peak", max(days["peak"], whole["peak"]), "GiB", 1.0, True, "peak resident memory of the two"),
    ]


def make_rows(start: int, count: int, total: int) -> pa.Table:
    """Rows of a log in time order, over all days."""
    random = np.random.default_rng(start)
    numbers = np.arange(start, start + count)
    items = pa.StructArray.from_arrays(
        [
            pa.array(np.char.add("p", random.integers(0, 50_000, count).astype(str))),
            pa.array(random.integers(1, 100, count) / 2),
        ],
        names=["item_id", "price"],
    )
    return pa.table(
        {
            "session": np.char.add("s", (numbers // 5).astype(str)),
            "customer": np.char.add("c", (numbers // 20).astype(str)),
            "time": pa.array(START + numbers * (DAYS * DAY // total), pa.timestamp("us", "UTC")),
            "type": pa.array(np.where(random.random(count) < 0.05, "purchase", "view")),
            "items": pa.ListArray.from_arrays(pa.array(np.arange(count + 1), pa.int32()), items),
        }
    )


def _run(emulator: Emulator, table: str, rows: int) -> dict[str, float]:
    shop = {
        "apiVersion": "endcap/v2",
        "kind": "Shop",
        "name": "bench",
        "events": {
            "sources": [{"bigquery": {"table": f"{PROJECT}.bench.{table}"}}],
            "columns": {"session": "session", "customer": "customer", "type": "type", "item": "items[].item_id"},
        },
    }
    with TemporaryDirectory() as store:
        command = [sys.executable, "-c", RUN, json.dumps(shop), str(Path(store) / "store")]
        environment = os.environ | emulator.environment
        ended = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    result: dict[str, float] = json.loads(ended.stdout.splitlines()[-1])
    assert result["events"] == rows
    return result


def _result(name: str, value: float, unit: str, floor: float | None, lower_is_better: bool, how: str) -> dict[str, Any]:
    return {
        "name": f"bigquery_{name}",
        "value": value,
        "unit": unit,
        "floor": floor,
        "lower_is_better": lower_is_better,
        "how": how,
    }
