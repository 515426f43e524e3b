"""What surrounds a step: its words in the store, and the run's deadline."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from endcap.errors import EndcapError
from endcap.runs import Start, read_run
from endcap.runs.code import IMAGE
from endcap.runs.record import end_run, read_step_document
from endcap.store import Store
from endcap_components.lifecycle import DEADLINE, run_step

UNKNOWN = "{{$.pipeline_job_create_time_utc}}"
"""What a KFP hands on that knows nothing of a run's creation."""


@pytest.fixture(autouse=True)
def no_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a step sets of its image is forgotten after the test."""
    monkeypatch.setenv(IMAGE, "")


def ago(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()


def test_a_step_leaves_its_result_or_its_cause_and_the_report_gathers_them(store: Store) -> None:
    with run_step("ingest", store.root, run="r", image="endcap:1") as current:
        assert os.environ[IMAGE] == "endcap:1"
        current.done("s3://b/snapshots/x", "7 events")
    with pytest.raises(EndcapError), run_step("features", store.root, run="r"):
        raise EndcapError("no session is left", code="features.no-session", shop="toys")
    document = read_step_document(store, "r", "ingest")
    assert document is not None
    assert (document["state"], document["result"], document["summary"], document["image"]) == (
        "done",
        "s3://b/snapshots/x",
        "7 events",
        "endcap:1",
    )
    ended = end_run(store, "r", "FAILED", ["ingest", "features", "train"])
    assert (ended["state"], ended["step"], ended["cause"]) == ("failed", "features", "no session is left")
    assert ended["error"] == {
        "code": "features.no-session",
        "message": "no session is left",
        "fields": {"shop": "toys"},
    }
    assert ended["steps"]["features"]["error"] == ended["error"]
    assert store.read_document("runs/r") == ended


def test_a_step_that_was_killed_is_the_one_that_failed(store: Store) -> None:
    code = (
        "import os, sys; from endcap_components.lifecycle import run_step\n"
        "with run_step('train', sys.argv[1], run='r'): os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, store.root], check=False)
    ended = end_run(store, "r", "FAILED", ["ingest", "train"])
    assert (ended["step"], ended["error"]["code"]) == ("train", "step.killed")


@pytest.mark.parametrize(("kfp", "state"), [("COMPLETE", "succeeded"), ("CANCELED", "canceled"), ("FAILED", "failed")])
def test_kfps_states_are_told_in_our_words(store: Store, kfp: str, state: str) -> None:
    assert end_run(store, "r", kfp, ["ingest"])["state"] == state


def test_no_step_starts_after_the_runs_deadline(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DEADLINE, "60")
    with run_step("ingest", store.root, run="r", created=ago(50)):
        pass
    with (
        pytest.raises(EndcapError) as refused,
        run_step("train", store.root, run="r", created=ago(70)),
    ):
        pytest.fail("the body was run")
    assert refused.value.code == "run.deadline-passed"


def test_where_kfp_tells_no_creation_the_first_steps_start_counts(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DEADLINE, "60")
    store.write_document("runs/r/ingest", {"state": "done", "begun": ago(70)})
    for created in (UNKNOWN, ""):
        with pytest.raises(EndcapError) as refused, run_step("train", store.root, run="r", created=created):
            pass
        assert refused.value.code == "run.deadline-passed"
    with run_step("train", store.root, run="another", created=UNKNOWN):
        pass


@pytest.mark.slow
def test_a_running_step_ends_at_the_runs_deadline_and_says_so(store: Store) -> None:
    code = (
        "import sys, time; from endcap_components.lifecycle import run_step\n"
        "with run_step('train', sys.argv[1], run='r', created=sys.argv[2]): time.sleep(60)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, store.root, ago(57)],
        env={DEADLINE: "60", "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=40,
    )
    assert ended.returncode == 1
    document = read_step_document(store, "r", "train")
    assert document is not None
    assert (document["state"], document["error"]["code"]) == ("failed", "run.deadline-passed")


def test_the_first_step_on_kfp_records_the_runs_start_and_a_retry_leaves_it(store: Store) -> None:
    trigger = Start(by="jane", how="command line", why="after the sale", recommender="toys").to_text()
    for text in (trigger, Start(by="another").to_text()):
        with run_step("ingest", store.root, run="r", image="endcap:1", trigger=text) as current:
            current.done("s3://b/snapshots/x")
    run = read_run(store, "r")
    assert (run.state, run.by, run.why, run.recommender) == ("running", "jane", "after the sale", "toys")
    assert run.document["code"]["image"] == "endcap:1"
    with run_step("features", store.root, run="another"):
        pass
    assert store.read_document("runs/another") is None
