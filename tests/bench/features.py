"""Features, from snapshot to dataset: 20 million generated events, beside a straightforward pandas version.

Each part runs in a process of its own, one after the other, so that its time and its memory are its own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

EVENTS = 20_000_000
DAYS = 32
PANDAS_DAYS = 8
"""pandas gets the log's first quarter: all of it would need more memory than a usual machine has, and more time."""
DAY = 86_400_000
BEGIN = 1_717_372_800_000
MIN_SESSION, MIN_ITEM = 2, 5
DATA = (
    f"{EVENTS / 1e6:.0f} million generated events of {DAYS} days: sessions of 1 to 60 events, 300,000 items of a long "
    "tail, 700,000 customers and guests, ids as text; sessions given, filters of 2 events a session and 5 an item, "
    "features position, gap and hour"
)


def measure() -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        addresses = _run("generate", folder)
        built = _run("build", folder, addresses["whole"], "given")
        by_gap = _run("build", folder, addresses["whole"], "gap")
        part = _run("build", folder, addresses["part"], "given")
        declared = _run("declared", folder, addresses["part"])
        pandas = _run("pandas", folder, addresses["part"])
        opened = _run("open", folder, built["address"])
    for name in ("sessions", "items", "kept"):
        if part[name] != pandas[name]:
            raise AssertionError(f"{name}: {part[name]} here, {pandas[name]} in pandas")
    if part["content"] != declared["content"]:
        raise AssertionError("coded days and the declared steps made different datasets")
    rate, pandas_rate = built["events"] / built["seconds"], pandas["events"] / pandas["seconds"]
    load = f"load average before: {built['load']:.1f} on {os.cpu_count()} cores, {built['cpu']:.0f} s of processor"
    repeat = "python -m tests.bench features"
    return [
        _result("features: events a second", rate, "events/s", 1.8e6, f"{DATA}; {load}; {repeat}"),
        _result("features: peak memory", built["memory"] / 2**30, "GiB", 4.0, f"as above; {repeat}", lower=True),
        _result(
            "features: times as fast as pandas",
            rate / pandas_rate,
            "ratio",
            20.0,
            f"pandas {pandas_rate:,.0f} events/s on the first {PANDAS_DAYS} days ({pandas['events']:,} events, same "
            f"sessions, items and events kept), peak {pandas['memory'] / 2**30:.1f} GiB; {repeat}",
        ),
        _result(
            "features: processor time, as a share of that of the declared steps on DuckDB",
            part["cpu"] / declared["cpu"],
            "ratio",
            None,
            f"the first {PANDAS_DAYS} days, {part['cpu']:.1f} and {declared['cpu']:.1f} s, equal content digests; "
            f"{repeat}",
            lower=True,
        ),
        _result(
            "features: events a second, sessions by gap",
            by_gap["events"] / by_gap["seconds"],
            "events/s",
            None,
            f"the same log, gap 30m; guests are left out; peak {by_gap['memory'] / 2**30:.1f} GiB; {repeat}",
        ),
        _result(
            "features: opening a view", opened["seconds"], "s", None, f"of the dataset of {DATA}; {repeat}", lower=True
        ),
    ]


def _result(
    name: str, value: float, unit: str, floor: float | None, how: str, *, lower: bool = False
) -> dict[str, Any]:
    return {"name": name, "value": value, "unit": unit, "floor": floor, "lower_is_better": lower, "how": how}


def _run(*arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.bench.features", *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
    return json.loads(done.stdout.splitlines()[-1])


def _memory() -> int:
    """Peak resident memory of this process in bytes; the kernel's own figure, which children do not inherit."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def _timed(started: float, cpu: float) -> dict[str, float]:
    return {"seconds": time.perf_counter() - started, "cpu": time.process_time() - cpu, "memory": _memory()}


def generate(folder: str) -> dict[str, Any]:
    """Two snapshots, written as ingest writes them: the whole log, and its first days."""
    import duckdb

    from endcap.store import open_store
    from tests.events.snapshots import write_tables

    store = open_store(folder)
    connection = duckdb.connect(config={"temp_directory": f"{folder}/.spill", "memory_limit": "4GB"})
    connection.execute("SELECT setseed(0.42)")
    sessions = EVENTS // 4
    # A session's length and its customer's activity are long-tailed; days have a rhythm; one in ten is a guest.
    connection.execute(f"""
        CREATE TABLE log AS
        WITH visit AS (
            SELECT i AS visit, least(60, 1 + floor(-ln(1 - random()) * 4.2))::INT AS length,
                {BEGIN} + (i * {DAYS * DAY} / {sessions})::BIGINT AS start,
                CASE WHEN random() < 0.1 THEN NULL ELSE floor(700000 * random() * random())::BIGINT END AS customer
            FROM range({sessions}) AS visits(i)
        ), event AS (
            SELECT visit, customer, start + step * 40000 + floor(random() * 35000)::BIGINT AS time,
                floor(300000 * pow(random(), 4))::BIGINT AS item
            FROM visit, LATERAL (SELECT unnest(range(length)) AS step)
        )
        SELECT * FROM event WHERE time < {BEGIN + DAYS * DAY} ORDER BY time LIMIT {EVENTS}
    """)
    addresses = {}
    for name, days in (("whole", DAYS), ("part", PANDAS_DAYS)):
        with store.publish("snapshots/bench", name) as draft:
            write_tables(draft, (_select_day(connection, sessions, day) for day in range(days)))
        addresses[name] = draft.address
    # What is measured next must not pay for writing this to the disk.
    os.sync()
    return addresses


def _select_day(connection: Any, sessions: int, day: int) -> Any:
    """A day's rows as Arrow."""
    from endcap.events.snapshot import EVENTS

    return (
        connection.sql(f"""
            SELECT format('s{{:09d}}', (visit * 7919) % {sessions}) AS session, 'c' || (customer * 37) AS customer,
                format('sku-{{:07d}}', (item * 7907) % 300000) AS item, time, 'view' AS type, 'train' AS part,
                NULL::BIGINT AS sequence, 0::INT AS file, rowid AS position
            FROM log WHERE time >= {BEGIN + day * DAY} AND time < {BEGIN + (day + 1) * DAY} ORDER BY time, rowid
        """)
        .to_arrow_table()
        .cast(EVENTS)
    )


def build(folder: str, address: str, by: str) -> dict[str, Any]:
    """A dataset of a snapshot."""
    from endcap.features import dataset
    from endcap.spec import Shop
    from endcap.store import open_store

    columns = {"session": "session", "customer": "customer"}
    features = [{"name": kind, "kind": kind} for kind in ("position", "gap", "hour")]
    shop = Shop.model_validate(
        {
            "apiVersion": "endcap/v2",
            "kind": "Shop",
            "name": "bench",
            "events": {"sources": [{"path": "events.csv"}], "columns": columns},
            "sessions": {"by": by},
            "filters": {"min_session_events": MIN_SESSION, "min_item_events": MIN_ITEM},
            "features": {"events": features},
        }
    )
    # No day that an earlier part coded may be found again.
    shutil.rmtree(f"{folder}/coded", ignore_errors=True)
    store = open_store(folder)
    load = os.getloadavg()[0]
    started, cpu = time.perf_counter(), time.process_time()
    made = dataset.build(shop, address, store)
    taken = _timed(started, cpu)
    facts = store.manifest(made)["facts"]
    return {
        **taken,
        "address": made,
        "load": load,
        "events": facts["before_filters"]["events"] + facts["dropped"].get("without_customer", 0),
        "kept": facts["events"],
        "sessions": facts["sessions"],
        "items": facts["items"],
        "content": facts["content"],
    }


def build_declared(folder: str, address: str) -> dict[str, Any]:
    """The same dataset by the declared steps, with sessions given, while that of coded days is out of its way."""
    from endcap.features import dataset
    from tests.features.declared import open_declared_engine

    dataset.open_feature_engine = open_declared_engine
    (Path(folder) / "datasets").rename(Path(folder) / "datasets-of-days")
    try:
        return build(folder, address, "given")
    finally:
        shutil.rmtree(Path(folder) / "datasets")
        (Path(folder) / "datasets-of-days").rename(Path(folder) / "datasets")


def pandas(folder: str, address: str) -> dict[str, Any]:
    """The same steps as one would write them in pandas."""
    import pandas as pd

    from endcap.events.snapshot_days import open_snapshot
    from endcap.store import open_store

    files = open_snapshot(open_store(folder), address).files
    target = Path(folder) / "pandas"
    target.mkdir()
    started, cpu = time.perf_counter(), time.process_time()
    columns = ["session", "customer", "item", "time", "position"]
    log = pd.concat([pd.read_parquet(file, columns=columns) for file in files])
    events, before = len(log), -1
    while before != len(log):
        before = len(log)
        log = log[log.groupby("session")["item"].transform("size") >= MIN_SESSION]
        log = log[log.groupby("item")["session"].transform("size") >= MIN_ITEM]
    sessions = log.groupby("session", as_index=False).agg(
        start=("time", "min"), end=("time", "max"), events=("time", "size"), customer=("customer", "min")
    )
    sessions = sessions.sort_values(["start", "session"], ignore_index=True)
    items = log.groupby("item", as_index=False).agg(events=("time", "size"), first_seen=("time", "min"))
    items = items.sort_values(["events", "item"], ascending=[False, True], ignore_index=True)
    customers = log.groupby("customer", as_index=False).agg(events=("time", "size"))
    customers = customers.sort_values(["events", "customer"], ascending=[False, True], ignore_index=True)
    for name, table in (("session", sessions), ("item", items), ("customer", customers)):
        log[name] = log[name].map(pd.Series(table.index, index=table[name])).fillna(-1).astype("int64")
    log = log.sort_values(["session", "time", "position"], ignore_index=True)
    log["position"] = log.groupby("session").cumcount().astype("float32")
    log["gap"] = (log.groupby("session")["time"].diff() / 1000).fillna(0).astype("float32")
    log["hour"] = (log["time"] // 3_600_000 % 24).astype("float32")
    for name, table in (("events", log), ("sessions", sessions), ("items", items), ("customers", customers)):
        table.to_parquet(target / f"{name}.parquet")
    return {**_timed(started, cpu), "events": events, "kept": len(log), "sessions": len(sessions), "items": len(items)}


def open_dataset(folder: str, address: str) -> dict[str, Any]:
    """A recommender's view of the dataset."""
    from endcap.features.view import open_view
    from endcap.spec import Recommender
    from endcap.store import open_store

    path = open_store(folder).fetch(address)
    head = {"apiVersion": "endcap/v2", "kind": "Recommender", "name": "bench", "shop": "bench"}
    recommender = Recommender.model_validate({**head, "model": {"name": "popularity"}})
    started, cpu = time.perf_counter(), time.process_time()
    view = open_view(path, recommender)
    return {**_timed(started, cpu), "test": len(view.test)}


if __name__ == "__main__":
    part = {"generate": generate, "build": build, "declared": build_declared, "pandas": pandas, "open": open_dataset}[
        sys.argv[1]
    ]
    print(json.dumps(part(*sys.argv[2:])))
