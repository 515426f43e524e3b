"""What the store keeps of a run: from its start, by several writers, to its end, however that comes."""

from __future__ import annotations

import json
import subprocess
import sys
import threading

import pytest

from endcap.errors import DataError
from endcap.runs import (
    Fault,
    RunEvent,
    RunSilence,
    Start,
    StepAbsence,
    StepEnd,
    StepFailure,
    StepProgress,
    StepRecord,
    StepStart,
    begin_run,
    close_run,
    end_run,
    find_run,
    keep_specs,
    make_run_name,
    parse_event,
    read_run,
    read_specs,
)
from endcap.runs.names import split_run_name
from endcap.spec.load import dump_specs, load
from endcap.spec.spec_files import find_spec
from endcap.store import Store

FAULT = Fault("no session is left", code="features.no-session", fields={"shop": "toys"})


@pytest.mark.parametrize(
    "event",
    [
        StepStart("train"),
        StepProgress("train", "epoch 1/3"),
        StepEnd("train", "file:///trained/x", "3 epochs", 1.5),
        StepFailure("train", FAULT, 0.5),
        StepAbsence("weigh", "a container runs in a cluster only"),
        RunSilence("KFP does not answer"),
    ],
)
def test_events_pass_through_json(event: RunEvent) -> None:
    assert parse_event(json.loads(json.dumps(event.to_json()))) == event


def test_a_fault_keeps_code_and_fields_and_what_json_cannot_hold_as_text() -> None:
    fault = Fault.of(DataError("bad", code="events.bad", column="item", kind=int))
    assert (fault.code, fault.fields) == ("events.bad", {"column": "item", "kind": "<class 'int'>"})
    crashed = Fault.of(ZeroDivisionError("division by zero"))
    assert (crashed.code, crashed.fields) == ("step.crashed", {"type": "ZeroDivisionError"})
    assert Fault.from_document({"error": fault.to_json(), "cause": "bad"}) == fault
    assert Fault.from_document({"cause": "as release 0.1.0 has it"}) == Fault("as release 0.1.0 has it")
    assert Fault.from_document({"state": "done"}) is None


def test_a_runs_name_tells_recommender_and_time() -> None:
    name = make_run_name("my-shop")
    recommender, at = split_run_name(name)
    assert recommender == "my-shop"
    assert at.endswith("+00:00")
    assert name != make_run_name("my-shop")
    assert split_run_name("8d6b0f6e-2f0c-4c39-9b1e-94b6c2d7e7a5") == ("", "")


def test_a_start_is_known_before_the_first_step_and_stays_to_the_end(store: Store) -> None:
    loaded = load(find_spec("trial"))
    start = Start.of(loaded, "training", how="schedule", why="every night", logical_date="2026-03-10")
    begin_run(store, "r", start)
    run = read_run(store, "r")
    assert (run.state, run.pipeline, run.recommender, run.shop) == ("running", "training", "trial", "trial")
    assert (run.how, run.why, run.logical_date) == ("schedule", "every night", "2026-03-10")
    assert run.by == start.by != ""
    end_run(store, "r", "SUCCEEDED", [])
    ended = read_run(store, "r")
    assert (ended.state, ended.why, ended.started) == ("succeeded", "every night", run.started)
    assert ended.document["spec"]["files"] == ["shops/trial.yaml", "trial.yaml"]


def test_the_specs_of_a_run_are_kept_once_under_their_fingerprint(store: Store) -> None:
    loaded = load(find_spec("trial"))
    documents = dump_specs(loaded)
    keep_specs(store, documents)
    keep_specs(store, documents)
    begin_run(store, "r", Start.of(loaded, "training"))
    assert store.list_documents("specs") == [f"specs/{Start.of(loaded, 'training').spec}"]
    assert read_specs(store, read_run(store, "r")) == documents
    through_kfp = json.loads(json.dumps(documents), parse_int=float)
    assert keep_specs(store, through_kfp) == Start.of(loaded, "training").spec
    changed = load(find_spec("trial"), sets=["seed=9"])
    assert keep_specs(store, dump_specs(changed)) != Start.of(loaded, "training").spec


def test_a_start_that_somebody_elses_client_made_is_completed_by_the_report(store: Store) -> None:
    begin_run(store, "r", Start.from_text(""))
    run = read_run(store, "r")
    assert (run.by, run.how, run.recommender) == ("", "KFP", "")
    of = Start(pipeline="training", recommender="toys", shop="shop", spec="abc", logical_date="2026-03-10")
    end_run(store, "r", "SUCCEEDED", [], of=of)
    run = read_run(store, "r")
    assert (run.how, run.pipeline, run.recommender, run.shop) == ("KFP", "training", "toys", "shop")
    assert (run.document["spec"]["fingerprint"], run.logical_date) == ("abc", "2026-03-10")


def test_a_pipeline_of_the_shop_alone_does_not_take_the_recommender_away(store: Store) -> None:
    begin_run(store, "r", Start(recommender="toys", spec="abc", files=("toys.yaml",)))
    end_run(store, "r", "SUCCEEDED", [], of=Start(pipeline="features", shop="shop", spec="of-the-shop"))
    run = read_run(store, "r")
    assert (run.recommender, run.shop, run.document["spec"]) == (
        "toys",
        "shop",
        {"fingerprint": "abc", "files": ["toys.yaml"]},
    )


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("", Start()),
        ("after the sale", Start(why="after the sale")),
        ("[1]", Start(why="[1]")),
        ('{"how": "schedule", "by": "cron", "unknown": 1}', Start(how="schedule", by="cron")),
    ],
)
def test_the_pipelines_parameter_trigger_says_how_or_in_words_why(text: str, start: Start) -> None:
    assert Start.from_text(text) == start


def test_a_start_passes_through_the_pipelines_parameter() -> None:
    start = Start.of(load(find_spec("trial")), "training", why="try it", page="http://kfp/#/runs/details/")
    assert Start.from_text(start.to_text()) == start


def test_steps_on_several_machines_lose_none_of_each_others_facts(store: Store) -> None:
    def work(step: str) -> None:
        record = StepRecord(store.root, "r", step)
        record.write(state="running")
        begin_run(store, "r", Start(why="the first writer's stays"))
        record.write(state="done", result=f"file:///{step}", summary="", seconds=1.0)

    names = [f"step-{number}" for number in range(8)]
    workers = [threading.Thread(target=work, args=[name]) for name in names]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    end_run(store, "r", "SUCCEEDED", names)
    run = read_run(store, "r")
    assert {step.name: step.result for step in run.steps} == {name: f"file:///{name}" for name in names}
    assert run.why == "the first writer's stays"


def test_a_failed_run_names_its_step_and_error_in_both_documents(store: Store) -> None:
    StepRecord(store.root, "r", "features").write(state="failed", cause=FAULT.message, error=FAULT.to_json())
    begin_run(store, "r", Start())
    end_run(store, "r", "FAILED", ["ingest", "features"])
    run = read_run(store, "r")
    assert (run.state, run.failed_step, run.fault) == ("failed", "features", FAULT)
    assert run.document["cause"] == FAULT.message
    step = run.step("features")
    assert step is not None
    assert step.fault == FAULT


def test_a_run_without_a_report_is_closed_and_an_ended_run_stays_as_it_is(store: Store) -> None:
    begin_run(store, "r", Start())
    close_run(store, "r", "failed", [], FAULT)
    run = read_run(store, "r")
    assert (run.state, run.fault) == ("failed", FAULT)
    close_run(store, "r", "succeeded", [])
    assert read_run(store, "r").state == "failed"


def test_a_killed_run_has_another_state_than_a_running_one(store: Store) -> None:
    code = (
        "import os, sys; from endcap.runs import Start, begin_run; from endcap.store import open_store\n"
        "begin_run(open_store(sys.argv[1]), 'killed', Start(), here=True); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, store.root], check=False)
    begin_run(store, "here", Start(), here=True)
    begin_run(store, "in-a-cluster", Start())
    elsewhere = begin_run(store, "elsewhere", Start(), here=True)
    elsewhere["process"] = {"host": "another-machine", "pid": 999_999_999}
    store.write_document("runs/elsewhere", elsewhere)
    states = {name: read_run(store, name).state for name in ("killed", "here", "in-a-cluster", "elsewhere")}
    assert states == {"killed": "killed", "here": "running", "in-a-cluster": "running", "elsewhere": "running"}
    killed = find_run(store, "killed")
    assert killed is not None
    assert killed.fault is not None
    assert killed.fault.code == "step.killed"


def test_a_record_that_cannot_be_kept_fails_no_step(capsys: pytest.CaptureFixture[str]) -> None:
    StepRecord("gs://nowhere", "r", "train").write(state="done")
    assert "not kept" in capsys.readouterr().err
