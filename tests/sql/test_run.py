"""A step of SQL by DuckDB: its rows, its order, what its key counts, and each mistake with its code."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from endcap.errors import EndcapError, TransientError
from endcap.spec.sql_step import SqlSpec
from endcap.sql import spark_engine
from endcap.sql.spark_engine import SparkPlan
from endcap.store import Store, open_store
from tests.events.shops import ROWS, write_csv
from tests.refusals import refused
from tests.sql.shops import facts, make_spec, read, run, values

DAYS = "select item, time::timestamptz as time, (time::timestamptz)::date as day from clicks"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


def test_rows_become_a_table_whose_facts_say_what_it_is_of(tmp_path: Path, store: Store) -> None:
    spec = make_spec(tmp_path, "select item, count(*) as events from clicks group by item order by events desc, item")
    address = run(store, spec)
    assert values(store, address) == [("i1", 2), ("i2", 1), ("i3", 1)]
    told = facts(store, address)
    assert address.startswith(f"{store.root}/tables/test/")
    assert (told["rows"], told["engine"], told["step"]) == (3, "duckdb", "clean")
    assert told["columns"] == [
        {"name": "item", "type": "VARCHAR", "nulls": 0},
        {"name": "events", "type": "BIGINT", "nulls": 0},
    ]
    (file,) = told["inputs"]["clicks"]["files"]
    assert file["path"].endswith("clicks.csv")
    assert len(file["sha256"]) == 64
    assert "days" not in told


def test_a_column_day_gives_a_folder_a_day(tmp_path: Path, store: Store) -> None:
    address = run(store, make_spec(tmp_path, DAYS))
    folder = store.fetch(address) / "rows"
    assert sorted(str(file.relative_to(folder)) for file in folder.rglob("*.parquet")) == [
        "day=2024-03-01/part-00000.parquet",
        "day=2024-03-02/part-00000.parquet",
    ]
    assert [row[2] for row in values(store, address)] == [date(2024, 3, 1)] * 3 + [date(2024, 3, 2)]
    assert facts(store, address)["days"] == {"count": 2, "first": "2024-03-01", "last": "2024-03-02"}
    by_time = make_spec(tmp_path, DAYS.replace(" as day", " as other"), day="time")
    assert facts(store, run(store, by_time))["days"] == {"count": 2, "first": "2024-03-01", "last": "2024-03-02"}


def test_the_order_of_rows_is_the_statements_or_that_of_the_columns(tmp_path: Path, store: Store) -> None:
    rows = "from range(300000) t(n) join (select 1) on true"
    ordered = SqlSpec(
        text=f"select n::integer as n, date '2024-01-01' + (n % 3)::integer as day {rows} order by n desc"
    )
    numbers = read(store, run(store, ordered)).column("n").to_pylist()
    assert numbers == [n for part in range(3) for n in range(299999, -1, -1) if n % 3 == part]
    free = SqlSpec(text=f"select (n * 7919 % 300000)::integer as n {rows}")
    assert read(store, run(store, free)).column("n").to_pylist() == list(range(300000))


def test_what_the_key_counts(tmp_path: Path, store: Store) -> None:
    text = "select item from clicks where type = $kind"
    first = run(store, make_spec(tmp_path, text, parameters={"kind": "view"}))
    same = make_spec(tmp_path / "elsewhere", f"-- the views\n{text.upper().replace('$KIND', '$kind').lower()}  ;",
                     parameters={"kind": "view"})  # fmt: skip
    assert run(store, same) == first
    others = [
        make_spec(tmp_path, text, parameters={"kind": "cart"}),
        make_spec(tmp_path, "select item, 1 as n from clicks where type = $kind", parameters={"kind": "view"}),
        make_spec(tmp_path, text, parameters={"kind": "view"}, not_null=["item"]),
    ]
    assert len({first, *(run(store, other) for other in others)}) == 4
    write_csv(tmp_path / "more.csv", ROWS[:3])
    longer = {"clicks": {"path": str(tmp_path / "more.csv")}}
    assert run(store, make_spec(tmp_path, text, parameters={"kind": "view"}, inputs=longer)) != first


def test_parameters_are_values_and_never_text(tmp_path: Path, store: Store) -> None:
    trick = "view' or '1' = '1"
    spec = make_spec(tmp_path, "select item from clicks where type = $kind", parameters={"kind": trick}, min_rows=0)
    assert values(store, run(store, spec)) == []
    typed = make_spec(
        tmp_path,
        "select typeof($a) as a, typeof($b) as b, typeof($c) as c, typeof($d) as d from clicks limit 1",
        parameters={"a": 3, "b": 2.5, "c": "x", "d": True},
    )
    assert values(store, run(store, typed)) == [("INTEGER", "DOUBLE", "VARCHAR", "BOOLEAN")]


def test_the_runs_date_and_window_are_parameters(tmp_path: Path, store: Store) -> None:
    spec = make_spec(
        tmp_path,
        "select item from clicks where time::timestamptz >= $window_start and time::timestamptz < $logical_date",
    )
    until = datetime(2024, 3, 2, 8, 0, tzinfo=UTC)
    address = run(store, spec, until=until, window=timedelta(hours=12))
    assert values(store, address) == [("i1",)]
    assert facts(store, address)["parameters"]["logical_date"] == "2024-03-02T08:00:00+00:00"
    assert run(store, spec, until=until + timedelta(days=1), window=timedelta(days=2)) != address
    for arguments in ({}, {"until": until}):
        with pytest.raises(EndcapError) as refused:
            run(store, spec, **arguments)
        assert refused.value.code == "sql.parameter-missing"


@pytest.mark.parametrize(
    ("text", "code", "fields"),
    [
        ("select * from click", "sql.unknown-table", {"table": "click", "known": ["clicks"]}),
        ("select *\nfrom clicks where itm = 'x'", "sql.unknown-column", {"missing": "itm", "line": 2, "column": 19}),
        ("select\n  item::integer as n from clicks", "sql.type-error", {"line": 2, "column": 7}),
        ("select item + date '2024-01-01' as n from clicks", "sql.type-error", {"line": 1}),
        ("select 2147483647::integer + length(item)::integer as n from clicks", "sql.type-error", {}),
        ("select nofunction(item) as n from clicks", "sql.invalid", {"line": 1, "column": 8}),
        ("select error('mine') as n from clicks", "sql.invalid", {}),
        ("select $kind from clicks", "sql.parameter-unknown", {"parameter": "kind"}),
        ("select 1 as a", "sql.unused", {"unused": ["clicks"]}),
        ("select item, session as Item from clicks", "sql.duplicate-column", {"columns": ["item", "Item"]}),
        ("select * from clicks a, clicks b", "sql.duplicate-column", {}),
        ("select item from clicks where type = 'none'", "sql.too-few-rows", {"rows": 0, "min_rows": 1}),
        ("select interval 1 day as i, item from clicks", "sql.output-type", {}),
        ("select * from '/etc/passwd', clicks", "sql.outside-access", {"table": "/etc/passwd"}),
        ("select * from read_csv('/etc/passwd'), clicks", "sql.outside-access", {}),
        ("select * from read_text('/etc/hostname'), clicks", "sql.outside-access", {}),
        ("select * from glob('/etc/*'), clicks", "sql.outside-access", {}),
        ("select * from 'https://example.com/x.parquet', clicks", "sql.outside-access", {}),
        ("select * from read_parquet('s3://bucket/x.parquet'), clicks", "sql.outside-access", {}),
        ("select * from information_schema.tables, clicks", "sql.outside-access", {}),
        ("select * from sqlite_scan('x.db', 't'), clicks", "sql.invalid", {}),
    ],
)
def test_a_mistake_has_a_code_and_its_place(
    tmp_path: Path, store: Store, text: str, code: str, fields: dict[str, Any]
) -> None:
    with pytest.raises(EndcapError) as refused:
        run(store, make_spec(tmp_path, text))
    assert refused.value.code == code, str(refused.value)
    assert fields.items() <= refused.value.fields.items(), refused.value.fields
    assert store.list("tables/test") == []


@pytest.mark.parametrize(
    ("settings", "code", "fields"),
    [
        ({"not_null": ["item", "price"]}, "sql.column-missing", {"missing": ["price"]}),
        ({"not_null": ["customer"]}, "sql.value-missing", {"lacking": {"customer": 2}}),
        ({"day": "item"}, "sql.day-type", {"column": "item"}),
        ({"day": "at"}, "sql.value-missing", {"lacking": {"at": 2}}),
        ({"min_rows": 5}, "sql.too-few-rows", {"rows": 4}),
    ],
)
def test_rows_that_are_not_what_is_expected_are_not_kept(
    tmp_path: Path, store: Store, settings: dict[str, Any], code: str, fields: dict[str, Any]
) -> None:
    text = "select item, customer, case when customer is not null then date '2024-03-01' end as at from clicks"
    with pytest.raises(EndcapError) as refused:
        run(store, make_spec(tmp_path, text, **settings))
    assert refused.value.code == code
    assert fields.items() <= refused.value.fields.items()
    assert store.list("tables/test") == []


def test_types_of_columns_stay(tmp_path: Path, store: Store) -> None:
    text = """
        select sum(n) as big, [1, 2] as list, {'a': 1} as struct, map {'k': 2} as map, 'x'::enum('x', 'y') as kind,
               1.25::decimal(9, 2) as price, '{"a": 1}'::json as doc, time '10:00' as at, null as nothing
        from range(3) t(n)
    """
    table = read(store, run(store, SqlSpec(text=text)))
    assert table.schema.field("price").type == pa.decimal128(9, 2)
    row = table.to_pylist()[0]
    assert (int(row["big"]), row["list"], row["struct"], row["kind"], row["nothing"]) == (
        3,
        [1, 2],
        {"a": 1},
        "x",
        None,
    )


def test_what_exceeds_the_memory_is_spilled(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("endcap.sources.engine.MEMORY", "60MB")
    spec = SqlSpec(
        text="select hash(n) as h, repeat('x', 40) || n as text, date '2024-01-01' as day from range(800000) t(n)"
    )
    address = run(store, spec)
    files = list((store.fetch(address) / "rows").rglob("*.parquet"))
    assert [pq.ParquetFile(file).metadata.num_rows for file in files] == [800_000]


def test_attempts_of_a_statement_on_spark_share_no_folder(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = []

    def go_away(plan: SparkPlan, session: Any, files: Any, rows: Path) -> None:
        places.append(rows)
        raise TransientError("spark: it went away", code="spark.went-away")

    monkeypatch.setattr(SparkPlan, "_run_statement", go_away)
    monkeypatch.setattr(spark_engine, "open_session", lambda *given: nullcontext(Mock(version="4.0")))
    for _ in range(2):
        with refused(TransientError, "spark.went-away"):
            run(store, make_spec(tmp_path, "select item from clicks", engine="spark"))
    assert len(set(places)) == 2
