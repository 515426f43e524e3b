"""Steps of SQL over tables of BigQuery: read by DuckDB, or run where the tables lie."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import endcap
from endcap.errors import EndcapError
from endcap.spec.sql_step import SqlSpec
from endcap.sql.bigquery_engine import convert_refusal, parse
from endcap.store import Store, open_store
from tests.bigquery.emulator import PROJECT, Emulator, Field
from tests.sql.shops import facts, read, run, values

START = datetime(2026, 3, 1, 23, 30, tzinfo=UTC)
SCHEMA = [Field("session", "STRING"), Field("item", "STRING"), Field("time", "TIMESTAMP")]
SQL = f"select session, item, time, date(time) as day from `{PROJECT}.prepared.clicks` where item <> @left_out"


def rows(*items: str) -> pa.Table:
    times = pa.array(
        [START + timedelta(minutes=20 * number) for number in range(len(items))], pa.timestamp("us", "UTC")
    )
    return pa.table({"session": ["s1"] * len(items), "item": list(items), "time": times})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


@pytest.fixture
def clicks(emulator: Emulator) -> Emulator:
    emulator.execute("CREATE SCHEMA IF NOT EXISTS prepared")
    emulator.execute("DROP TABLE IF EXISTS prepared.clicks")
    emulator.create_table("prepared.clicks", SCHEMA, rows("a", "x", "b", "c"))
    return emulator


def spec(text: str = SQL, **settings: Any) -> SqlSpec:
    job = {"project": PROJECT, "results": "prepared", **settings.pop("bigquery", {})}
    parameters = settings.pop("parameters", {"left_out": "x"})
    return SqlSpec.model_validate(
        {"text": text, "engine": "bigquery", "bigquery": job, "parameters": parameters, **settings}
    )


def refused(store: Store, spec: SqlSpec) -> EndcapError:
    with pytest.raises(EndcapError) as error:
        run(store, spec)
    assert store.list("tables/test") == []
    return error.value


def test_a_table_is_an_input_of_duckdb(clicks: Emulator, store: Store) -> None:
    source = {"bigquery": {"table": f"{PROJECT}.prepared.clicks", "project": PROJECT}}
    settings = SqlSpec.model_validate(
        {"text": "select item, time from log where item <> 'x'", "inputs": {"log": source}}
    )
    address = run(store, settings)
    assert [row[0] for row in values(store, address)] == ["a", "b", "c"]
    (part,) = facts(store, address)["inputs"]["log"]["files"]
    assert part["table"] == f"{PROJECT}.prepared.clicks"
    assert run(store, settings) == address
    clicks.load("prepared.clicks", rows("d"))
    assert run(store, settings) != address


def test_decimals_are_numbers_in_duckdb(emulator: Emulator, store: Store) -> None:
    emulator.execute("CREATE SCHEMA IF NOT EXISTS priced")
    emulator.execute(
        "CREATE OR REPLACE TABLE priced.prices AS SELECT 'a' AS item, NUMERIC '1.25' AS price, "
        "[STRUCT(NUMERIC '2' AS tax)] AS more UNION ALL SELECT 'b', NULL, NULL"
    )
    settings = SqlSpec.model_validate(
        {
            "text": "select item, price * 2 as twice, more[1].tax + 1 as tax from prices",
            "inputs": {"prices": {"bigquery": {"table": f"{PROJECT}.priced.prices", "project": PROJECT}}},
        }
    )
    assert values(store, run(store, settings)) == [("a", Decimal("2.5"), Decimal(3)), ("b", None, None)]


def test_rows_keep_the_order_of_the_statement(clicks: Emulator, store: Store) -> None:
    text = "select item from prepared.clicks order by item desc"
    assert values(store, run(store, spec(text, parameters={}))) == [("x",), ("c",), ("b",), ("a",)]


def test_a_statement_runs_where_its_tables_lie(clicks: Emulator, store: Store) -> None:
    address = run(store, spec())
    day, midnight = date(2026, 3, 1), date(2026, 3, 2)
    assert [(row[1], row[3]) for row in values(store, address)] == [("a", day), ("b", midnight), ("c", midnight)]
    told = facts(store, address)
    assert (told["rows"], told["days"]["count"], told["engine"]) == (3, 2, "bigquery")
    assert list(told["inputs"]) == [f"{PROJECT}.prepared.clicks"]
    assert told["job"]
    assert told["parameters"] == {"left_out": "x"}
    assert [table.table_id for table in clicks.client.list_tables("prepared", retry=None)] == ["clicks"]
    assert run(store, spec(f"-- again\n{SQL}")) == address
    assert run(store, spec(parameters={"left_out": "a"})) != address
    clicks.load("prepared.clicks", rows("d"))
    assert run(store, spec()) != address


def test_names_of_tables_keep_their_case_and_names_of_with_have_none() -> None:
    text = "with Kept as (select item from Web.Clicks) select item from kept join web.clicks using (item)"
    assert parse("clean", text).tables == ("Web.Clicks", "web.clicks")


def test_every_type_of_a_parameter_reaches_the_warehouse(clicks: Emulator, store: Store) -> None:
    text = "select @t as t, @n + 1 as n, @f as f, @b as b, @logical_date as at from prepared.clicks limit 1"
    settings = spec(text, parameters={"t": "it's", "n": 4, "f": 1.5, "b": True})
    address = run(store, settings, until=START)
    assert values(store, address) == [("it's", 5, 1.5, True, START)]


def test_types_of_the_warehouse_become_those_of_parquet(clicks: Emulator, store: Store) -> None:
    text = """
        select cast('1.5' as numeric) as n, cast('2.25' as bignumeric) as b, [1, 2] as l, struct(1 as a, 'x' as c) as s,
               datetime '2026-03-01 10:00:00' as d, b'x' as y, cast(null as string) as z
        from prepared.clicks limit 1
    """
    row = read(store, run(store, spec(text, parameters={}))).to_pylist()[0]
    assert (float(row["n"]), float(row["b"]), row["l"]) == (1.5, 2.25, [1, 2])
    assert (row["s"], row["d"], row["y"], row["z"]) == ({"a": 1, "c": "x"}, datetime(2026, 3, 1, 10), b"x", None)


def test_rows_can_replace_a_table_of_the_warehouse_which_a_shop_then_reads(
    clicks: Emulator, tmp_path: Path, store: Store
) -> None:
    settings = spec(bigquery={"table": "prepared.clean"}, not_null=["item"])
    first = run(store, settings)
    assert sorted(row.item for row in clicks.execute("SELECT item FROM prepared.clean")) == ["a", "b", "c"]
    told = facts(store, first)
    assert (told["table"], told["rows"]) == (f"{PROJECT}.prepared.clean", 3)
    assert [column["nulls"] for column in told["columns"]] == [0, 0, 0, 0]
    assert run(store, settings) != first  # a table may change, so each run writes it
    assert refusal_keeps_table(clicks, store) == ["a", "b", "c"]
    shop = {"events": {"sources": [{"step": "clean"}], "columns": {"session": "session"}}}
    recommender = {
        "model": {"name": "popularity"},
        "pipeline": {
            "steps": {"clean": {"before": "ingest", "sql": settings.model_dump(exclude_defaults=True, mode="json")}}
        },
    }
    project = endcap.open(
        {"recommender": recommender, "shop": shop}, store=tmp_path / "other", progress=lambda line: None
    )
    assert project.ingest().facts["events"] == 3


def refusal_keeps_table(clicks: Emulator, store: Store) -> list[str]:
    with pytest.raises(EndcapError) as error:
        run(store, spec(bigquery={"table": "prepared.clean"}, min_rows=10))
    assert error.value.code == "sql.too-few-rows"
    return sorted(row.item for row in clicks.execute("SELECT item FROM prepared.clean"))


@pytest.mark.parametrize(
    ("text", "settings", "code"),
    [
        ("select * from prepared.nothing", {}, "bigquery.table-missing"),
        ("select * from clicks", {}, "sql.unknown-table"),
        ("select * from prepared.clicks where", {}, "sql.syntax"),
        ("select rand() as r from prepared.clicks", {}, "sql.not-repeatable"),
        ("select item from prepared.clicks where time < current_timestamp()", {}, "sql.not-repeatable"),
        ("select item from prepared.clicks where item = 'none'", {}, "sql.too-few-rows"),
        ("select item from prepared.clicks", {"not_null": ["price"]}, "sql.column-missing"),
        ("select item from prepared.clicks where item = @other", {}, "sql.parameter-unknown"),
        ("delete from prepared.clicks where true", {}, "sql.not-a-select"),
    ],
)
def test_a_mistake_has_a_code(clicks: Emulator, store: Store, text: str, settings: dict[str, Any], code: str) -> None:
    assert refused(store, spec(text, parameters={}, **settings)).code == code


def test_more_bytes_than_the_limit_are_not_read(
    clicks: Emulator, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from google.cloud.bigquery import QueryJob

    # bqemulator's dry run counts no bytes.
    monkeypatch.setattr(QueryJob, "total_bytes_processed", 2 * 10**9)
    error = refused(store, spec(bigquery={"max_bytes": "1GB"}))
    assert (error.code, error.fields["bytes"]) == ("bigquery.too-many-bytes", 2 * 10**9)


@pytest.mark.parametrize(
    ("reason", "code", "place"),
    [
        ("Syntax error: Unexpected keyword FROM at [3:7]", "sql.syntax", (3, 7)),
        ("Unrecognized name: itm; Did you mean item? at [1:8]", "sql.unknown-column", (1, 8)),
        ("No matching signature for operator + for argument types: STRING, DATE.\n at [2:1]", "sql.type-error", (2, 1)),
        ("Duplicate column names in the result are not supported. Found duplicate(s): a", "sql.duplicate-column", None),
        ("Query error: Division by zero", "sql.invalid", None),
    ],
)
def test_a_refusal_of_the_warehouse_has_a_code_and_its_place(
    reason: str, code: str, place: tuple[int, int] | None
) -> None:
    error = convert_refusal("clean", reason)
    assert error.code == code
    assert (error.fields.get("line"), error.fields.get("column")) == (place or (None, None))
