"""endcap runs: listed, shown, and their logs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from endcap.cli.main import main
from endcap.runs import Fault, Start, begin_run, end_run
from endcap.runs.logs import find_logs_folder
from endcap.store import Store
from tests.cli.printed_errors import parse_error

DONE = {"state": "done", "begun": "2026-03-02T10:00:01.000+00:00", "seconds": 3.0, "result": "s3://b/x"}


@pytest.fixture
def kept(store: Store) -> Store:
    """Three runs: two of toys, of which one failed here, and one of shoes in a cluster."""
    for name, recommender, hour, here in (
        ("t-1", "toys", 1, True),
        ("t-2", "toys", 2, True),
        ("s-1", "shoes", 3, False),
    ):
        at = f"2026-03-02T{hour:02}:00:00.000+00:00"
        page = "" if here else "http://kfp/#/runs/details/"
        start = Start(by="jane", how="KFP", pipeline="training", recommender=recommender, at=at, page=page)
        begin_run(store, name, start, here=here)
        pod = {} if here else {"pod": "shoes-pod-7", "namespace": "ml"}
        store.write_document(f"runs/{name}/ingest", {**DONE, **pod, "summary": f"{hour} events"})
    end_run(store, "t-1", "SUCCEEDED", ["ingest"])
    end_run(store, "t-2", "FAILED", ["ingest"], Fault("the pod was evicted", code="kfp.run-failed"))
    return store


def shown(capsys: pytest.CaptureFixture[str], store: Store, *arguments: str) -> str:
    main(["runs", *arguments, "--store", store.root])
    return capsys.readouterr().out


def document(capsys: pytest.CaptureFixture[str], store: Store, *arguments: str) -> Any:
    return json.loads(shown(capsys, store, *arguments, "--json"))


def test_the_bare_call_lists_the_newest_first(kept: Store, capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, kept).splitlines()
    assert max(map(len, lines)) <= 80
    rows = [line.split() for line in lines[:4]]  # the last columns follow below, beside the runs' names
    assert [row[0] for row in rows] == ["run", "s-1", "t-2", "t-1"]
    assert [row[3] for row in rows[1:]] == ["running", "failed", "succeeded"]
    listed = document(capsys, kept, "toys", "--limit", "1")
    assert [(run["run"], run["state"], run["error"]["code"]) for run in listed] == [("t-2", "failed", "kfp.run-failed")]
    assert document(capsys, kept, "nobody") == []
    assert [run["run"] for run in document(capsys, kept, "list", "shoes")] == ["s-1"]


def test_a_run_is_shown_with_start_steps_and_end(kept: Store, capsys: pytest.CaptureFixture[str]) -> None:
    run = document(capsys, kept, "show", "t-1")
    assert (run["state"], run["started"]["by"], run["recommender"]) == ("succeeded", "jane", "toys")
    assert [(step["step"], step["summary"]) for step in run["steps"]] == [("ingest", "1 events")]
    assert "1 events" in shown(capsys, kept, "show", "t-1")


def test_logs_are_printed_of_all_steps_or_of_one(kept: Store, capsys: pytest.CaptureFixture[str]) -> None:
    folder = find_logs_folder(kept) / "t-1"
    folder.mkdir(exist_ok=True)
    (folder / "ingest.log").write_text("reading\n")
    (folder / "train.log").write_text("epoch 1\n")
    assert shown(capsys, kept, "logs", "t-1") == "== ingest\nreading\n== train\nepoch 1\n"
    assert shown(capsys, kept, "logs", "t-1", "train") == "epoch 1\n"
    assert shown(capsys, kept, "logs", "t-1", "--follow") == "ingest: reading\ntrain: epoch 1\n"


def test_of_a_run_in_a_cluster_the_page_and_the_command_are_said(
    kept: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    page, command = shown(capsys, kept, "logs", "s-1").splitlines()
    assert page == "page: http://kfp/#/runs/details/s-1"
    assert command == "ingest: kubectl logs shoes-pod-7 --namespace ml --container main"


def test_an_unknown_run_is_refused(kept: Store, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["runs", "show", "nothing", "--json", "--store", kept.root])
    error = parse_error(capsys.readouterr().out)
    assert (ended.value.code, error["code"], error["fields"]["run"]) == (2, "run.not-found", "nothing")


def test_an_empty_store_names_the_command_that_fills_it(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert "endcap run" in shown(capsys, store)
