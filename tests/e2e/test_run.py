"""The pipeline on a small simulated shop, as a user runs it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from endcap.cli.main import endcap as endcap_command
from endcap.online import name_feature_table, open_online
from endcap.registry.factory import open_registry
from endcap.store import open_store

pytestmark = pytest.mark.slow
STEPS = ["ingest", "features", "train", "evaluate", "refit", "register", "deploy"]
KILLED_IN = ["features", "train", "register"]
"""What these keep differs: files of tables, a model, a version in MLflow. `make chaos` kills in every step."""
OTHER_MODEL = "model.last_events=3"
"""Of the runs whose gates let nothing pass: a model that no other run has, trained once for both."""
SHOP = """
apiVersion: endcap/v2
kind: Shop
name: corner
events:
  sources: [{{path: {log}/events}}]
  columns: {{session: session, customer: customer, item: item, time: time, type: type}}
items:
  sources: [{{path: {log}/items.csv}}]
  columns: {{item: item, title: title, category: category, price: price}}
filters: {{min_item_events: 3}}
"""
RECOMMENDER = """
apiVersion: endcap/v2
kind: Recommender
name: corner
shop: corner
split: {by: time, test: 1d, validation: 1d}
model: {name: vsknn}
baselines: [{name: popularity}]
evaluation: {bootstrap: 200}
gate: [{metric: mrr@20, against: popularity, min: 0.0}]
"""


def endcap(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from endcap.cli.main import main; main()", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def endcap_here(folder: Path, *arguments: str) -> Result:
    """The command in this process, which has its libraries already. The steps of a run have their own as ever."""
    with contextlib.chdir(folder):
        return CliRunner().invoke(endcap_command, list(arguments), catch_exceptions=False)


def read(folder: Path, *arguments: str) -> str:
    """What a command that only reads prints."""
    result = endcap_here(folder, *arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a log of 20,000 events and the two files."""
    folder = tmp_path_factory.mktemp("corner")
    (folder / "shops").mkdir()
    (folder / "shops" / "corner.yaml").write_text(SHOP.format(log=folder / "log"))
    (folder / "corner.yaml").write_text(RECOMMENDER)
    made = endcap(folder, "events", "simulate", "log", "--events=20000", "--items=400", "--customers=1500", "--days=8")
    assert made.returncode == 0, made.stderr
    return folder


@pytest.fixture(scope="module")
def killed(folder: Path) -> list[int]:
    """Exit statuses of runs that were ended by kill -9 of everything, in one step after the other: each takes up where
    the one before was killed."""
    return [_kill_in(step, folder) for step in KILLED_IN]


@pytest.fixture(scope="module")
def first(folder: Path, killed: list[int]) -> subprocess.CompletedProcess[str]:
    """The first run that gets to its end."""
    return endcap(folder, "run", "corner.yaml", "--why", "the first one")


@pytest.fixture(scope="module")
def made(folder: Path, first: subprocess.CompletedProcess[str]) -> dict[Path, int]:
    """What the first run made of the log, and when."""
    manifests = (folder / ".endcap" / "store").glob("[ds]*/corner/*/manifest.json")
    return {manifest: manifest.stat().st_mtime_ns for manifest in manifests}


@pytest.fixture(scope="module")
def second(folder: Path, made: dict[Path, int]) -> Result:
    online = f"sqlite://{folder}/online.sqlite"
    return endcap_here(folder, "run", "corner.yaml", "--set", "model.neighbours=50", "--online", online)


def test_a_run_can_be_killed_in_a_step_which_the_next_one_passes(killed: list[int]) -> None:
    assert killed == [-signal.SIGKILL] * len(KILLED_IN)


def test_a_run_shows_a_line_a_step_and_where_everything_lies(
    folder: Path, first: subprocess.CompletedProcess[str]
) -> None:
    assert first.returncode == 0, first.stdout + first.stderr
    lines = first.stdout.splitlines()
    steps = [line.split()[1] for line in lines if line.startswith("  ✓")]
    assert steps == STEPS
    addresses = re.findall(r"file://(\S+)", first.stdout)
    assert len(set(addresses)) == 5
    assert all((Path(address) / "manifest.json").is_file() for address in addresses)


def test_killed_again_and_again_it_registers_one_model_which_serves_everyone(
    folder: Path, first: subprocess.CompletedProcess[str]
) -> None:
    state = json.loads(read(folder, "deploy", "corner", "--json"))
    assert (state["stable"]["version"], state["canary"]) == ("1", None)
    (status,) = json.loads(read(folder, "status", "--json"))
    (served,) = status["served"]
    assert (served["version"], served["role"], served["share"]) == ("1", "stable", 1.0)
    assert (status["aliases"], status["waiting"]) == ({"champion": "1"}, [])
    runs = _runs(folder)
    assert [run["state"] for run in runs] == ["succeeded", *["killed"] * len(KILLED_IN)]
    assert {run["error"]["code"] for run in runs[1:]} == {"step.killed"}
    assert status["last_run"]["run"] == runs[0]["run"]
    versions = json.loads(read(folder, "registry", "list", "corner", "--json"))["versions"]
    assert [(version["version"], version["state"], version["aliases"]) for version in versions] == [
        ("1", "approved", ["champion"])
    ]


def test_a_run_keeps_who_started_it_why_and_what_each_step_gave(
    folder: Path, first: subprocess.CompletedProcess[str]
) -> None:
    name = re.findall(r"^Run (\S+):", first.stdout)[0]
    run = json.loads(read(folder, "runs", "show", name, "--json"))
    assert (run["pipeline"], run["recommender"], run["shop"]) == ("training", "corner", "corner")
    assert (run["started"]["how"], run["started"]["why"]) == ("command line", "the first one")
    assert run["spec"]["files"] == ["shops/corner.yaml", "corner.yaml"]
    assert run["specs"]["recommender"]["name"] == "corner"
    assert [step["step"] for step in run["steps"]] == STEPS
    assert {step["state"] for step in run["steps"]} == {"done"}
    assert "events" in read(folder, "runs", "logs", name, "ingest")


def test_what_was_made_is_found_and_another_model_becomes_the_challenger(
    folder: Path, made: dict[Path, int], second: Result
) -> None:
    assert second.exit_code == 0, second.output
    assert {manifest.parents[2].name for manifest in made} == {"snapshots", "datasets", "descriptions"}
    for manifest, written in made.items():
        assert manifest.stat().st_mtime_ns == written
        assert len(list(manifest.parents[1].iterdir())) == 1
    state = json.loads(read(folder, "deploy", "corner", "--json"))
    assert (state["stable"]["version"], state["canary"]["version"], state["canary"]["share"]) == ("1", "2", 0.1)


@pytest.mark.usefixtures("first", "second")
def test_a_datasets_rows_are_published_in_the_stores_online_store_and_in_one_that_is_named(folder: Path) -> None:
    """The second run, which has found the dataset, publishes it where it is told to."""
    (manifest,) = (folder / ".endcap" / "store" / "datasets" / "corner").glob("*/manifest.json")
    items = pq.read_table(manifest.parent / "items.parquet", partitioning=None)["item"].to_pylist()
    for place in (folder / ".endcap" / "store", folder):
        with open_online(f"sqlite://{place}/online.sqlite", shop="corner") as online:
            assert all(online.rows(name_feature_table("items", manifest.parent.name), items))


@pytest.fixture(scope="module")
def orphaned(folder: Path, first: subprocess.CompletedProcess[str]) -> Path:
    """The log of a step whose runner, the command, was killed alone with kill -9; what it had started has ended."""
    endless = ["--set", "model={name: gru4rec, max_epochs: 100000, patience: 100000}"]
    process = _start(folder, endless)
    log = _wait_for(process, folder, "train", "epoch 2/")
    assert _living(process.pid)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 60
    while _living(process.pid):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return log


def test_a_step_ends_with_its_runner(orphaned: Path) -> None:
    assert "the run was ended, and this step with it" in orphaned.read_text()


@pytest.mark.usefixtures("orphaned")
def test_a_failed_gate_registers_nothing_says_why_and_ends_well(folder: Path) -> None:
    """In the store in which a run was killed: that hinders no later one."""
    registry = open_registry(None, open_store(str(folder / ".endcap" / "store")))
    before = registry.list_versions("corner")
    failed = endcap_here(folder, "run", "corner.yaml", "--set", "gate.0.min=0.99", "--set", OTHER_MODEL)
    assert failed.exit_code == 0, failed.output
    assert "mrr@20" in failed.stdout
    assert "0.99" in failed.stdout
    assert "not run: the gate did not pass" in failed.stdout
    assert registry.list_versions("corner") == before != []


@pytest.mark.usefixtures("first")
def test_without_the_evidence_a_run_registers_nothing_and_has_an_exit_code_of_its_own(folder: Path) -> None:
    registry = open_registry(None, open_store(str(folder / ".endcap" / "store")))
    before = registry.list_versions("corner")
    undecided = endcap_here(
        folder, "run", "corner.yaml", "--set", "gate.evidence.min_sessions=100000", "--set", OTHER_MODEL
    )
    assert undecided.exit_code == 3, undecided.output
    steps = [line.split()[1] for line in undecided.stdout.splitlines() if line.startswith("  ✓")]
    assert steps == STEPS[:4]
    assert undecided.stdout.count("not run: the gate is undecided") == 3
    assert "? undecided: the test has" in undecided.stdout
    assert registry.list_versions("corner") == before != []
    (run, *_) = _runs(folder)
    assert (run["state"], run["gate"]) == ("succeeded", "undecided")
    assert "evaluate: gate und" in read(folder, "runs", "corner")
    assert "gate undecided" in read(folder, "status")


def test_a_failed_step_ends_with_cause_log_and_the_command_that_goes_on(folder: Path) -> None:
    broken = endcap(folder, "run", "corner.yaml", "--set", "shop.events.columns.item=sku", "--store", "other")
    assert broken.returncode == 1
    assert "step ingest failed" in broken.stderr
    (run,) = _runs(folder, "--store", "other")
    assert (run["state"], run["step"], run["error"]["message"]) == ("failed", "ingest", run["cause"])
    assert "sku" in run["cause"]
    log = re.search(r"log: +(\S+)", broken.stderr)
    assert log is not None
    assert "sku" in Path(log[1]).read_text()
    assert "again: endcap run corner.yaml --set shop.events.columns.item=sku --store other" in broken.stderr


def _runs(folder: Path, *arguments: str) -> list[dict[str, Any]]:
    """All runs of a store, newest first."""
    runs: list[dict[str, Any]] = json.loads(read(folder, "runs", "--json", *arguments))
    return runs


def _living(group: int) -> list[str]:
    """States of a process group's processes that have not ended."""
    listed = subprocess.run(["ps", "-eo", "pgid=,stat="], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in listed.splitlines()]
    return [state for pgid, state in rows if int(pgid) == group and not state.startswith("Z")]


def _kill_in(step: str, folder: Path) -> int:
    """Start a run, and kill all its processes soon after the step has begun; its exit status."""
    before = _logs(folder, step)
    process = _start(folder)
    _wait_for(process, folder, step, before=before)
    time.sleep(0.3)
    os.killpg(process.pid, signal.SIGKILL)
    return process.wait()


def _start(folder: Path, settings: Sequence[str] = ()) -> subprocess.Popen[bytes]:
    """Start a run in a process group of its own."""
    command = [sys.executable, "-c", "from endcap.cli.main import main; main()", "run", "corner.yaml", *settings]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, start_new_session=True)


def _wait_for(
    process: subprocess.Popen[bytes], folder: Path, step: str, text: str = "", before: Collection[Path] = ()
) -> Path:
    """The step's log of a running command, once it is there and has the text; logs of runs before do not count."""
    deadline = time.monotonic() + 120
    while True:
        for log in _logs(folder, step) - set(before):
            if text in log.read_text():
                return log
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _logs(folder: Path, step: str) -> set[Path]:
    return set(folder.glob(f".endcap/store/runs/*/{step}.log"))
