"""The guide on days: its commands, in its order, do what it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.guides import DOCS

pytestmark = pytest.mark.slow
FILES = {"Shop": "tableware.yaml", "Recommender": "home.yaml"}


def run(command: list[str], folder: Path) -> str:
    """What a command prints; it must end well."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PATH": path},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_the_commands_do_what_the_guide_says(tmp_path: Path) -> None:
    page = (DOCS / "days.md").read_text(encoding="utf-8")
    shown, compared = "", 0
    for language, text in re.findall(r"^```(\w*)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        match language:
            case "yaml":
                (tmp_path / FILES[yaml.safe_load(text)["kind"]]).write_text(text)
            case "bash":
                shown = run(["bash", "-euo", "pipefail", "-c", text], tmp_path)
                if "describe" in text:
                    kept, anew = re.findall(r"\b[0-9a-f]{32}\b", shown)
                    assert kept == anew
            case "python":
                shown = run([sys.executable, "-c", text], tmp_path)
            case _:
                assert text.strip() in shown
                compared += 1
    assert compared == 3
    fed = [line.split(maxsplit=2) for line in shown.splitlines()]
    assert [(day, int(events), names.count(".csv")) for day, events, names in fed[-3:]] == [
        ("2026-03-01", 4, 1),
        ("2026-03-02", 5, 2),
        ("2026-03-03", 3, 1),
    ]
