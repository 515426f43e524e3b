"""A shop whose log lies in BigQuery gives the dataset that the same rows give from files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pytest
import yaml
from google.cloud.bigquery import TimePartitioning

import endcap
from endcap.errors import DataError
from endcap.project import Project
from endcap.simulation.simulate import simulate, write_log
from endcap.sources.bigquery.client import Warehouse
from endcap.sources.bigquery.read import ReadSession
from tests.bigquery.emulator import PROJECT, Emulator, Field

COLUMNS = {
    "session": "session",
    "customer": "customer",
    "item": "item",
    "time": "time",
    "type": "type",
    "order": "sequence",
}
NAMES = ["session", "customer", "item", "type"]
UNTIL = "2026-03-07T12:00:00"


@dataclass(frozen=True)
class Log:
    """A simulated log as files, and the same rows as a table."""

    folder: Path
    rows: pa.Table


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory, started_emulator: Emulator) -> Log:
    """A simulated log as files; and in a table by days, in shards, as a GA4 export is nested, and under a view."""
    folder = tmp_path_factory.mktemp("log")
    write_log(simulate(events=4000, days=6, items=300, customers=200, seed=7), folder)
    types = pyarrow.csv.ConvertOptions(column_types={name: pa.string() for name in NAMES}, strings_can_be_null=True)
    files = sorted((folder / "events").rglob("*.csv"))
    rows = pa.concat_tables([pyarrow.csv.read_csv(file, convert_options=types) for file in files])
    time = rows["time"].cast(pa.timestamp("us", "UTC"))
    rows = rows.set_column(rows.schema.get_field_index("time"), "time", time)
    schema = [Field("time", "TIMESTAMP"), *(Field(name, "STRING") for name in NAMES), Field("sequence", "INT64")]
    # Files record the order of events of one time, and a table records none: a column says it.
    rows = rows.select(["time", *NAMES]).append_column("sequence", pa.array(range(len(rows))))
    pyarrow.csv.write_csv(rows, folder / "rows.csv")
    by_day = TimePartitioning(field="time")
    # The order of a table's rows says nothing, so they are stored in another one.
    started_emulator.create_table("sim.events", schema, rows.take(pa.array(range(len(rows)))[::-1]), by=by_day)
    started_emulator.execute("CREATE VIEW sim.view AS SELECT * FROM sim.events")
    days = pc.strftime(rows["time"], "%Y%m%d")
    for day in sorted(set(days.to_pylist())):
        started_emulator.create_table(f"sim.shards_{day}", schema, rows.filter(pc.equal(days, day)))
    items = pyarrow.csv.read_csv(folder / "items.csv", convert_options=types).select(
        ["item", "title", "category", "price"]
    )
    fields = [Field("item", "STRING"), Field("title", "STRING"), Field("category", "STRING"), Field("price", "FLOAT64")]
    started_emulator.create_table("sim.items", fields, items)
    return Log(folder, rows)


def make_project(folder: Path, sources: Sequence[dict[str, Any]], items: dict[str, Any], **more: Any) -> Project:
    """A project of the log from these sources."""
    folder.mkdir(exist_ok=True)
    shop = {
        "apiVersion": "endcap/v2",
        "kind": "Shop",
        "name": "warehouse",
        "events": {"sources": list(sources), "columns": COLUMNS, "max_bad_share": 0.5},
        "items": {"sources": [items], "columns": {"title": "title", "category": "category", "price": "price"}},
        **more,
    }
    recommender = {
        "apiVersion": "endcap/v2", "kind": "Recommender", "name": "warehouse", "shop": "shop.yaml",
        "model": {"name": "popularity"},
    }  # fmt: skip
    (folder / "shop.yaml").write_text(yaml.safe_dump(shop))
    (folder / "recommender.yaml").write_text(yaml.safe_dump(recommender))
    return endcap.open(folder / "recommender.yaml", store=str(folder / "store"))


def from_files(folder: Path, log: Log, **more: Any) -> Project:
    return make_project(
        folder, [{"path": str(log.folder / "rows.csv")}], {"path": str(log.folder / "items.csv")}, **more
    )


def from_table(folder: Path, table: str, **more: Any) -> Project:
    source = {
        "bigquery": {"table": f"{PROJECT}.sim.{table}", "results": "sim"}
        if table == "view"
        else {"table": f"{PROJECT}.sim.{table}"}
    }
    return make_project(folder, [source], {"bigquery": {"table": f"{PROJECT}.sim.items"}}, **more)


@pytest.mark.usefixtures("emulator")
@pytest.mark.parametrize("table", ["events", "shards_*", "view"])
@pytest.mark.slow
def test_a_table_gives_the_dataset_of_the_same_files(table: str, log: Log, tmp_path: Path) -> None:
    for more in ({}, {"window": "2d"}):
        files = from_files(tmp_path / "files", log, **more)
        files.ingest()
        warehouse = from_table(tmp_path / "table", table, **more)
        warehouse.ingest(until=UNTIL)
        datasets = [project.features(until=UNTIL) for project in (files, warehouse)]
        assert datasets[0].facts["content"] == datasets[1].facts["content"]
        assert datasets[0].facts["sessions"] > 0


@pytest.mark.usefixtures("emulator")
def test_a_query_is_read_again_only_if_its_table_changed(
    log: Log, started_emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = [Field(name, "TIMESTAMP" if name == "time" else "STRING") for name in ("time", *NAMES)]
    rows = log.rows.select(["time", *NAMES])
    started_emulator.create_table("sim.behind", fields, rows.slice(0, 100))
    columns = {name: value for name, value in COLUMNS.items() if name != "order"}
    query = f"SELECT * FROM `{PROJECT}.sim.behind`"
    source = {"bigquery": {"query": query, "project": PROJECT, "results": "sim"}}
    project = from_table(tmp_path, "behind", events={"sources": [source], "columns": columns})
    sessions = []
    create = ReadSession._create
    monkeypatch.setattr(
        ReadSession, "_create", lambda self, request: sessions.append(request.table) or create(self, request)
    )
    first = project.ingest()
    count = len(sessions)
    assert count > 0
    assert (project.ingest().address, len(sessions)) == (first.address, count)
    started_emulator.load("sim.behind", rows.slice(100, 50))
    assert project.ingest().facts["events"] == 150
    assert len(sessions) == count + 1


@pytest.mark.usefixtures("emulator")
def test_a_run_reads_the_days_of_the_window_alone(log: Log, tmp_path: Path) -> None:
    snapshot = from_table(tmp_path, "events", window="2d").ingest(until=UNTIL)
    source = next(source for source in snapshot.facts["sources"] if source["table"] == "events")
    assert [part["partition"] for part in source["files"]] == ["20260305", "20260306", "20260307"]
    assert {part["table"] for part in source["files"]} == {f"{PROJECT}.sim.events"}
    assert len({part["snapshot_time"] for part in source["files"]}) == 1
    assert all(part["session"] for part in source["files"])


@pytest.mark.usefixtures("emulator")
@pytest.mark.slow
def test_a_run_on_this_machine_reads_the_table(log: Log, tmp_path: Path) -> None:
    ran = from_table(tmp_path, "events").run("features", until=UNTIL)
    assert ran.run.state == "succeeded"


@pytest.mark.usefixtures("emulator", "log")
def test_a_column_that_is_missing_is_named(tmp_path: Path) -> None:
    project = from_table(
        tmp_path,
        "events",
        events={"sources": [{"bigquery": {"table": f"{PROJECT}.sim.events"}}], "columns": COLUMNS | {"item": "itm"}},
    )
    with pytest.raises(DataError) as raised:
        project.ingest()
    assert raised.value.code == "events.column-missing"
    assert raised.value.fields["missing"][0]["near"] == "item"


@pytest.mark.usefixtures("emulator")
def test_a_second_day_is_read_alone(
    log: Log, started_emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    schema = [Field(name, "TIMESTAMP" if name == "time" else "STRING") for name in log.rows.schema.names[:-1]]
    rows = log.rows.drop_columns(["sequence"])
    days = pc.strftime(rows["time"], "%Y%m%d").to_pylist()
    last = pc.equal(pa.array(days), max(days))
    by_day = TimePartitioning(field="time")
    started_emulator.create_table("sim.growing", schema, rows.filter(pc.invert(last)), by=by_day)
    columns = {name: value for name, value in COLUMNS.items() if name != "order"}
    source = {"bigquery": {"table": f"{PROJECT}.sim.growing"}}
    project = from_table(tmp_path, "growing", events={"sources": [source], "columns": columns})
    first = project.ingest()
    assert project.ingest().address == first.address
    started_emulator.load("sim.growing", rows.filter(last))
    dry_runs = []
    estimate = Warehouse.estimate
    monkeypatch.setattr(
        Warehouse, "estimate", lambda self, name, sql: dry_runs.append(sql) or estimate(self, name, sql)
    )
    second = project.ingest()
    (counted,) = [sql for sql in dry_runs if "sim.growing" in sql]
    day = datetime.strptime(max(days), "%Y%m%d")
    assert counted.endswith(
        f"WHERE `time` >= TIMESTAMP '{day}+00:00' AND `time` < TIMESTAMP '{day + timedelta(days=1)}+00:00'"
    )
    assert second.facts["reuse"] == {
        "days": 6, "new": 1, "changed": 0, "unchanged": 5, "gone": 0, "read": 1, "again": 0, "kept": 5
    }  # fmt: skip
    parts = next(source["files"] for source in second.facts["sources"] if source["table"] == "events")
    assert [part["partition"] for part in parts if part["session"]] == [max(days)]
    # No column says the order of events of one time, and four streams come in any order.
    fresh = from_table(tmp_path / "fresh", "growing", events={"sources": [source], "columns": columns})
    fresh.ingest()
    assert fresh.features().facts["content"] == project.features().facts["content"]
