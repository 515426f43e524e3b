"""Each step's events are OpenLineage's, go where its variables say, and never fail or delay the step."""

from __future__ import annotations

import inspect
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from openlineage.client import event_v2, facet_v2
from openlineage.client.serde import Serde

from endcap.openlineage import StepLineage, StepOfRun, make_event, open_transport, step_lineage
from endcap.openlineage.events import name_dataset
from endcap.runs import Start, begin_run
from endcap.store import Store, open_store

FACETS: dict[str, Any] = {
    "errorMessage": facet_v2.error_message_run.ErrorMessageRunFacet,
    "jobType": facet_v2.job_type_job.JobTypeJobFacet,
    "outputStatistics": facet_v2.output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet,
    "parent": facet_v2.parent_run.ParentRunFacet,
    "processing_engine": facet_v2.processing_engine_run.ProcessingEngineRunFacet,
    "schema": facet_v2.schema_dataset.SchemaDatasetFacet,
    "tags": facet_v2.tags_run.TagsRunFacet,
    "version": facet_v2.dataset_version_dataset.DatasetVersionDatasetFacet,
}


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENLINEAGE_URL", "OPENLINEAGE_DISABLED", "OPENLINEAGE__TRANSPORT__TYPE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = open_store(str(tmp_path / "store"))
    begin_run(store, "r1", Start(pipeline="training", recommender="home", shop="toys", by="jane"))
    return store


def put_dataset(store: Store) -> str:
    with store.publish("snapshots/toys", "s1") as snapshot:
        snapshot.facts |= {"events": 3, "sources": [{"table": "events", "path": "s3://logs/toys", "files": []}]}
    with store.publish("datasets/toys", "d1") as dataset:
        pq.write_table(pa.table({"item": ["a", "b"], "time": [1, 2]}), dataset.path / "sessions.parquet")
        dataset.facts |= {"snapshot": snapshot.address, "events": 2}
    return dataset.address


def send_step(store: Store, folder: Path | None, result: str = "", error: str = "", step: str = "features") -> None:
    lineage = StepLineage(step, "r1", store.root, folder)
    lineage.begin()
    lineage.start()
    lineage.fail(error) if error else lineage.complete(result, reused=False)
    lineage.close()


def read_events(folder: Path) -> list[Any]:
    return [json.loads(line) for line in (folder / "openlineage.jsonl").read_text().splitlines()]


def build_event(event: Any) -> event_v2.RunEvent:
    """Build an event with the classes of OpenLineage's own client: they refuse unknown keys and malformed values."""

    def build_facets(facets: Any) -> Any:
        return {name: build_facet(FACETS[name], dict(facet)) for name, facet in facets.items()}

    def build_facet(facet: Any, values: Any) -> Any:
        known, stated = facet._get_schema(), values.pop("_schemaURL")
        assert known.rpartition("/")[2] == stated.rpartition("/")[2]
        assert known.partition("/facets/")[2][0] == stated.partition("/facets/")[2][0]
        assert set(values) - {"_producer"} <= set(inspect.signature(facet).parameters)
        return facet(producer=values.pop("_producer"), **values)

    def build_dataset(kind: Any, dataset: Any) -> Any:
        facets = {name: build_facets(dataset.get(name, {})) for name in ("facets", "outputFacets") if name in dataset}
        return kind(dataset["namespace"], dataset["name"], **facets)

    return event_v2.RunEvent(
        eventType=event_v2.RunState[event["eventType"]],
        eventTime=event["eventTime"],
        producer=event["producer"],
        run=event_v2.Run(event["run"]["runId"], build_facets(event["run"]["facets"])),
        job=event_v2.Job(event["job"]["namespace"], event["job"]["name"], build_facets(event["job"]["facets"])),
        inputs=[build_dataset(event_v2.InputDataset, dataset) for dataset in event["inputs"]],
        outputs=[build_dataset(event_v2.OutputDataset, dataset) for dataset in event["outputs"]],
    )


def drop_versions(value: Any) -> Any:
    """Leave out what a newer release of the client writes otherwise: the versions of definitions; and what is empty."""
    if isinstance(value, dict):
        kept = {name: drop_versions(item) for name, item in value.items() if name not in ("_schemaURL", "schemaURL")}
        return {name: item for name, item in kept.items() if item not in ({}, [], None)}
    return [drop_versions(item) for item in value] if isinstance(value, list) else value


def test_events_are_those_of_the_specification(store: Store, tmp_path: Path) -> None:
    send_step(store, tmp_path, put_dataset(store))
    send_step(store, tmp_path, error="out of memory at https://user:secret@host/x")
    events = read_events(tmp_path)
    assert [event["eventType"] for event in events] == ["START", "COMPLETE", "START", "FAIL"]
    for event in events:
        assert drop_versions(Serde.to_dict(build_event(event))) == drop_versions(event)
    made = events[1]
    assert len({event["run"]["runId"] for event in events}) == 1
    assert (made["job"]["namespace"], made["job"]["name"]) == ("endcap", "toys.features")
    assert made["run"]["facets"]["parent"]["job"]["name"] == "home.training"
    (source,), (output,) = made["inputs"], made["outputs"]
    assert (source["name"], source["facets"]["version"]["datasetVersion"]) == (f"{tmp_path}/store/snapshots/toys", "s1")
    assert (output["name"], output["facets"]["version"]["datasetVersion"]) == (f"{tmp_path}/store/datasets/toys", "d1")
    assert output["outputFacets"]["outputStatistics"]["rowCount"] == 2
    assert output["facets"]["schema"]["fields"] == [
        {
            "name": "sessions",
            "type": "table",
            "fields": [{"name": "item", "type": "string"}, {"name": "time", "type": "int64"}],
        }
    ]
    assert "secret" not in json.dumps(events)


def test_a_snapshot_names_its_sources_and_a_step_without_an_artifact_none(store: Store) -> None:
    put_dataset(store)
    step = StepOfRun("ingest", "r1", {"shop": "toys"})
    event = make_event(step, "COMPLETE", manifest=store.manifest("snapshots/toys/s1"))
    assert [(dataset["namespace"], dataset["name"]) for dataset in event["inputs"]] == [("s3://logs", "toys")]
    assert name_dataset("bigquery:project.data.events") == ("bigquery", "project.data.events")
    assert name_dataset("/logs/toys") == ("file", "/logs/toys")


class Receiver(BaseHTTPRequestHandler):
    received: list[tuple[str, str | None, Any]]
    gate: threading.Event

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.gate.wait(60)
        self.received.append((self.path, self.headers["Authorization"], json.loads(body)))
        self.send_response(201)
        self.end_headers()

    def log_message(self, *words: Any) -> None:
        pass


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Receiver]]:
    class Own(Receiver):
        received = []  # noqa: RUF012
        gate = threading.Event()

    with ThreadingHTTPServer(("127.0.0.1", 0), Own) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("OPENLINEAGE_URL", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("OPENLINEAGE_API_KEY", "key")
        yield Own
        Own.gate.set()
        server.shutdown()


def test_events_go_to_a_server(store: Store, tmp_path: Path, receiver: type[Receiver]) -> None:
    receiver.gate.set()
    lineage = StepLineage("features", "r1", store.root, tmp_path)
    lineage.begin()
    lineage.start()
    lineage.complete(put_dataset(store), reused=True)
    lineage._waiting.put(None)
    assert lineage._thread is not None
    lineage._thread.join(60)
    assert [(path, key, event["eventType"]) for path, key, event in receiver.received] == [
        ("/api/v1/lineage", "Bearer key", "START"),
        ("/api/v1/lineage", "Bearer key", "COMPLETE"),
    ]
    assert not (tmp_path / "openlineage.jsonl").exists()


def test_a_server_that_hangs_does_not_hold_a_step_up(
    store: Store, receiver: type[Receiver], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(step_lineage, "CLOSE_WITHIN", 0.1)
    send_step(store, None, put_dataset(store))  # ends although the server answers nothing
    assert receiver.received == []
    assert "were not sent" in capsys.readouterr().err


@pytest.mark.parametrize(
    "variables",
    [
        {"TYPE": "kafka"},
        {"TYPE": "http"},
        {"TYPE": "file"},
        {"TYPE": "file", "LOG_FILE_PATH": "/no/such/folder/events", "APPEND": "true"},
        {"TYPE": "http", "URL": "http://127.0.0.1:9/"},
    ],
)
def test_what_cannot_be_sent_is_reported_and_fails_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variables: dict[str, str]
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"OPENLINEAGE__TRANSPORT__{name}", value)
    monkeypatch.setattr(step_lineage, "CLOSE_WITHIN", 60.0)
    send_step(store, None, "not an address")
    assert "were not sent" in capsys.readouterr().err


def test_variables_say_where_events_go(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prefix = "OPENLINEAGE__TRANSPORT__"
    for environment, folder in (({}, None), ({"OPENLINEAGE_DISABLED": "True"}, tmp_path)):
        assert open_transport(folder, environment) is None
    console = open_transport(None, {f"{prefix}TYPE": "console"})
    assert console is not None
    console({"a": 1})
    assert json.loads(capsys.readouterr().out) == {"a": 1}
    for append, count in (("true", 1), ("", 2)):
        place = {f"{prefix}TYPE": "file", f"{prefix}LOG_FILE_PATH": f"{tmp_path}/events{append}"}
        file = open_transport(tmp_path, place | {f"{prefix}APPEND": append})
        assert file is not None
        file({"a": 1})
        file({"a": 2})
        names = [name for name in tmp_path.glob("events*") if name.name.startswith("eventstrue") == bool(append)]
        assert len(names) == count
