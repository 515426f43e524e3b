"""What a new day costs: ingest and features of a log of 56 days that a store knows and one more, beside all 57 days.

The log lies in a CSV file for each day. Each run is a process of its own. Its seconds and its processor time begin
after Python has started, and end when the dataset is in the store. The files are older than the first run by as much
as it takes to be sure that they do not change any more: a log of many days has such files only, but for the last ones.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from endcap.sources.local_files import SETTLED

DAYS = 56
ROWS = 200_000
"""Rows of a day."""
LATE_ROWS = 2_000
LATE_DAY = 40
ITEMS, CUSTOMERS = 100_000, 400_000
DAY = 86_400_000
BEGIN = 1_717_372_800_000
FLOOR, AIM = 0.15, 0.10
RUN = """
import json, sys, time
from endcap.events import ingest
from endcap.features import build
from endcap.spec.shop import Shop
from endcap.store import open_store

shop, store = Shop.model_validate_json(sys.argv[1]), open_store(sys.argv[2])
wall, processor = time.perf_counter(), time.process_time()
snapshot = ingest(shop, store)
ingested = time.perf_counter() - wall, time.process_time() - processor
dataset = build(shop, snapshot, store)
whole = time.perf_counter() - wall, time.process_time() - processor
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
facts = store.manifest(dataset)["facts"]
print(json.dumps({
    "wall": whole[0], "processor": whole[1], "ingest": ingested, "content": facts["content"],
    "events": facts["before_filters"]["events"], "peak": int(peak.split()[1]) / 2**20,
}))
"""


def measure() -> list[dict[str, Any]]:
    with TemporaryDirectory() as name:
        folder = Path(name)
        log = folder / "log"
        log.mkdir()
        for day in range(DAYS):
            _write_day(log, day)
        os.sync()
        time.sleep(SETTLED + 1)
        _run(log, folder / "kept")
        _write_day(log, DAYS)
        new, full = _run(log, folder / "kept"), _run(log, folder / "full")
        _write_late_rows(log)
        late, full_late = _run(log, folder / "kept"), _run(log, folder / "full-late")
    for pair in ((new, full), (late, full_late)):
        if pair[0]["content"] != pair[1]["content"]:
            raise AssertionError("what was made of a change differs from what was made of all")
    repeat = "python -m tests.bench days"
    log_text = (
        f"{DAYS} days of {ROWS:,} generated CSV rows, a file a day; sessions given, some of them over midnight, "
        "filters of 2 events a session and 5 an item, features position, gap and hour"
    )
    results = []
    for title, change, whole in (("a new day", new, full), (f"{LATE_ROWS:,} late rows in one day", late, full_late)):
        for kind in ("processor", "wall"):
            how = (
                f"{log_text}; {kind} seconds of ingest and features in a store that knows the other days "
                f"({change[kind]:.2f} s, ingest {change['ingest'][kind == 'processor']:.2f} s), divided by those in an "
                f"empty store ({whole[kind]:.2f} s, ingest {whole['ingest'][kind == 'processor']:.2f} s); aim {AIM}; "
                f"peaks {change['peak']:.1f} and {whole['peak']:.1f} GiB; {repeat}"
            )
            results.append(_result(f"days: {title}, {kind} time of a full build", change[kind] / whole[kind], how))
    return results


def _result(name: str, value: float, how: str) -> dict[str, Any]:
    return {"name": name, "value": value, "unit": "ratio", "floor": FLOOR, "lower_is_better": True, "how": how}


def _run(log: Path, store: Path) -> dict[str, Any]:
    shop = {
        "apiVersion": "endcap/v2",
        "kind": "Shop",
        "name": "bench",
        "events": {
            "sources": [{"path": str(log)}],
            "columns": {"session": "session", "customer": "customer", "type": "type"},
            "time": {"unit": "ms"},
        },
        "filters": {"min_session_events": 2, "min_item_events": 5},
        "features": {"events": [{"name": kind, "kind": kind} for kind in ("position", "gap", "hour")]},
    }
    command = [sys.executable, "-c", RUN, json.dumps(shop), str(store)]
    # An installed Endcap is compiled already.
    compiled = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    folder = Path(__file__).parents[2]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=folder, env=compiled)
    return json.loads(done.stdout.splitlines()[-1])


def _name_file(day: int) -> str:
    return f"day-{day:02d}.csv"


def _write_day(log: Path, day: int) -> None:
    """A day's rows in the order of time. A session has some five events within two hours, so some end the next day."""
    random = np.random.default_rng(day)
    start = np.sort(random.integers(0, DAY, ROWS // 5))
    visit = np.repeat(np.arange(len(start)), random.poisson(4, len(start)) + 1)[:ROWS]
    times = start[visit] + random.integers(0, 7_200_000, len(visit))
    customer = random.integers(0, CUSTOMERS, len(start))[visit]
    order = np.argsort(times, kind="stable")
    _write(log / _name_file(day), day, visit[order], customer[order], times[order], random)


def _write_late_rows(log: Path) -> None:
    """Rows of an older day that come in a file of their own, after that day's."""
    random = np.random.default_rng(1000)
    visit = random.integers(0, ROWS // 5, LATE_ROWS)
    name = _name_file(LATE_DAY).replace(".csv", "-late.csv")
    times = np.sort(random.integers(0, DAY, LATE_ROWS))
    _write(log / name, LATE_DAY, visit, random.integers(0, CUSTOMERS, LATE_ROWS), times, random)


def _write(file: Path, day: int, visit: Any, customer: Any, times: Any, random: np.random.Generator) -> None:
    count = len(visit)
    table = pa.table(
        {
            "session": _name_ids("s-", visit + day * 1_000_000),
            "customer": _name_ids("customer-", customer),
            "item": _name_ids("sku-", np.minimum(random.zipf(1.3, count), 10**12) % ITEMS),
            "time": pa.array(BEGIN + day * DAY + times),
            "type": pa.array(np.array(["view", "cart"])[random.integers(0, 2, count)]),
        }
    )
    pa.csv.write_csv(table, file)


def _name_ids(prefix: str, numbers: Any) -> pa.Array:
    return pc.binary_join_element_wise(prefix, pa.array(numbers).cast(pa.string()), "")
