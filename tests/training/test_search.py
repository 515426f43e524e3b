"""The search as the train step calls it, with Ray; its models are stand-ins that cost a known time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from endcap.progress import Advance
from endcap.registry.experiments import ensure_experiment
from endcap.registry.factory import open_registry
from endcap.store import Store
from endcap.training import describe, train
from tests.conftest import ROOT
from tests.listening import find_descendants, on_loopback_alone
from tests.training.datasets import little_dataset, sleeper

pytestmark = pytest.mark.slow
FAULTS = {"fault": {"values": ["dies-once", "none", "needs-memory", "diverges", "dies"]}}


@pytest.fixture
def store(shop_store: Store) -> Store:
    """With a registry, which logs the trials."""
    return shop_store


@pytest.fixture
def dataset(store: Store) -> str:
    return little_dataset(store)


@pytest.mark.slow(minutes=2)
def test_the_best_is_chosen_and_every_trial_told_and_logged_once(store: Store, dataset: str) -> None:
    search = {"trials": 8, "max_failed_share": 1.0, "space": FAULTS, "time_budget": "4m"}
    spec, lines = sleeper(search, max_epochs=9, seconds=0.02, fault="dies-once"), list[str]()
    with on_loopback_alone():
        facts = store.manifest(train(spec, dataset, store, progress=lines.append))["facts"]
    found = facts["search"]
    by_number = {trial["number"]: trial for trial in found["trials"]}
    assert [by_number[1]["parameters"], by_number[2]["parameters"]] == [
        {"x": 0.1, "fault": "dies-once"},
        {"x": 0.5, "fault": "dies-once"},
    ]
    assert {row["began_at"] for row in by_number[2]["history"]} == {0, 1}, "it went on from its checkpoint"
    valued = {number: trial["value"] for number, trial in by_number.items() if trial["value"] is not None}
    assert found["best"] == max(valued, key=lambda number: valued[number])
    assert facts["model"]["parameters"]["x"] == by_number[found["best"]]["parameters"]["x"]
    assert facts["found"] == {"epochs": by_number[found["best"]]["epochs"]}
    states = [trial["state"] for trial in found["trials"]]
    assert found["failed"] == states.count("failed")
    assert len(states) == 8
    assert {"x", "fault"} >= set(found["importances"])
    reasons = " ".join(trial.get("error", "") for trial in found["trials"])
    assert sum(" failed" in line for line in lines) == found["failed"]
    for fault, words in (("diverges", "the loss of epoch 1 is nan"), ("needs-memory", "out of memory")):
        assert (words in reasons) == any(trial["parameters"]["fault"] == fault for trial in found["trials"])
    assert "the best of 8 trials" in describe(facts)
    runs = _runs(store)
    assert sum(run.data.tags.get("mlflow.parentRunId") == found["run"] for run in runs) == 8
    above = {run.data.tags["part"]: run.data.tags.get("mlflow.parentRunId") for run in runs}
    assert [above["search"]] == [run.info.run_id for run in runs if run.data.tags["part"] == "training"]
    assert {run.data.tags["state"] for run in runs if run.data.tags["part"] == "trial"} == set(states)
    assert all(run.info.status != "RUNNING" for run in runs)


def test_the_time_is_kept_by_trials_whose_epochs_are_long(store: Store, dataset: str) -> None:
    search = {"trials": 50, "time_budget": "10s", "overtime": "8s", "concurrency": 2, "scheduler": "none", "nice": 3}
    spec = sleeper(search, max_epochs=16, seconds=1.5, says_nice=True)
    lines: list[str] = []
    facts = store.manifest(train(spec, dataset, store, progress=lines.append))["facts"]["search"]
    # To their ends the trials take ten minutes. An epoch takes 1.5 s: budget and overtime have room for 12.
    assert max(len(trial["history"]) for trial in facts["trials"]) <= 12
    # Ending Ray's workers takes seconds on a machine that runs other tests too.
    assert facts["seconds"] <= 18 + 12
    assert facts["finish"]["seconds"] <= 10
    assert {trial["state"] for trial in facts["trials"]} == {"cut"}
    assert (facts["failed"], facts["cut"]) == (0, len(facts["trials"]))
    assert 1 in facts["finished"]
    # After the search the step fitted it to its end.
    own = facts["as_written"]
    assert (own["state"], own["value"]) == ("complete", pytest.approx(0.4))
    values = {trial["number"]: trial["value"] or 0.0 for trial in facts["trials"]} | {1: own["value"]}
    assert values[facts["best"]] == max(values.values())
    assert {row["nice"] for trial in facts["trials"] for row in trial["history"]} == {3}
    standing = [line for line in lines if isinstance(line, Advance)]
    assert len(standing) >= 2
    assert all(0 <= line.done <= line.whole for line in standing)
    assert {run.info.status for run in _runs(store) if run.data.tags["part"] == "trial"} == {"KILLED"}


# Trains, telling every line; killed by the test.
SEARCHER = """
import sys
from endcap.spec import Recommender
from endcap.store import open_store
from endcap.training import train
spec = Recommender.model_validate_json(sys.argv[1])
print(train(spec, sys.argv[2], open_store(sys.argv[3]), progress=lambda line: print(line, flush=True)))
"""


def test_a_killed_search_goes_on_with_another_budget_and_leaves_no_ray_behind(store: Store, dataset: str) -> None:
    search = {"trials": 6, "time_budget": "4m", "concurrency": 2, "scheduler": "none"}
    spec = sleeper(search, seconds=0.5)
    command = [sys.executable, "-c", SEARCHER, spec.model_dump_json(by_alias=True), dataset, store.root]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment) as process:
        assert process.stdout is not None
        ended = [next(line for line in process.stdout if " complete" in line) for _ in range(2)]
        children = find_descendants(process.pid) - {process.pid}
        process.send_signal(signal.SIGKILL)
    assert _have_ended(children, within=90.0)
    lines: list[str] = []
    spec = sleeper({**search, "trials": 5, "time_budget": "5m"}, seconds=0.5)
    facts = store.manifest(train(spec, dataset, store, progress=lines.append))["facts"]["search"]
    assert any(line.startswith("going on after 2 trials, 2 of them inherited") for line in lines)
    numbers = [_number(line) for line in ended]
    assert not [line for line in lines if " complete" in line and _number(line) in numbers]
    assert [trial["number"] for trial in facts["trials"]] == [1, 2, 3, 4, 5]
    assert [str(trial["number"]) for trial in facts["trials"] if trial.get("inherited")] == sorted(numbers)
    own = [run.data.tags for run in _runs(store) if run.data.tags.get("mlflow.parentRunId") == facts["run"]]
    assert sorted(tags["trial"] for tags in own) == ["1", "2", "3", "4", "5"]
    assert sorted(tags["trial"] for tags in own if tags.get("inherited") == "true") == sorted(numbers)


def _runs(store: Store) -> list[Any]:
    registry = open_registry(None, store)
    return list(registry.client.search_runs([ensure_experiment(registry, "test")], "tags.part != ''"))


def _number(line: str) -> str:
    return line.split("/")[0].rpartition(" ")[2]


def _have_ended(processes: set[int], within: float) -> bool:
    end = time.monotonic() + within
    while time.monotonic() < end:
        if not any(_is_alive(pid) for pid in processes):
            return True
        time.sleep(0.2)
    return False


def _is_alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
