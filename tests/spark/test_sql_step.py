"""Steps of SQL on a real Spark, which executors of their own processes run."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from endcap.errors import EndcapError
from endcap.spark.server import SparkServer
from endcap.spec.spark import SparkSpec
from endcap.spec.sql_step import SqlSpec
from endcap.store import Store, open_store
from tests.events.shops import ROWS, write_csv
from tests.spark.clusters import connect, needs_java
from tests.sql.shops import facts, run, values

pytestmark = [pytest.mark.slow, needs_java]


@pytest.fixture
def where(server: SparkServer) -> SparkSpec:
    return SparkSpec.model_validate(connect(server))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "a store"))


def spec(folder: Path, text: str, **settings: Any) -> SqlSpec:
    inputs = settings.pop("inputs", {"clicks": {"path": str(write_csv(folder / "clicks.csv", ROWS))}})
    return SqlSpec.model_validate({"text": text, "engine": "spark", "inputs": inputs, **settings})


def test_a_statement_runs_on_spark_and_its_rows_are_those_of_duckdb(
    where: SparkSpec, tmp_path: Path, store: Store
) -> None:
    text = "select item, cast(time as timestamp) as time, cast(time as date) as day from clicks where type <> :left_out"
    address = run(store, spec(tmp_path, text, parameters={"left_out": "cart"}), spark=where)
    assert [(row[0], row[2]) for row in values(store, address)] == [
        ("i1", date(2024, 3, 1)),
        ("i2", date(2024, 3, 1)),
        ("i3", date(2024, 3, 2)),
    ]
    assert values(store, address)[0][1] == datetime(2024, 3, 1, 10, 0, tzinfo=UTC)
    told = facts(store, address)
    assert (told["engine"], told["rows"], told["days"]["count"]) == ("spark", 3, 2)
    assert told["engine_version"].startswith("4.")
    here = SqlSpec.model_validate(
        {
            "text": "select item, time::timestamptz as time, time::date as day from clicks where type <> 'cart'",
            "inputs": {"clicks": {"path": str(tmp_path / "clicks.csv")}},
        }
    )
    assert values(store, run(store, here)) == values(store, address)

    # Files of Parquet with other columns, a table of a step, a date and a nested value.
    (tmp_path / "logs").mkdir()
    pq.write_table(pa.table({"item": ["i1"], "n": [1]}), tmp_path / "logs" / "a b.parquet")
    pq.write_table(pa.table({"item": ["i2"], "n": [2], "more": ["x"]}), tmp_path / "logs" / "c.parquet")
    (tmp_path / "names.jsonl").write_text('{"item": "i1", "name": {"de": "Schuh"}}\n')
    inputs = {
        "logs": {"path": str(tmp_path / "logs")},
        "clean": {"step": "clean"},
        "names": {"path": str(tmp_path / "names.jsonl")},
    }
    joined = spec(
        tmp_path,
        """select l.item, l.n, l.more, count(c.item) as clicks, max(n.name.de) as name, max(:logical_date) as at
           from logs l left join clean c using (item) left join names n using (item) group by all""",
        inputs=inputs,
    )
    until = datetime(2024, 3, 5, tzinfo=UTC)
    second = run(store, joined, spark=where, tables={"clean": address}, until=until)
    assert values(store, second) == [("i1", 1, None, 1, "Schuh", until), ("i2", 2, "x", 1, None, until)]

    ordered = spec(tmp_path, "select item, type from clicks order by type, item desc")
    rows = values(store, run(store, ordered, spark=where))
    assert rows == sorted(sorted(rows, reverse=True), key=lambda row: row[1]) != sorted(rows)

    refusals = {
        "select * frm clicks x": "sql.syntax",
        "select itm from clicks": "sql.unknown-column",
        "select cast(item as int) as n from clicks": "sql.type-error",
        "select nofunction(item) from clicks": "sql.invalid",
        "select item, type as item from clicks": "sql.duplicate-column",
        "select item from clicks where type = 'none'": "sql.too-few-rows",
        "select * from parquet.`/etc/passwd`, clicks": "sql.outside-access",
        "select rand() from clicks": "sql.not-repeatable",
        "select reflect('java.lang.System', 'getenv', 'HOME') as home from clicks": "sql.not-repeatable",
    }
    found = {}
    for wrong in refusals:
        with pytest.raises(EndcapError) as refused:
            run(store, spec(tmp_path, wrong), spark=where)
        found[wrong] = refused.value.code
    assert found == refusals
