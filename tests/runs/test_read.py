"""Runs as they are listed, shown and found, those of earlier releases too."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from endcap.errors import NotFoundError
from endcap.runs import Start, begin_run, end_run, list_runs, read_run
from endcap.runs.logs import find_logs_folder, list_log_files, tail_logs
from endcap.runs.text import format_duration
from endcap.store import Store
from tests.store.proxy import proxy
from tests.store.servers import S3Place, moto

OLD_STEP = {"state": "done", "begun": "2026-03-02T10:00:01.000+00:00", "seconds": 3.0, "result": "s3://b/x"}
OLD = {
    "run": "toys-20260302T100000-ab12",
    "state": "failed",
    "ended": "2026-03-02T10:01:00.000+00:00",
    "step": "train",
    "cause": "no session is left",
    "steps": {"ingest": {**OLD_STEP, "summary": "7 events"}},
}
"""As release 0.1.0 wrote it: at the end of the run alone."""


def run_at(store: Store, name: str, hour: int, recommender: str = "toys") -> None:
    begin_run(store, name, Start(by="jane", recommender=recommender, at=f"2026-03-02T{hour:02}:00:00.000+00:00"))


def test_a_document_of_the_release_before_is_read(store: Store) -> None:
    store.write_document("runs/toys-20260302T100000-ab12", OLD)
    store.write_document("runs/toys-20260302T100000-ab12/ingest", OLD["steps"]["ingest"])  # type: ignore[index]
    (listed,) = list_runs(store)
    shown = read_run(store, "toys-20260302T100000-ab12")
    for run in (listed, shown):
        assert (run.recommender, run.state, run.seconds, run.pipeline, run.by) == ("toys", "failed", 60.0, "", "")
        assert run.fault is not None
        assert (run.failed_step, run.fault.message, run.fault.code) == ("train", "no session is left", "unnamed")
        assert [(step.name, step.summary) for step in run.steps] == [("ingest", "7 events")]
        assert "no session is left" in str(run)


def test_runs_are_listed_newest_first_of_one_recommender_or_of_all(store: Store) -> None:
    assert list_runs(store) == []
    for hour in (3, 1, 2):
        run_at(store, f"run-{hour}", hour, "toys" if hour != 2 else "shoes")
    assert [run.name for run in list_runs(store)] == ["run-3", "run-2", "run-1"]
    assert [run.name for run in list_runs(store, "toys")] == ["run-3", "run-1"]
    assert len(list_runs(store, limit=2)) == 2
    assert list_runs(store, "nobody") == []


def test_a_run_is_shown_with_what_its_steps_have_said_so_far(store: Store) -> None:
    run_at(store, "r", 1)
    store.write_document("runs/r/train", {"state": "running", "begun": "2026-03-02T01:00:09.000+00:00"})
    store.write_document("runs/r/ingest", {**OLD_STEP, "begun": "2026-03-02T01:00:01.000+00:00", "summary": "7 events"})
    run = read_run(store, "r")
    assert [(step.name, step.state) for step in run.steps] == [("ingest", "done"), ("train", "running")]
    assert run.gave == "ingest: 7 events"
    assert [step["step"] for step in run.to_json()["steps"]] == ["ingest", "train"]


@pytest.mark.parametrize("name", ["nothing", "../runs/r"])
def test_an_unknown_run_is_refused(store: Store, name: str) -> None:
    run_at(store, "r", 1)
    with pytest.raises(NotFoundError) as refused:
        read_run(store, name)
    assert (refused.value.code, refused.value.fields["run"]) == ("run.not-found", name)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Place]:
    with moto() as server:
        yield S3Place(server, tmp_path, monkeypatch)


def test_of_many_runs_in_a_bucket_only_those_that_are_asked_for_are_read(place: S3Place) -> None:
    store = place.elsewhere()
    for number in range(60):
        store.write_document(f"runs/run-{number:02}", {"recommender": "toys", "started": {"at": "2026-03-02"}})
        place.put(f"stores/one/runs/run-{number:02}/ingest.json", b"{}")
    with proxy(place.server.endpoint) as way:
        near = place.elsewhere(way.endpoint)
        way.seen.clear()
        assert len(list_runs(near, limit=10)) == 10
        reads = [line for line in way.seen if "/runs/run-" in line]
        listings = [line for line in way.seen if line not in reads]
    assert len(reads) == 16
    assert len(listings) <= 2


def test_logs_lie_in_the_stores_folder_a_file_a_step(store: Store, tmp_path: Path) -> None:
    folder = find_logs_folder(store) / "r"
    assert folder == tmp_path / "store" / "runs" / "r"
    folder.mkdir(parents=True)
    for name in ("kfp", "ingest", "train"):
        (folder / f"{name}.log").write_text(f"{name}\n")
    assert [file.stem for file in list_log_files(store, "r")] == ["ingest", "train", "kfp"]
    assert [file.stem for file in list_log_files(store, "r", "train")] == ["train"]
    with pytest.raises(NotFoundError) as refused:
        list_log_files(store, "r", "deploy")
    assert (refused.value.code, refused.value.fields["step"]) == ("run.no-log", "deploy")


def test_logs_are_followed_to_the_runs_end(store: Store, tmp_path: Path) -> None:
    run_at(store, "r", 1)
    log, later = tmp_path / "ingest.log", tmp_path / "train.log"
    log.write_text("first\nhal")
    lines: list[tuple[str, str]] = []
    first = threading.Event()

    def read() -> None:
        files = tail_logs(lambda: sorted(tmp_path.glob("*.log")), lambda: read_run(store, "r").state != "running")
        for file, line in files:
            lines.append((file.stem, line))
            first.set()

    reader = threading.Thread(target=read)
    reader.start()
    assert first.wait(10)
    with log.open("a") as handle:
        handle.write("f of it\n")
    later.write_text("last, without an end")
    end_run(store, "r", "SUCCEEDED", [])
    reader.join(10)
    assert lines == [("ingest", "first"), ("ingest", "half of it"), ("train", "last, without an end")]


@pytest.mark.parametrize(
    ("seconds", "text"), [(7.25, "7.2 s"), (192.0, "3 min 12 s"), (7500.0, "2 h 5 min"), (59.96, "60.0 s")]
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_the_whole_document_is_in_the_json(store: Store) -> None:
    run_at(store, "r", 1)
    document: dict[str, Any] = read_run(store, "r").to_json()
    assert {"run", "state", "started", "spec", "data", "code", "steps", "seconds"} <= document.keys()
    assert document["code"]["version"]
