"""The guide on BigQuery and Spark: its commands, in its order, do what it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bigquery.emulator import run_emulator
from tests.guides import DOCS
from tests.spark.clusters import needs_java, write_quick_environment

pytestmark = [needs_java, pytest.mark.slow(minutes=1), pytest.mark.timeout(900)]
PAGE = (DOCS / "bigquery-and-spark.md").read_text(encoding="utf-8")


def test_both_engines_and_a_new_day_give_one_dataset(tmp_path: Path) -> None:
    compared = counted = 0
    shown = ""
    programs = iter(["load.py", "digests.py"])
    with run_emulator() as emulator:
        environment = os.environ | emulator.environment | write_quick_environment(tmp_path / "quick")
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        for language, text in re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL):
            match language:
                case "yaml":
                    file = tmp_path / text.splitlines()[0].removeprefix("# ")
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_text(text)
                case "python":
                    (tmp_path / next(programs)).write_text(text)
                case "bash" if text.startswith("export "):
                    assert re.findall(r"^export (\w+)=", text, re.MULTILINE) == list(emulator.environment)
                case "bash":
                    shown = run(text, tmp_path, environment)
                    if "digests.py" in text:
                        first, second = re.findall(r"\b[0-9a-f]{32}\b", shown)
                        assert first == second
                        compared += 1
                case _:
                    assert text.strip() in shown
                    counted += 1
    assert (compared, counted) == (2, 2)


def run(commands: str, folder: Path, environment: dict[str, str]) -> str:
    """What commands print; all of them must end well."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=folder,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout
