"""Tables, views and queries that Google's own client reads from an emulator."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from google.cloud.bigquery import TimePartitioning

from endcap.errors import DataError
from endcap.events import ingest
from endcap.sources.bigquery.find import TableParts, find_table_parts
from endcap.sources.bigquery.partitions import Span
from endcap.spec.bigquery_source import BigQuery
from endcap.store import open_store
from tests.bigquery.emulator import PROJECT, Emulator, Field
from tests.bigquery.test_read import read
from tests.events.shops import facts, make_shop
from tests.sources.test_nested_exports import write_ga4_parquet

MOMENT = datetime(2026, 3, 1, 10, 0, 0, 123456, tzinfo=UTC)
SCHEMA = [
    Field("string", "STRING"),
    Field("int64", "INT64"),
    Field("float64", "FLOAT64"),
    Field("numeric", "NUMERIC"),
    Field("bool", "BOOL"),
    Field("timestamp", "TIMESTAMP"),
    Field("datetime", "DATETIME"),
    Field("date", "DATE"),
    Field("json", "JSON"),
    Field("bytes", "BYTES"),
    Field("struct", "STRUCT", fields=[Field("a", "STRING"), Field("b", "INT64")]),
    Field("array", "STRUCT", "REPEATED", fields=[Field("key", "STRING"), Field("value", "INT64")]),
]
ROWS = pa.table(
    {
        "string": ["x"],
        "int64": [2**53 + 1],
        "float64": [1.5],
        "numeric": pa.array([Decimal("5.250000000")], pa.decimal128(38, 9)),
        "bool": [True],
        "timestamp": pa.array([MOMENT], pa.timestamp("us", "UTC")),
        "datetime": pa.array([MOMENT.replace(tzinfo=None)], pa.timestamp("us")),
        "date": [date(2026, 3, 1)],
        "json": ['{"a": {"b": 7}}'],
        "bytes": [b"\xff"],
        "struct": [{"a": "q", "b": 3}],
        "array": [[{"key": "k", "value": 1}, {"key": "l", "value": 2}]],
    }
)
TEXTS = {
    "string": "x",
    "int64": "9007199254740993",
    "float64": "1.5",
    "numeric": "5.25",
    "bool": "true",
    "timestamp": "2026-03-01 10:00:00.123456+00",
    "datetime": "2026-03-01 10:00:00.123456",
    "date": "2026-03-01",
    "json.a.b": "7",
    "struct.a": "q",
    "array[key=l].value": "2",
}


@pytest.fixture(scope="module")
def typed(started_emulator: Emulator) -> str:
    """A table with a column of each type."""
    started_emulator.create_table("types.typed", SCHEMA, ROWS)
    started_emulator.execute("CREATE VIEW types.view AS SELECT * FROM types.typed")
    return f"{PROJECT}.types.typed"


@pytest.fixture(scope="module")
def days(started_emulator: Emulator) -> None:
    """Tables of four days, by partitions of each kind of column, and by shards."""
    moments = [datetime(2026, 3, day, 23, 30, tzinfo=UTC) for day in range(1, 5)]
    kinds = {"TIMESTAMP": pa.timestamp("us", "UTC"), "DATETIME": pa.timestamp("us"), "DATE": pa.date32()}
    for kind, arrow in kinds.items():
        values = moments if kind == "TIMESTAMP" else [moment.replace(tzinfo=None) for moment in moments]
        rows = pa.table({"item": ["a", "b", "c", "d"], "time": pa.array(values).cast(arrow)})
        schema = [Field("item", "STRING"), Field("time", kind)]
        started_emulator.create_table(f"days.by_{kind}".lower(), schema, rows, by=TimePartitioning(field="time"))
    rows = pa.table({"item": ["a", "b"], "time": pa.array([moments[0], None], pa.timestamp("us", "UTC"))})
    schema = [Field("item", "STRING"), Field("time", "TIMESTAMP")]
    started_emulator.create_table("days.with_null", schema, rows, by=TimePartitioning(field="time"))
    for day, item in enumerate("abcd", 1):
        rows = pa.table({"item": [item], "time": pa.array([moments[day - 1]])})
        started_emulator.create_table(f"days.events_2026030{day}", schema, rows)
    started_emulator.create_table("days.events_intraday_20260305", schema)


def find(span: Span = Span(), time: str | None = "time", **source: Any) -> TableParts:  # noqa: B008 (frozen)
    return find_table_parts(BigQuery.model_validate(source), span, time)


def read_all(parts: TableParts, folder: Path, *columns: str) -> list[tuple[str | None, ...]]:
    return [row for part in parts.parts for row in read(part, folder, *columns)]


@pytest.mark.usefixtures("emulator")
@pytest.mark.parametrize("column", TEXTS)
def test_a_value_of_each_type_becomes_text(typed: str, column: str, tmp_path: Path) -> None:
    assert read_all(find(table=typed), tmp_path, column) == [(TEXTS[column],)]


@pytest.mark.usefixtures("emulator")
def test_bytes_are_refused(typed: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as raised:
        read_all(find(table=typed), tmp_path, "bytes")
    assert raised.value.code == "bigquery.column-type"


@pytest.mark.usefixtures("emulator", "typed")
@pytest.mark.parametrize(
    "origin", [{"table": f"{PROJECT}.types.view"}, {"query": f"SELECT * FROM `{PROJECT}.types.typed`;"}]
)
def test_a_view_and_a_query_give_the_same_rows(
    origin: dict[str, str], started_emulator: Emulator, tmp_path: Path
) -> None:
    # bqemulator keeps no temporary results, so the rows need a dataset.
    parts = find(**origin, project=PROJECT, results="types")
    columns = [name for name in TEXTS if not name.startswith("json")]
    assert read_all(parts, tmp_path, *columns) == [tuple(TEXTS[name] for name in columns)]
    left = started_emulator.client.list_tables(f"{PROJECT}.types", retry=None)
    assert [table.table_id for table in left if table.table_id.startswith("endcap_")] == []


SECOND = Span(datetime(2026, 3, 2, tzinfo=UTC), datetime(2026, 3, 3, tzinfo=UTC))


@pytest.mark.usefixtures("emulator", "days")
@pytest.mark.parametrize(
    ("table", "time", "items"),
    [
        ("by_timestamp", "time", "b"),
        ("by_datetime", "time", "abc"),  # a local day is at most a day off
        ("by_date", "time", "abc"),
        ("by_timestamp", None, "abcd"),  # stored up to three days later, or a day before
        ("events_*", None, "abcd"),
    ],
)
def test_only_the_needed_days_are_read(table: str, time: str | None, items: str, tmp_path: Path) -> None:
    parts = find(SECOND, time, table=f"{PROJECT}.days.{table}")
    assert "".join(str(item) for (item,) in read_all(parts, tmp_path, "item")) == items
    assert len(parts.parts) == len(items)


@pytest.mark.usefixtures("emulator", "days")
def test_lateness_says_how_many_days_more_are_read() -> None:
    parts = find(SECOND, None, table=f"{PROJECT}.days.events_*", lateness="0s")
    assert [part.partition for part in parts.parts] == ["20260301", "20260302"]
    assert parts.skipped == [f"{PROJECT}.days.events_intraday_20260305"]


@pytest.mark.usefixtures("emulator", "days")
def test_rows_without_a_time_are_read_too(tmp_path: Path) -> None:
    parts = find(SECOND, table=f"{PROJECT}.days.with_null")
    assert read_all(parts, tmp_path, "item") == [("b",)]
    query = find(SECOND, query=f"SELECT * FROM `{PROJECT}.days.with_null`", project=PROJECT, results="days")
    assert read_all(query, tmp_path, "item") == [("b",)]


@pytest.mark.usefixtures("emulator", "days")
@pytest.mark.parametrize(
    "origin",
    [
        {"table": f"{PROJECT}.days.absent"},
        {"table": f"{PROJECT}.absent.absent"},
        {"table": f"{PROJECT}.days.absent_*"},
        {"table": f"{PROJECT}.days.by_*"},
        {"query": f"SELECT * FROM `{PROJECT}.days.absent`"},
    ],
)
def test_a_table_that_is_not_there_is_an_error(origin: dict[str, str]) -> None:
    with pytest.raises(DataError) as raised:
        find(**origin)
    assert raised.value.code == "bigquery.table-missing"


@pytest.mark.usefixtures("emulator", "days")
def test_a_query_that_is_wrong_is_an_error() -> None:
    with pytest.raises(DataError) as raised:
        find(query=f"SELECT absent FROM `{PROJECT}.days.by_date`")
    assert raised.value.code == "bigquery.refused"


def test_an_export_of_google_analytics_is_read_by_its_layout(emulator: Emulator, tmp_path: Path) -> None:
    rows = pq.read_table(write_ga4_parquet(tmp_path))
    value = [Field("string_value", "STRING"), Field("int_value", "INT64"), Field("double_value", "FLOAT64")]
    parameters = [Field("key", "STRING"), Field("value", "STRUCT", fields=value)]
    items = [Field(name, "STRING") for name in ("item_id", "item_name", "item_brand", "item_category")]
    schema = [
        Field("event_date", "STRING"),
        Field("event_timestamp", "INT64"),
        Field("event_name", "STRING"),
        Field("event_params", "STRUCT", "REPEATED", fields=parameters),
        Field("user_id", "STRING"),
        Field("user_pseudo_id", "STRING"),
        Field("items", "STRUCT", "REPEATED", fields=[*items, Field("price", "FLOAT64"), Field("quantity", "INT64")]),
    ]
    emulator.create_table("analytics.events_20260302", schema, rows)
    table = {"bigquery": {"table": f"{PROJECT}.analytics.events_*"}, "layout": "ga4"}
    counts, store = [], open_store(str(tmp_path / "store"))
    for source in (table, {"path": str(tmp_path / "ga4"), "layout": "ga4"}):
        shop = make_shop(source, items={"sources": [source]}, events={"sources": [source]})
        snapshot = facts(store, ingest(shop, store))
        counts.append([snapshot[name] for name in ("events", "left_out", "bad", "read", "fingerprint")])
    assert counts[0] == counts[1]
    assert counts[0][0] == 7
