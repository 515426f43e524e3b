"""Ingest of a generated CSV log with string ids: rows a second and peak memory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

ROWS = 10_000_000
BLOCK = 1_000_000
START = 1_700_000_000_000
# A process of its own, so that its peak memory is that of ingest.
RUN = """
import json, resource, sys, time
from endcap.events import ingest
from endcap.spec.shop import Shop
from endcap.store import open_store

shop, store = Shop.model_validate_json(sys.argv[1]), open_store(sys.argv[2])
begun = time.perf_counter()
address = ingest(shop, store)
first = time.perf_counter() - begun
begun = time.perf_counter()
assert ingest(shop, store) == address
print(json.dumps({
    "seconds": first,
    "again": time.perf_counter() - begun,
    "events": store.manifest(address)["facts"]["events"],
    "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
}))
"""


def measure(rows: int = ROWS) -> list[dict[str, Any]]:
    """Rows a second in time order, and with ISO times and 30 mixed days; peak memory; the same input once more."""
    ordered, mixed = _run(rows, mixed=False), _run(rows, mixed=True)
    how = f"{rows:,} generated CSV rows of session, customer, item, time, type; a process of its own; "
    return [
        _result("rows", rows / ordered["seconds"], "rows/s", 500_000, False, f"{how}epoch ms, in time order"),
        _result("rows_mixed_days", rows / mixed["seconds"], "rows/s", None, False, f"{how}ISO times, 30 days mixed"),
        _result("peak", max(ordered["peak"], mixed["peak"]), "GiB", 2.0, True, "peak resident memory of the two"),
        _result(
            "again", ordered["again"], "s", None, True, "the same input once more: digests of the files, no reading"
        ),
    ]


def _result(name: str, value: float, unit: str, floor: float | None, lower_is_better: bool, how: str) -> dict[str, Any]:
    return {
        "name": f"ingest_{name}",
        "value": value,
        "unit": unit,
        "floor": floor,
        "lower_is_better": lower_is_better,
        "how": how,
    }


def _run(rows: int, *, mixed: bool) -> dict[str, float]:
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_log(folder / "log.csv", rows, mixed=mixed)
        return ingest_file(folder / "log.csv", rows, "iso" if mixed else "ms")


def ingest_file(file: Path, rows: int, unit: str) -> dict[str, float]:
    """Ingest a log of so many rows in a process of its own; the store lies beside it. What `RUN` prints."""
    shop = {
        "apiVersion": "endcap/v2",
        "kind": "Shop",
        "name": "bench",
        "events": {
            "sources": [{"path": str(file)}],
            "columns": {"session": "session", "customer": "customer", "type": "type"},
            "time": {"unit": unit},
        },
    }
    command = [sys.executable, "-c", RUN, json.dumps(shop), str(file.parent / f"store-{file.name}")]
    measured: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    if measured["events"] != rows:
        raise AssertionError(f"{measured['events']:,.0f} events of {rows:,} rows")
    return measured


def write_log(file: Path, rows: int, *, mixed: bool) -> None:
    """A seeded log: sessions of five events, Zipf items; over 30 days, in time order or at random times (ISO)."""
    with file.open("wb") as handle:
        handle.write(b"session,customer,item,time,type\n")
        for table in log_blocks(rows, mixed=mixed):
            pa.csv.write_csv(table, handle, pa.csv.WriteOptions(include_header=False, quoting_style="none"))


def log_blocks(rows: int, *, mixed: bool) -> Iterator[pa.Table]:
    """The same as tables, one after the other."""
    random = np.random.default_rng(7)
    for start in range(0, rows, BLOCK):
        count = min(BLOCK, rows - start)
        row = np.arange(start, start + count)
        month = 30 * 86_400_000
        times = START + (random.integers(0, month, count) if mixed else row * month // rows)
        yield pa.table(
            {
                "session": _ids("s-", row // 5 + 10_000_000),
                "customer": _ids("customer-", random.integers(0, max(rows // 20, 1), count)),
                "item": _ids("sku-", np.minimum(random.zipf(1.3, count), 10**12) % 100_000),
                "time": _iso(times) if mixed else pa.array(times),
                "type": pa.array(np.array(["view", "cart"])[random.integers(0, 2, count)]),
            }
        )


def _ids(prefix: str, numbers: Any) -> pa.Array:
    return pc.binary_join_element_wise(prefix, pa.array(numbers).cast(pa.string()), "")


def _iso(times: Any) -> pa.Array:
    return pc.strftime(pa.array(times).cast(pa.timestamp("ms", tz="UTC")), format="%Y-%m-%dT%H:%M:%SZ")
