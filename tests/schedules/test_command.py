"""`endcap schedule` with real runs: a marker, new data, a run that is killed, a person's wish."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from endcap.cli.main import endcap
from endcap.runs import list_runs
from endcap.schedules.ledger import ScheduleLedger, read_ledger
from endcap.store import open_store

PATIENCE = 240
SHOP = """
apiVersion: endcap/v2
kind: Shop
name: shoes
events:
  sources: [{path: LOG}]
  columns: {session: session, item: item, time: time, type: type}
  types: [view]
"""
HOME = """
apiVersion: endcap/v2
kind: Recommender
name: home
shop: shoes
split: {by: time, test: 1d, validation: 1d}
model: {name: popularity}
schedule:
  features: {arrival: {poll: 1s, marker: _SUCCESS}}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with specs and an empty log."""
    (tmp_path / "shops").mkdir()
    (tmp_path / "log").mkdir()
    (tmp_path / "shops" / "shoes.yaml").write_text(SHOP.replace("LOG", str(tmp_path / "log")))
    (tmp_path / "home.yaml").write_text(HOME)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _write_day(folder: Path, day: int, *, is_complete: bool = True) -> None:
    rows = [
        f"{day}-{session},i{(session + step) % 7},2026-03-{day:02d}T{step:02d}:00:00Z,view"
        for session in range(20)
        for step in range(4)
    ]
    (folder / "log" / f"{day}.csv").write_text("\n".join(["session,item,time,type", *rows]))
    if is_complete:
        (folder / "log" / "_SUCCESS").write_text(str(day))


def _start(*arguments: str) -> subprocess.Popen[str]:
    command = [
        str(Path(sys.executable).parent / "endcap"),
        "schedule",
        "run",
        "home.yaml",
        "--store",
        "store",
        *arguments,
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def _read() -> ScheduleLedger:
    return read_ledger(open_store("store"), "home", "features")


def _wait(condition: Callable[[ScheduleLedger], Any]) -> ScheduleLedger:
    end = time.monotonic() + PATIENCE
    while not condition(ledger := _read()):
        assert time.monotonic() < end, ledger
        time.sleep(0.1)
    return ledger


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_data_that_arrive_are_run_once_whatever_is_killed(folder: Path) -> None:
    for day in range(1, 6):
        _write_day(folder, day, is_complete=False)
    once = _start("--once")
    assert once.wait(PATIENCE) == 0, once.communicate()
    assert (_read().counts, _read().queue) == ({"skipped:no-data": 1}, ())

    _write_day(folder, 6)
    scheduler = _start()
    try:
        begun = _wait(lambda ledger: ledger.claim is not None and ledger.claim.begun)
        assert begun.claim is not None
        os.killpg(begun.claim.pid, signal.SIGKILL)
        done = _wait(lambda ledger: ledger.counts.get("succeeded"))
        assert {name: count for name, count in done.counts.items() if name != "skipped:no-data"} == {
            "started": 1,
            "again:process-died": 1,
            "succeeded": 1,
        }
    finally:
        scheduler.terminate()
        scheduler.wait(PATIENCE)
    assert scheduler.returncode == 0
    latest = list_runs(open_store("store"))[0]
    assert (latest.state, latest.how, latest.pipeline) == ("succeeded", "schedule", "features")
    data = latest.document["data"]
    assert (data["version"], data["paths"]) == (done.entries[-1].version, [str(folder / "log")])
    assert (data["added"], data["names"]) == (1, [str(folder / "log" / "_SUCCESS")])
    assert data["version"] in str(latest)


def test_a_person_makes_a_run_due(folder: Path) -> None:
    _write_day(folder, 1)

    def invoke(*arguments: str) -> Any:
        return CliRunner().invoke(endcap, ["schedule", *arguments, "--store", "store"], catch_exceptions=True)

    assert invoke("retrigger", "home.yaml", "features", "--why", "rules changed").exit_code == 0
    (status,) = json.loads(invoke("status", "home.yaml", "--json").stdout)
    assert [(due["cause"], due["why"]) for due in status["waiting"]] == [("retrigger", "rules changed")]
    assert status["counts"] == {"retriggered": 1}
    assert invoke("status", "home.yaml").exit_code == 0
    refused = invoke("retrigger", "home.yaml", "train", "--why", "x").exception
    assert getattr(refused, "code", "") == "schedule.no-part"
    (folder / "home.yaml").write_text(HOME.partition("schedule:")[0])
    assert getattr(invoke("status", "home.yaml").exception, "code", "") == "schedule.none"
