"""Views and queries whose rows did not change are known by what they read; all others count as changed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from endcap.sources.bigquery.client import Warehouse
from endcap.sources.bigquery.compile import TableName
from endcap.sources.bigquery.find import find_table_parts
from endcap.sources.bigquery.row_versions import find_query_version, find_table_version
from endcap.sources.bigquery.tables import describe_table
from endcap.spec.bigquery_source import BigQuery
from tests.bigquery.fake_bigquery import PROJECT, FakeBigQuery, serve

FIELDS = {"schema": {"fields": [{"name": "item", "type": "STRING"}, {"name": "time", "type": "TIMESTAMP"}]}}
STORED = FIELDS | {"numRows": "5", "numBytes": "50", "lastModifiedTime": "1"}
VIEW = f"{PROJECT}.shop.view"


def make_view(query: str, *, legacy: bool = False) -> dict[str, Any]:
    return FIELDS | {"type": "VIEW", "view": {"query": query, "useLegacySql": legacy}}


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[FakeBigQuery, Warehouse]]:
    fake = FakeBigQuery()
    with serve(fake) as warehouse:
        yield fake, warehouse


@pytest.fixture
def fake(served: tuple[FakeBigQuery, Warehouse]) -> FakeBigQuery:
    """A server with a table, shards, a view of them, and tables that have no version."""
    fake, _ = served
    fake.tables = {
        f"{PROJECT}.shop.Clicks": dict(STORED),
        f"{PROJECT}.shop.shard_1": dict(STORED),
        f"{PROJECT}.shop.shard_2": dict(STORED),
        VIEW: make_view("WITH c AS (SELECT * FROM shop.Clicks) SELECT * FROM C"),
        f"{PROJECT}.shop.legacy": make_view("SELECT * FROM [shop.Clicks]", legacy=True),
        f"{PROJECT}.shop.today": make_view("SELECT item, CURRENT_DATE() AS day FROM shop.Clicks"),
        f"{PROJECT}.shop.loop": make_view(f"SELECT * FROM {PROJECT}.shop.loop"),
        f"{PROJECT}.shop.files": STORED | {"type": "EXTERNAL"},
        f"{PROJECT}.shop.fresh": STORED | {"type": "MATERIALIZED_VIEW"},
        f"{PROJECT}.shop.stream": STORED | {"streamingBuffer": {"estimatedRows": "3"}},
        "other.shop.view": make_view("SELECT * FROM shop.Clicks"),
        "other.shop.named": make_view(f"SELECT * FROM `{PROJECT}.shop.Clicks`"),
    }
    return fake


@pytest.fixture
def warehouse(served: tuple[FakeBigQuery, Warehouse]) -> Warehouse:
    return served[1]


@pytest.mark.parametrize(
    ("query", "changed"),
    [
        ("SELECT item FROM shop.Clicks WHERE time > '2026-01-01'", "Clicks"),
        (f"SELECT item FROM `{VIEW}` JOIN shop.Clicks USING (item);", "Clicks"),
        ("SELECT * FROM other.shop.named", "Clicks"),
        ("SELECT COUNT(*) FROM `shop.shard_*` WHERE _TABLE_SUFFIX > '1'", "shard_2"),
        ("SELECT i FROM shop.Clicks, UNNEST([1, 2]) AS i", "Clicks"),
    ],
)
def test_rows_are_known_until_a_table_behind_them_changes(
    query: str, changed: str, fake: FakeBigQuery, warehouse: Warehouse
) -> None:
    first = find_query_version(warehouse, query)
    assert first is not None
    assert find_query_version(warehouse, query) == first
    fake.tables[f"{PROJECT}.shop.{changed}"]["lastModifiedTime"] = "2"
    assert find_query_version(warehouse, query) not in (first, None)


def test_another_text_of_a_view_is_another_version(fake: FakeBigQuery, warehouse: Warehouse) -> None:
    query = f"SELECT * FROM {VIEW}"
    first = find_query_version(warehouse, query)
    fake.tables[VIEW] = make_view("SELECT * FROM shop.Clicks LIMIT 3")
    assert find_query_version(warehouse, query) not in (first, None)


@pytest.mark.parametrize(
    "query",
    [
        "SELECT item FROM shop.Clicks WHERE time > CURRENT_TIMESTAMP()",
        "SELECT item, current_date FROM shop.Clicks",
        "SELECT item FROM shop.Clicks WHERE RAND() < 0.1",
        "SELECT GENERATE_UUID() FROM shop.Clicks",
        "SELECT SESSION_USER() FROM shop.Clicks",
        "SELECT shop.declared(item) FROM shop.Clicks",
        "SELECT * FROM shop.table_function(1)",
        "SELECT * FROM EXTERNAL_QUERY('other', 'SELECT 1')",
        "SELECT * FROM ML.PREDICT(MODEL shop.model, TABLE shop.Clicks)",
        "SELECT AI.GENERATE('x') FROM shop.Clicks",
        "SELECT @@session_id FROM shop.Clicks",
        "SELECT * FROM shop.Clicks TABLESAMPLE SYSTEM (10 PERCENT)",
        "SELECT * FROM shop.Clicks FOR SYSTEM_TIME AS OF TIMESTAMP '2026-01-01'",
        "CREATE TEMP FUNCTION f(x INT64) AS (x); SELECT f(1) FROM shop.Clicks",
        "SELECT * FROM shop.clicks",  # names of tables differ by case
        "SELECT * FROM shop.INFORMATION_SCHEMA.TABLES",
        "SELECT * FROM Clicks",
        "SELECT * FROM shop.legacy",
        "SELECT * FROM shop.today",
        "SELECT * FROM shop.loop",
        "SELECT * FROM shop.files",
        "SELECT * FROM shop.fresh",
        "SELECT * FROM shop.stream",
        "SELECT * FROM `shop.none_*`",
        "SELECT * FROM other.shop.view",  # whose tables name no project
        "SELECT frm shop.Clicks (",
    ],
)
@pytest.mark.usefixtures("fake")
def test_rows_that_nobody_vouches_for_count_as_changed(query: str, warehouse: Warehouse) -> None:
    assert find_query_version(warehouse, query) is None


def test_a_table_that_is_queried_has_its_own_version(fake: FakeBigQuery, warehouse: Warehouse) -> None:
    versions = {
        name: find_table_version(warehouse, describe_table(warehouse, TableName(PROJECT, "shop", name)))
        for name in ("Clicks", "files", "fresh", "stream", "today")
    }
    assert [name for name, version in versions.items() if version is not None] == ["Clicks"]


def test_the_part_of_a_view_or_query_is_kept_while_its_rows_are(fake: FakeBigQuery, warehouse: Warehouse) -> None:
    def digests() -> list[str]:
        sources = [
            BigQuery(table=VIEW),
            BigQuery(query="SELECT * FROM shop.Clicks"),
            BigQuery(table=f"{PROJECT}.shop.today"),
        ]
        return [find_table_parts(source, warehouse=warehouse).parts[0].digest() for source in sources]

    def advance() -> None:
        moment = [[str(1767225600000000 + len(fake.asked) * 1_000_000)]]
        fake.queries = [
            ("CURRENT_TIMESTAMP() AS moment", {"rows": moment, "schema": [{"name": "moment", "type": "TIMESTAMP"}]})
        ]

    advance()
    first = digests()
    advance()
    second = digests()
    assert [a == b for a, b in zip(first, second, strict=True)] == [True, True, False]
    fake.tables[f"{PROJECT}.shop.Clicks"]["numRows"] = "6"
    assert not set(digests()) & set(second[:2])
