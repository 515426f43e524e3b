"""No secret is on the command line of a process that serves, where every user of a machine may read it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from endcap.deploy import Target
from endcap_serving.local.intake_process import IntakeProcess
from endcap_serving.local.predictors import PredictorProcess
from endcap_serving.local.process import end_processes
from endcap_serving.predictor.options import remove_online_option
from tests.secrets_given import PLANTED, command_lines
from tests.serving.conftest import Shop


def test_what_serves_gets_the_online_store_by_the_environment(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENDCAP_ONLINE", f"redis://:{PLANTED}@127.0.0.1:1")
    target = Target(version="1", package=shop.packages["popularity"])
    with command_lines() as seen:
        predictor = PredictorProcess("shoes", "stable", target, shop.store, tmp_path)
        intake = IntakeProcess(shop.store, "shoes", tmp_path, print)
        intake.reconcile([predictor.package])
        assert intake.process is not None
        processes = [predictor.process, intake.process]
        try:
            for process, module in zip(processes, ("predictor", "intake"), strict=True):
                _wait_for(seen, f"-m endcap_serving.{module}")
                environment = Path(f"/proc/{process.pid}/environ").read_text()
                assert f"ENDCAP_ONLINE=redis://:{PLANTED}@127.0.0.1:1" in environment
        finally:
            end_processes(processes)
    assert [line for line in seen if PLANTED in line] == []


def test_workers_of_a_predictor_get_it_by_the_environment_too(shop: Shop, tmp_path: Path) -> None:
    words = [
        "--online",
        f"redis://:{PLANTED}@h",
        "--online-timeout",
        "1",
        f"--online=redis://:{PLANTED}@h",
        "--port",
        "0",
    ]
    assert remove_online_option(words) == ["--online-timeout", "1", "--port", "0"]
    command = [sys.executable, "-m", "endcap_serving.predictor", "--model-name=shoes", "--version=1", "--workers=2"]
    command += ["--host=127.0.0.1", "--port=0", "--package", str(shop.store.fetch(shop.packages["popularity"]))]
    command += ["--online", f"redis://:{PLANTED}@127.0.0.1:1"]
    with command_lines() as seen, (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            _wait_for(seen, "--fd")
        finally:
            process.terminate()
            process.wait(20)
    workers = [line for line in seen if "--fd" in line]
    assert [line for line in workers if PLANTED in line] == []
    for line in (tmp_path / "log").read_text().splitlines():
        assert PLANTED not in line
        json.loads(line)


def _wait_for(seen: set[str], text: str) -> None:
    limit = time.monotonic() + 60
    while not any(text in line for line in list(seen)):
        assert time.monotonic() < limit, seen
        time.sleep(0.02)
