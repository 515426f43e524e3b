"""The contract of table engines: what each operation promises, and that every declared step gives the same rows.

An engine is held to the contract when it is listed in `ENGINES`.
"""

from __future__ import annotations

import contextlib
import inspect
import itertools
import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from endcap.features import anomaly_warnings, declared_steps
from endcap.features.engines.duckdb import open_tables
from endcap.features.engines.table_engine import TableEngine
from endcap.features.event_order import list_order_keys
from endcap.features.keyed_log import CollisionError
from endcap.store import Store
from tests.features import engine_steps
from tests.features.engine_logs import ALIKE, LOGS, MINUTE, Log
from tests.features.engine_steps import read_file, run_steps
from tests.features.logs import event, shop
from tests.spark.clusters import needs_java, spark


@contextlib.contextmanager
def open_spark_tables(folder: Path) -> Iterator[TableEngine]:
    """Spark in one process with two threads: executors of their own have tests of their own.

    Small tables have several partitions too, because Spark does not join them while it runs (`QUICK`).
    """
    from endcap.features.engines.spark import SparkTables
    from endcap.spark import open_session

    with open_session(spark(master="local[2]"), folder) as session:
        yield SparkTables(session)


REFERENCE = "duckdb"
ENGINES: dict[str, Callable[[Path], AbstractContextManager[TableEngine]]] = {
    "duckdb": open_tables,
    "spark": open_spark_tables,
}
NEEDS = {"spark": [needs_java, pytest.mark.slow]}
FILES = 3
LISTED = [pytest.param(name, marks=NEEDS.get(name, [])) for name in ENGINES]


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], TableEngine]]:
    """Opens each engine once, when it is first needed."""
    opened: dict[str, TableEngine] = {}
    with contextlib.ExitStack() as stack:

        def find(name: str) -> TableEngine:
            if name not in opened:
                opened[name] = stack.enter_context(ENGINES[name](tmp_path_factory.mktemp(name)))
            return opened[name]

        yield find


@pytest.fixture(params=LISTED)
def engine(request: pytest.FixtureRequest, engines: Callable[[str], TableEngine]) -> Iterator[TableEngine]:
    found = engines(request.param)
    yield found
    found.keep_only()


@pytest.fixture(params=[param for param in LISTED if param.values[0] != REFERENCE])
def other(request: pytest.FixtureRequest, engines: Callable[[str], TableEngine]) -> Iterator[TableEngine]:
    """An engine that is compared with the reference."""
    found = engines(request.param)
    yield found
    found.keep_only()


@pytest.fixture
def reference(engines: Callable[[str], TableEngine]) -> Iterator[TableEngine]:
    found = engines(REFERENCE)
    yield found
    found.keep_only()


def load(engine: TableEngine, folder: Path, **columns: list[Any]) -> ir.Table:
    """A table whose rows lie in several files."""
    table = pa.table(columns)
    step = -(-len(table) // FILES)
    names = [folder / f"rows-{number}.parquet" for number in range(FILES)]
    for number, name in enumerate(names):
        pq.write_table(table.slice(number * step, step), name)
    return engine.read(names)


def fetch(table: ir.Table) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = table.to_pyarrow().to_pylist()
    return rows


def test_keys_are_equal_where_texts_are(engine: TableEngine, tmp_path: Path) -> None:
    texts = [*ALIKE, *ALIKE, "", None, *(f"n{number}" for number in range(2000))]
    table = load(engine, tmp_path, text=texts)
    keyed = table.mutate(key=engine.hash_text(table.text)).filter(table.text.notnull())
    pairs = {(row["text"], row["key"]) for row in fetch(keyed)}
    assert len(pairs) == len({text for text, _ in pairs}) == len({key for _, key in pairs}) == len(set(texts)) - 1
    assert keyed.key.type() == ibis.dtype(engine.key_type)
    both = keyed.mutate(there=engine.mix_keys(keyed.key, keyed.key + 1), back=engine.mix_keys(keyed.key + 1, keyed.key))
    assert both.there.type() == ibis.dtype(engine.key_type)
    rows = fetch(both)
    assert len({row["there"] for row in rows} | {row["back"] for row in rows}) == 2 * len(pairs)


def test_rows_are_numbered_and_written_in_an_order(engine: TableEngine, tmp_path: Path) -> None:
    draw = random.Random(5)
    rows = [
        (draw.randrange(2), text)
        for text in [*ALIKE, *(f"{letter}{number}" for number in range(90) for letter in "iIï")]
    ]
    draw.shuffle(rows)
    table = load(engine, tmp_path, events=[events for events, _ in rows], id=[text for _, text in rows])
    kept = engine.number(table, [ibis.desc("events"), "id"], ["id", "events", "number"], number="int32")
    assert engine.count(kept) == len(rows)
    engine.write(kept.order_by("number").mutate(half=kept.events / 2), tmp_path / "written.parquet")
    # By the bytes of UTF-8, whatever the language.
    ordered = sorted(rows, key=lambda row: (-row[0], row[1].encode()))
    written, _ = read_file(tmp_path / "written.parquet")
    assert written == [(text, events, number, events / 2) for number, (events, text) in enumerate(ordered)]
    assert pq.read_schema(tmp_path / "written.parquet").field("number").type == pa.int32()
    engine.write(kept.filter(kept.number < 0), tmp_path / "empty.parquet")
    assert pq.read_table(tmp_path / "empty.parquet").num_rows == 0
    assert pq.read_schema(tmp_path / "empty.parquet").names == ["id", "events", "number"]
    nothing = engine.number(kept.filter(kept.number < 0), ["id"], ["id", "place"], place="int64")
    assert (engine.count(nothing), nothing.place.type()) == (0, ibis.dtype("int64"))


def draw_events(count: int) -> dict[str, list[Any]]:
    """Events of few customers and moments. `tie` orders them, for no two have one of one customer and time."""
    draw = random.Random(6)
    order = list(range(count))
    draw.shuffle(order)
    return {
        "customer": [draw.randrange(6) for _ in order],
        "time": [draw.randrange(60) * MINUTE + draw.choice([0, 0, 1]) for _ in order],
        "sequence": [draw.choice([None, -1, 0]) for _ in order],
        "row": [draw.choice([None, number // 2]) for number in order],
        "tie": [f"{number:04}" for number in order],
    }


def sort_key(row: dict[str, Any]) -> tuple[Any, ...]:
    """The order of `list_order_keys`: what is missing comes first."""
    return (row["time"], *((row[name] is not None, row[name]) for name in ("sequence", "row")), row["tie"])


def split(rows: list[dict[str, Any]], name: str) -> list[list[dict[str, Any]]]:
    groups = itertools.groupby(sorted(rows, key=lambda row: (row[name], sort_key(row))), key=lambda row: row[name])
    return [list(group) for _, group in groups]


@pytest.mark.parametrize("marked", [False, True])
def test_runs_end_where_a_customer_pauses(engine: TableEngine, tmp_path: Path, marked: bool) -> None:
    columns = draw_events(240)
    if marked:
        columns["event"] = [number % 3 > 0 for number in range(240)]
    events = load(engine, tmp_path, **columns)
    events = events.mutate(customer=events.customer.cast(engine.key_type))
    gap = 2 * MINUTE
    expected: list[list[str]] = []
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    for customer in split(rows, "customer"):
        before = None
        for row in customer:
            if before is None or row["time"] - before > gap:
                expected.append([])
            before = row["time"]
            if row.get("event", True):
                expected[-1].append(row["tie"])
    cut = fetch(engine.cut_runs(engine.keep(events), list_order_keys, gap))
    assert set(cut[0]) == {"customer", "time", "sequence", "row", "tie", "session"}
    runs = [[row["tie"] for row in run] for run in split(cut, "session")]
    assert sorted(runs) == sorted(run for run in expected if run)
    assert len(runs) > 20


@pytest.mark.parametrize("places", [False, True])
def test_events_are_kept_in_order(engine: TableEngine, tmp_path: Path, places: bool) -> None:
    events = load(engine, tmp_path, **draw_events(240)).rename(session="customer")
    engine.write(engine.order_events(engine.keep(events), list_order_keys, places=places), tmp_path / "ordered.parquet")
    rows = pq.read_table(tmp_path / "ordered.parquet").to_pylist()
    assert rows == sorted(rows, key=lambda row: (row["session"], sort_key(row)))
    assert len(rows) == 240
    if places:
        for session in split(rows, "session"):
            assert [row["position"] for row in session] == list(range(len(session)))
            assert [row["previous"] for row in session] == [None, *[row["time"] for row in session[:-1]]]
        assert pq.read_schema(tmp_path / "ordered.parquet").field("position").type == pa.int32()


def test_what_is_kept_outlives_what_it_was_made_of(engine: TableEngine, tmp_path: Path) -> None:
    table = load(engine, tmp_path, number=list(range(30)))
    first = engine.keep(table.filter(table.number >= 10))
    second = engine.keep(first.filter(first.number < 25))
    third = engine.keep(second.filter(second.number % 2 == 0))
    engine.drop(first)
    engine.keep_only(third)
    for path in tmp_path.iterdir():
        path.unlink()
    assert sorted(row["number"] for row in fetch(third)) == list(range(10, 25, 2))


LIMITS = {"LONG_SESSION": 10, "MANY_CUSTOMERS": 3, "LONG_TIME": timedelta(hours=2), "BUSY_TIMES": 2}
"""From which on small logs have every warning."""


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", LOGS)
def test_every_step_gives_the_rows_of_the_reference(
    name: str, reference: TableEngine, other: TableEngine, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for limit, value in LIMITS.items():
        monkeypatch.setattr(anomaly_warnings, limit, value)
    log = LOGS[name]()
    snapshot = log.open(store)
    runs = []
    for out, engine in ((tmp_path / "reference", reference), (tmp_path / "other", other)):
        out.mkdir()
        runs.append(run_steps(engine, log.settings, snapshot, log.end, out))
    met = {}
    for (step, read), (same, read_other) in zip(*runs, strict=True):
        assert same == step
        met[step] = read()
        assert read_other() == met[step], step
    check_branches(name, met)


def check_branches(name: str, met: dict[str, Any]) -> None:
    """Check that a log meets what it is made for."""
    rounds, dropped, left = met["apply_filters"]
    counts = met["sessions of train"]["counts"]
    if name == "given":
        assert rounds > 2
        assert all(dropped.values())
        assert all(counts.values())
        assert len({warning["name"] for warning in met["find_anomalies"]}) == 4
        assert met["write_ownership"] > 0
        assert met["select_window"][3]["without_session"] > 0
    if name == "gap":
        assert met["activity of train"]
        assert met["activity of test"]
        assert all(met["select_window"][3].values())
        assert met["write_ownership"] > 0
    if name == "empty":
        assert left["sessions"] == left["items"] == left["customers"] == []
        assert met["test_events.parquet"][0]
    else:
        assert met["events.parquet"][0]


class Colliding:
    """An engine that takes the second of two texts for the first, and mixes keys by the first alone if `mixed`."""

    def __init__(self, engine: TableEngine, first: str, second: str, mixed: bool) -> None:
        self._engine, self._first, self._second, self._mixed = engine, first, second, mixed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def hash_text(self, text: Any) -> ir.Value:
        return self._engine.hash_text(ibis.ifelse(text == self._second, self._first, text))

    def mix_keys(self, first: ir.Value, second: ir.Value) -> ir.Value:
        return self._engine.mix_keys(first, first if self._mixed else second)


COLLISIONS = {
    "sessions": ("s1", "s2", "given", False),
    "items": ("i1", "i2", "given", False),
    "customers": ("c1", "c2", "given", False),
    "shares of a session": ("", "", "given", True),
    "parts": ("i1", "i9", "given", False),
    "customers by gap": ("c1", "c2", "gap", False),
}


@pytest.mark.parametrize("kind", COLLISIONS)
def test_ids_that_share_a_key_are_noticed(kind: str, engine: TableEngine, store: Store, tmp_path: Path) -> None:
    first, second, by, mixed = COLLISIONS[kind]
    rows = [
        *(event(f"s{number % 3}", f"i{number % 4}", number * MINUTE, f"c{number % 3}") for number in range(12)),
        *(event("s0", "i1", number * MINUTE, f"c{number}") for number in range(2)),
        event("t", "i9", 0, "c1", part="test"),
    ]
    log = Log(shop(sessions={"by": by, "gap": "5m"}, filters={"min_session_events": 1}), rows)
    (tmp_path / "out").mkdir()
    narrow = Colliding(engine, first, second, mixed)
    steps = run_steps(narrow, log.settings, log.open(store), log.end, tmp_path / "out")
    with pytest.raises(CollisionError):
        for step, _ in steps:
            assert step != "number_sessions"


def test_every_declared_step_is_compared() -> None:
    steps = {
        name
        for name, member in vars(declared_steps).items()
        if inspect.isfunction(member)
        and member.__module__ != declared_steps.__name__
        and next(iter(inspect.signature(member).parameters), "") == "engine"
    }
    assert len(steps) >= 11
    assert steps <= set(vars(engine_steps))
