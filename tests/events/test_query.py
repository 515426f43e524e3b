"""SQL over a snapshot and a dataset: what it sees, and what it cannot reach."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from endcap.errors import NotFoundError, UserError
from endcap.events import ingest
from endcap.events.query import query, tables
from endcap.features import build
from endcap.store import Store, get_content_key, open_store
from tests.events.shops import ROWS, make_shop, write_csv
from tests.store.servers import S3Place, Server, moto

BAD = "s3,c3,i9,no time,view"


@dataclass(frozen=True)
class Made:
    store: Store
    snapshot: str
    dataset: str


def make(store: Store, folder: Path, rows: list[str]) -> Made:
    items = write_csv(folder / "items.csv", ["i1,shoe", "i2,hat"], header="item,title")
    events = {"max_bad_share": 0.5, "columns": {"session": "session", "customer": "customer", "type": "type"}}
    table = {"sources": [{"path": str(items)}], "columns": {"item": "item", "title": "title"}}
    shop = make_shop(
        write_csv(folder / "log.csv", rows),
        events=events | {"sources": [{"path": str(folder / "log.csv")}]},
        items=table,
    )
    snapshot = ingest(shop, store)
    return Made(store, snapshot, build(shop, snapshot, store))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("made")
    return make(open_store(str(folder / "store")), folder, [*ROWS, BAD])


def values(made: Made, sql: str, **which: Any) -> list[tuple[Any, ...]]:
    found = query(sql, made.store, **(which or {"shop": "test"}))
    return list(zip(*(column.to_pylist() for column in found.columns), strict=True))


def code(made: Made, sql: str, **which: Any) -> str:
    with pytest.raises(UserError) as refused:
        values(made, sql, **which)
    return refused.value.code


def test_events_items_and_bad_rows_are_tables_of_the_snapshot(made: Made) -> None:
    assert values(made, "select type, count(*) from events group by type order by type") == [("cart", 1), ("view", 3)]
    assert values(made, "select day::varchar, count(*) from events group by all order by 1") == [
        ("2024-03-01", 3),
        ("2024-03-02", 1),
    ]
    assert values(made, "select item, title from items order by item") == [("i1", "shoe"), ("i2", "hat")]
    assert values(made, "select line, \"table\", values->>'item' from bad_rows") == [(6, "events", "i9")]
    assert values(made, "select epoch_ms(min(time))::varchar from events") == [("2024-03-01 10:00:00",)]


def test_numbers_of_a_dataset_lead_to_its_items_and_sessions(made: Made) -> None:
    sql = """
        select s.id, i.item from session_events e
        join dataset_items i on e.item = i.number join sessions s using (session) order by s.start, e.time
    """
    assert values(made, sql) == [("c1|s1", "i1"), ("c1|s1", "i2"), ("|s2", "i1"), ("|s2", "i3")]


def test_tables_are_listed_with_columns_and_rows_and_only_those_that_exist(made: Made) -> None:
    listed = {table.name: table for table in tables(made.store, shop="test")}
    assert {"events", "items", "bad_rows", "sessions", "session_events", "dataset_items"} <= set(listed)
    assert not {"customers", "owned"} & set(listed)
    assert listed["events"].rows == 4
    assert listed["events"].columns["time"] == "BIGINT"
    assert listed["sessions"].artifact == made.dataset


def test_a_clock_and_a_zone_are_those_of_utc(made: Made) -> None:
    assert values(made, "select current_setting('TimeZone')") == [("UTC",)]


def test_the_artifacts_that_are_named_belong_together(made: Made, tmp_path: Path) -> None:
    store = open_store(str(shutil.copytree(made.store.root.removeprefix("file://"), tmp_path / "store")))
    older = Made(store, *(f"{store.root}/{get_content_key(address)}" for address in (made.snapshot, made.dataset)))
    newer = make(store, tmp_path, ROWS[:2])
    count = "select (select count(*) from events), (select count(*) from session_events)"
    assert values(older, count) == [(2, 2)]
    assert values(older, count, snapshot=older.snapshot) == [(4, 4)]
    assert values(older, count, dataset=older.dataset) == [(4, 4)]
    assert values(older, count, snapshot=older.snapshot, dataset=newer.dataset) == [(4, 2)]


def test_a_limit_returns_the_first_rows_of_the_order(made: Made) -> None:
    found = query("select item from events order by item desc, time", made.store, shop="test", limit=2)
    assert found.column("item").to_pylist() == ["i3", "i2"]


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("selec 1", "query.invalid"),
        ("select nothing from events", "query.invalid"),
        ("select error('mine') from events", "query.invalid"),
        ("select * from event", "query.unknown-table"),
        ("select 1; select 2", "query.not-a-select"),
        ("", "query.not-a-select"),
        ("create table x (a int)", "query.not-a-select"),
        ("drop view events", "query.not-a-select"),
        ("set memory_limit = '99GB'", "query.not-a-select"),
        ("attach 'x.db'", "query.not-a-select"),
        ("install httpfs", "query.not-a-select"),
    ],
)
def test_wrong_sql_and_what_does_not_only_read_is_refused(made: Made, sql: str, expected: str) -> None:
    assert code(made, sql) == expected


def test_an_error_has_the_engines_words_and_names_the_tables(made: Made) -> None:
    with pytest.raises(UserError, match='Referenced column "nothing" not found'):
        values(made, "select nothing from events")
    with pytest.raises(UserError) as refused:
        values(made, "select * from event")
    assert refused.value.fields["tables"] == sorted(table.name for table in tables(made.store, shop="test"))


def test_no_other_file_no_address_and_no_variable_is_read(made: Made, tmp_path: Path) -> None:
    secret = write_csv(tmp_path / "secret.csv", ["hunter2"], header="a")
    hunter2 = values(made, "from events")
    assert hunter2
    for sql in (
        f"from read_csv('{secret}')",
        f"from '{secret}'",
        f"from read_text('{secret}')",
        f"from glob('{tmp_path}/*')",
        "from 'https://example.com/x.parquet'",
        "from 's3://bucket/x.parquet'",
    ):
        assert code(made, sql) == "query.invalid", sql
    assert code(made, "from hunter2") == "query.unknown-table"


def test_nothing_of_the_artifact_can_be_written(made: Made) -> None:
    file = made.store.fetch(made.dataset) / "sessions.parquet"
    before = file.read_bytes()
    for sql in (
        f"copy (select 1) to '{file}' (use_tmp_file false)",
        f"explain analyze copy (select 1) to '{file}' (use_tmp_file false)",
    ):
        assert code(made, sql) == "query.not-a-select"
    assert file.read_bytes() == before


def test_what_is_no_artifact_and_a_shop_without_data_are_refused(made: Made) -> None:
    assert code(made, "from events", snapshot=made.dataset) == "query.wrong-artifact"
    assert code(made, "from events", dataset="x") == "query.wrong-artifact"
    with pytest.raises(NotFoundError) as refused:
        query("from events", made.store, shop="other")
    assert refused.value.code == "query.no-data"
    with pytest.raises(UserError) as unsaid:
        query("from events", made.store)
    assert unsaid.value.code == "query.no-data"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with moto() as running:
        yield running


def test_in_a_bucket_only_the_artifact_that_is_asked_of_is_fetched(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = S3Place(server, tmp_path, monkeypatch)
    made = make(place.elsewhere(), tmp_path, ROWS)
    other = place.elsewhere()
    fetched: list[str] = []
    fetch = other.fetch
    monkeypatch.setattr(other, "fetch", lambda address: fetched.append(address) or fetch(address))
    assert query("select count(*) as n from sessions", other, shop="test").to_pydict() == {"n": [2]}
    assert fetched == [made.dataset]
    assert re.fullmatch(r"s3://.*/datasets/test/\w+", made.dataset)
