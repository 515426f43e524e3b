"""The SQL that is asked of BigQuery, as files to read, and as sqlglot's BigQuery dialect reads it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlglot

from endcap.errors import DataError
from endcap.sources.bigquery.columns import TableColumn, check_types, list_fields, make_arrow_schema, select_columns
from endcap.sources.bigquery.compile import (
    TableName,
    create_results,
    list_partitions,
    match_moments,
    match_partition,
    match_partitions,
    match_suffixes,
    quote,
    quote_string,
    select_from,
    wrap_query,
)
from endcap.sources.bigquery.partitions import INGESTION, Partitioning, Span, parse_partition, parse_shard

GOLDEN = Path(__file__).with_name("golden")
TABLE = TableName("shop-project", "analytics_1", "events_*")
VALUE = TableColumn(
    "value", "STRUCT", fields=(TableColumn("string_value", "STRING"), TableColumn("int_value", "INT64"))
)
COLUMNS = (
    TableColumn("event_name", "STRING"),
    TableColumn("event_timestamp", "INT64"),
    TableColumn("user_pseudo_id", "STRING"),
    TableColumn("event_params", "STRUCT", repeated=True, fields=(TableColumn("key", "STRING"), VALUE)),
    TableColumn(
        "items", "STRUCT", repeated=True, fields=(TableColumn("item_id", "STRING"), TableColumn("price", "FLOAT64"))
    ),
    TableColumn("geo", "STRUCT", fields=(TableColumn("country", "STRING"), TableColumn("city", "STRING"))),
    TableColumn("order", "STRING"),
    TableColumn("raw", "BYTES"),
    TableColumn("data", "JSON"),
)
GA4 = ["items[].item_id", "event_timestamp", "event_params[key=ga_session_id].value.int_value", "geo.country", "order"]
MARCH = Span(datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 31, 12, tzinfo=UTC))
QUERIES = {
    "nested": select_from(quote(str(TABLE)), COLUMNS, select_columns(COLUMNS, GA4), match_suffixes(["20260301"])),
    "shards": select_from(
        quote(str(TABLE)),
        COLUMNS,
        select_columns(COLUMNS, ["event_name"]),
        match_suffixes(["20260228", "20260301", "20260302", "20260401"]),
    ),
    "partitions": select_from(
        quote("p.d.t"),
        COLUMNS,
        select_columns(COLUMNS, ["event_name"]),
        match_partitions(Partitioning("day", "DATE"), ["20260228", "20260301", "20260305", "__NULL__"]),
    ),
    "ingestion": select_from(
        quote("p.d.t"),
        COLUMNS,
        select_columns(COLUMNS, ["event_name"]),
        match_partitions(Partitioning(INGESTION, "TIMESTAMP"), ["2026030100", "2026030101", "__UNPARTITIONED__"]),
    ),
    "query": select_from(
        wrap_query("SELECT * FROM `p.d.t` WHERE shop = 'a';"),
        COLUMNS,
        select_columns(COLUMNS, ["event_name", "data"]),
        match_moments("time", "TIMESTAMP", MARCH),
    ),
    "results": create_results(TableName("p", "tmp", "endcap_1"), "SELECT 1 AS x", 24),
    "list_partitions": list_partitions(TableName("p", "d", "it's")),
}


@pytest.mark.parametrize("name", QUERIES)
def test_a_query_is_as_its_file_says_and_parses(name: str) -> None:
    assert QUERIES[name] + "\n" == (GOLDEN / f"{name}.sql").read_text()
    sqlglot.parse_one(QUERIES[name], read="bigquery", error_level=sqlglot.ErrorLevel.RAISE)


def test_every_golden_file_has_its_query() -> None:
    assert {file.stem for file in GOLDEN.glob("*.sql")} == set(QUERIES)


@pytest.mark.parametrize(
    ("partitioning", "partition", "condition"),
    [
        (Partitioning("t", "TIMESTAMP"), "20260301", "2026-03-01 00:00:00+00:00,2026-03-02 00:00:00+00:00"),
        (Partitioning("t", "TIMESTAMP"), "2026030123", "2026-03-01 23:00:00+00:00,2026-03-02 00:00:00+00:00"),
        (Partitioning("t", "DATETIME"), "202612", "2026-12-01 00:00:00,2027-01-01 00:00:00"),
        (Partitioning("t", "DATE"), "2026", "2026-01-01,2027-01-01"),
        (Partitioning("t", "DATE"), "20260301", "2026-03-01,2026-03-02"),
        (Partitioning(INGESTION, "TIMESTAMP"), "2026", "2026-01-01 00:00:00+00:00,2027-01-01 00:00:00+00:00"),
    ],
)
def test_a_partition_becomes_its_span(partitioning: Partitioning, partition: str, condition: str) -> None:
    start, end = condition.split(",")
    kind, column = partitioning.type, "`t`" if partitioning.column == "t" else INGESTION
    assert match_partition(partitioning, partition) == f"{column} >= {kind} '{start}' AND {column} < {kind} '{end}'"


def test_rows_that_no_partition_has_yet_are_matched() -> None:
    assert match_partition(Partitioning(INGESTION, "TIMESTAMP"), "__UNPARTITIONED__") == f"{INGESTION} IS NULL"
    assert match_partition(Partitioning("t", "DATE"), "__NULL__") == "`t` IS NULL"


def test_names_that_are_no_times_are_no_spans() -> None:
    assert parse_partition("__NULL__") is None
    assert [parse_shard(suffix) for suffix in ("intraday_20260301", "2026030", "20261301")] == [None] * 3


def test_texts_end_where_they_should() -> None:
    tree = sqlglot.parse_one(f"SELECT {quote_string(chr(39) + ' OR 1=1 --' + chr(92))} AS x", read="bigquery")
    assert tree.selects[0].this.this == "' OR 1=1 --\\"


def test_only_needed_columns_and_fields_are_selected() -> None:
    selection = select_columns(COLUMNS, [*GA4, "missing", "geo.missing", "data.a.b"])
    assert list_fields(selection) == [
        "event_timestamp", "event_params.key", "event_params.value.int_value", "items.item_id", "geo.country", "order",
        "data",
    ]  # fmt: skip


def test_a_column_is_selected_whole_if_anybody_needs_all_of_it() -> None:
    assert select_columns(COLUMNS, ["geo.country", "geo"]) == {"geo": None}
    assert select_columns(COLUMNS, ["geo", "geo.country"]) == {"geo": None}
    assert select_columns(COLUMNS, ["geo.country", "geo.city"]) == {"geo": {"country": None, "city": None}}


def test_bytes_are_refused_only_if_they_are_needed() -> None:
    check_types("t", COLUMNS, select_columns(COLUMNS, GA4))
    with pytest.raises(DataError) as raised:
        check_types("t", COLUMNS, select_columns(COLUMNS, ["raw"]))
    assert (raised.value.code, raised.value.fields["column"]) == ("bigquery.column-type", "raw")


def test_the_schema_has_every_column() -> None:
    assert make_arrow_schema(COLUMNS).names == [column.name for column in COLUMNS]
