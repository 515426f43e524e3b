"""Features on Spark beside DuckDB: equal datasets of a generated log and of real ones, and the time of each.

Spark runs its executors as processes of this machine (`local-cluster`), so one worker and two share the same cores. Its
own overhead is the start of the session, and the time of a log of a few hundred events.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

EVENTS = int(os.environ.get("ENDCAP_BENCH_SPARK_EVENTS", "5000000"))
"""Of the generated log."""
LOGS = ("diginetica", "ml100k", "rees46", "rsc15", "serenade")
SPECS = Path(__file__).parents[2] / "pipelines" / "specs" / "shops"
REAL = Path(__file__).parents[3] / "shared" / "data"
MIN_SESSION, MIN_ITEM = 2, 5
WORKERS = (1, 2)


def measure() -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        address = _run("generate", folder)["whole"]
        duckdb = _run("build", folder, address, "0")
        spark = {workers: _run("build", folder, address, str(workers)) for workers in WORKERS}
    differing = [workers for workers, build in spark.items() if build["content"] != duckdb["content"]]
    if differing:
        raise AssertionError(f"Spark's dataset differs from DuckDB's, with {differing} workers")
    logs = _run("logs") if REAL.is_dir() else {}
    if different := [name for name, equal in logs.items() if not equal]:
        raise AssertionError(f"Spark's datasets differ from DuckDB's: {', '.join(different)}")
    repeat = "python -m tests.bench spark"
    how = f"{EVENTS:,} generated events, {os.cpu_count()} cores, load before {duckdb['load']:.1f}; {repeat}"
    results = [_result("spark: events a second of DuckDB, beside it", EVENTS / duckdb["seconds"], "events/s", how)]
    results += [
        _result(f"spark: events a second, workers {workers}", EVENTS / build["seconds"], "events/s", how)
        for workers, build in spark.items()
    ]
    return [
        *results,
        _result("spark: seconds until a session is there", spark[2]["opened"], "s", how, lower=True),
        _result("spark: logs whose datasets are equal", len(logs) + 1, "logs", f"generated, {', '.join(logs)}"),
    ]


def _result(name: str, value: float, unit: str, how: str, *, lower: bool = False) -> dict[str, Any]:
    return {"name": name, "value": value, "unit": unit, "floor": None, "lower_is_better": lower, "how": how}


def _run(*arguments: str) -> Any:
    command = [sys.executable, "-m", "tests.bench.spark", *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
    return json.loads(done.stdout.splitlines()[-1])


def generate(folder: str) -> dict[str, Any]:
    """The log of the bench of features, of fewer events."""
    from tests.bench import features

    features.EVENTS = EVENTS
    return features.generate(folder)


@contextlib.contextmanager
def _open(settings: Any, store: Any, workers: int, folder: Path) -> Iterator[Any]:
    """DuckDB's engine (no workers), or Spark's with so many."""
    from endcap.features.feature_engine import open_feature_engine
    from tests.spark.clusters import spark_home

    if not workers:
        with open_feature_engine(settings, store, folder) as engine:
            yield engine
        return
    memory = {"memory": "1Gi", "driver_memory": "1Gi", "master": f"local-cluster[{workers},1,1024]"}
    spark = settings.spark.model_copy(update={**memory, "conf": {"spark.sql.shuffle.partitions": 4}})
    on_spark = settings.features.model_copy(update={"engine": "spark"})
    with (
        spark_home(folder / "home"),
        open_feature_engine(
            settings.model_copy(update={"spark": spark, "features": on_spark}), store, folder
        ) as engine,
    ):
        yield engine


def build(folder: str, address: str, workers: str) -> dict[str, Any]:
    """A dataset of the generated log."""
    from endcap.spec import Shop

    shop = Shop.model_validate(
        {
            "apiVersion": "endcap/v2",
            "kind": "Shop",
            "name": "bench",
            "events": {"sources": [{"path": "e.csv"}], "columns": {"session": "session", "customer": "customer"}},
            "sessions": {"by": "given"},
            "filters": {"min_session_events": MIN_SESSION, "min_item_events": MIN_ITEM},
            "features": {"events": [{"name": kind, "kind": kind} for kind in ("position", "gap", "hour")]},
        }
    )
    return _build(shop, folder, address, int(workers))


def _build(shop: Any, folder: str, address: str, workers: int) -> dict[str, Any]:
    from endcap.events.snapshot_days import open_snapshot
    from endcap.spec.settings import FeatureSettings
    from endcap.store import open_store

    settings, store = FeatureSettings.of(shop), open_store(folder)
    snapshot = open_snapshot(store, address)
    with tempfile.TemporaryDirectory(dir=folder) as spill:
        load, started = os.getloadavg()[0], time.perf_counter()
        with _open(settings, store, workers, Path(spill)) as engine:
            opened, started = time.perf_counter() - started, time.perf_counter()
            facts = _write(engine, settings, snapshot)
            seconds = time.perf_counter() - started
    return {"seconds": seconds, "opened": opened, "load": load, "content": facts["content"]}


def _write(engine: Any, settings: Any, snapshot: Any) -> Any:
    from endcap.store import Draft

    with tempfile.TemporaryDirectory(dir=snapshot.path.parent) as out:
        return engine.write_dataset(settings, snapshot, Draft(Path(out), "", f"file://{out}"), None, lambda line: None)


def logs() -> dict[str, bool]:
    """Whether both engines make the same of each real log."""
    from endcap.events import ingest
    from endcap.events.snapshot_days import open_snapshot
    from endcap.spec.load import load
    from endcap.spec.settings import FeatureSettings
    from endcap.store import open_store

    equal = {}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        engines: list[Any] = []
        for name in LOGS:
            recommender = Path(folder) / f"{name}.yaml"
            keys = {"apiVersion": "endcap/v2", "kind": "Recommender", "name": "bench", "model": {"name": "popularity"}}
            recommender.write_text(json.dumps({**keys, "shop": str(SPECS / f"{name}.yaml")}))
            shop = load(recommender).shop
            settings, store = FeatureSettings.of(shop), open_store(f"{folder}/store")
            snapshot = open_snapshot(store, ingest(shop, store))
            if not engines:
                spill = Path(folder) / "spill"
                spill.mkdir()
                engines = [stack.enter_context(_open(settings, store, workers, spill)) for workers in (0, 2)]
            here, there = (_write(engine, settings, snapshot) for engine in engines)
            here.pop("reuse", None)  # DuckDB's engine alone keeps coded days
            equal[name] = here == there
            print(f"{name}: {here['content']} {there['content']}", file=sys.stderr)
    return equal


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](*sys.argv[2:])))
