"""endcap run as scripts and people at a terminal meet it: interrupted, gone on with, its end as a document."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from endcap.cli import display as module
from endcap.cli.display import Display
from endcap.cli.main import main
from endcap.runs import StepEnd, StepProgress, StepStart, list_runs, read_run
from endcap.store import open_store
from tests.cli.printed_errors import parse_error
from tests.pipelines.packages import spec_file

STEPS = """
  steps:
    pause: {after: ingest, function: "pauses:until_told"}
"""
PAUSES = """
import pathlib, time

def until_told(store):
    pathlib.Path("begun").touch()
    while not pathlib.Path("told").exists():
        time.sleep(0.05)
"""
MAIN = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in a script's background is started without it
from endcap.cli.main import main
main()
"""
RUN = ["run", "toys.yaml", "--pipeline", "features", "--store", "store", "--json"]


def start_paused_run(folder: Path) -> subprocess.Popen[str]:
    """Start a run in a folder, and wait until its second step waits for the file `told`."""
    spec_file(folder, STEPS)
    (folder / "pauses.py").write_text(PAUSES)
    command = [sys.executable, "-c", MAIN, *RUN]
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0
    )
    deadline = time.monotonic() + 60
    while not (folder / "begun").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.5)  # the runner reads that the step has begun
    return process


def test_ctrl_c_says_what_is_kept_and_the_same_command_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    process = start_paused_run(tmp_path)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    shown, said = process.communicate(timeout=30)
    error = parse_error(shown)
    (canceled,) = list_runs(open_store("store"))
    assert (process.returncode, error["code"]) == (130, "cli.interrupted")
    assert error["fields"] == {"run": canceled.name, "step": "pause", "kept": ["ingest"]}
    assert f"again: endcap {' '.join(RUN)}" in said
    assert canceled.state == "canceled"

    (tmp_path / "told").touch()
    monkeypatch.setattr(sys, "argv", ["endcap", *RUN])
    main(RUN)
    out = capfd.readouterr()
    document = json.loads(out.out)
    assert (document["state"], document["run"]) == ("succeeded", list_runs(open_store("store"))[0].name)
    assert [(step["step"], step["reused"]) for step in document["steps"]] == [
        ("ingest", True),
        ("pause", False),
        ("features", False),
    ]
    assert [document[key] for key in ("verdict", "version", "deployment", "not_run")] == [None, None, None, {}]
    assert "  ✓ ingest       found" in out.err


@pytest.mark.slow
def test_a_run_is_ended_and_run_again_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    process = start_paused_run(tmp_path)
    (running,) = list_runs(open_store("store"))
    with pytest.raises(SystemExit):
        main(["runs", "retry", running.name, "--store", "store", "--json"])
    assert parse_error(capfd.readouterr().out)["code"] == "project.run-not-ended"
    main(["runs", "end", running.name, "--store", "store", "--json"])
    ended = json.loads(capfd.readouterr().out)
    assert (ended["state"], process.wait(30)) == ("canceled", 130)
    assert ended["steps"][0]["cost"]["cpu_seconds"] > 0.1
    assert ended["cost"]["stored_bytes"] == ended["steps"][0]["cost"]["stored_bytes"] > 500

    (tmp_path / "told").touch()
    (tmp_path / "shops" / "toys.yaml").write_text("what the file says now does not count")
    main(["runs", "retry", running.name, "--store", "store", "--json"])
    document = json.loads(capfd.readouterr().out)
    assert [(step["step"], step["reused"]) for step in document["steps"]] == [
        ("ingest", True),
        ("pause", False),
        ("features", False),
    ]
    again = read_run(open_store("store"), document["run"])
    assert (again.why, again.document["spec"]["fingerprint"]) == (
        f"retry of {running.name}",
        running.document["spec"]["fingerprint"],
    )
    process.communicate(timeout=30)


def test_in_a_log_file_a_steps_lines_come_now_and_then_with_the_first_and_the_last(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    display = Display(run="r", verbose=False, where=lambda step: "", again="")
    display.hear(StepStart("train"))
    for epoch in range(1, 37):
        display.hear(StepProgress("train", f"epoch {epoch}/36"))
        clock[0] += 1.0
    display.hear(StepEnd("train", "file:///x", "fitted", 36.0))
    display.hear(StepStart("refit"))
    display.hear(StepProgress("refit", "fitting"))
    display.hear(StepProgress("refit", "epoch 1/1"))
    display.hear(StepEnd("refit", "file:///y", "packed", 1.0))
    shown = capsys.readouterr().out
    assert "\r" not in shown
    assert [line.split()[2:] for line in shown.splitlines() if "…" in line] == [
        *(["epoch", f"{epoch}/36"] for epoch in (1, 11, 21, 31, 36)),
        ["fitting"],
    ]
