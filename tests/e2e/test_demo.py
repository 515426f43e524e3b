"""The demo, small: what it prints, and what it leaves."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
DEMO = [sys.executable, "-c", "from endcap.cli.main import main; main()", "demo"]


def test_the_demo_serves_two_versions_and_ends_its_processes(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    shown = subprocess.run(
        [*DEMO, "--events=20000", f"--folder={folder}"], capture_output=True, text=True, check=False, timeout=280
    )
    assert shown.returncode == 0, shown.stdout + shown.stderr
    stable, canary = (int(re.findall(rf"{variant} +([0-9]+) ", shown.stdout)[0]) for variant in ("stable", "canary"))
    assert stable + canary == 1000
    assert 60 <= canary <= 140
    assert shown.stdout.count("and is shown") == 3
    for text in (
        "has written 3 events",
        "is bought, and no longer",
        "is put on the blacklist, and hidden",
        "published",
    ):
        assert text in shown.stdout
    started = re.findall(r"process ([0-9]+)", shown.stdout)
    assert len(started) >= 2
    assert not any(Path(f"/proc/{pid}").exists() for pid in started)


def test_the_demo_refuses_a_folder_that_is_not_its_own(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    refused = subprocess.run([*DEMO, f"--folder={tmp_path}"], capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "has files that no demo made" in refused.stderr
    assert (tmp_path / "thesis.txt").read_text() == "years of work"
