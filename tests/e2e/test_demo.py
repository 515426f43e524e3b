"""The demo, small: what it prints, and what it leaves."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from endcap.experiments.decision_log import DecisionLog
from endcap.experiments.log_entry import RolloutLogEntry
from endcap.store import open_store

pytestmark = pytest.mark.slow
ENDCAP = [sys.executable, "-c", "from endcap.cli.main import main; main()"]
DEMO = [*ENDCAP, "demo"]


def run_demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a demo to its end, and check that its processes have ended."""
    shown = subprocess.run([*ENDCAP, *arguments], capture_output=True, text=True, check=False, timeout=580)
    assert shown.returncode == 0, shown.stdout + shown.stderr
    started = re.findall(r"process ([0-9]+)", shown.stdout)
    assert len(started) >= 2
    assert not any(Path(f"/proc/{pid}").exists() for pid in started)
    return shown


def read_end(store: str, recommender: str, version: str) -> RolloutLogEntry:
    """The look that ended a version's rollout; each decision follows from its evidence, byte for byte."""
    log = DecisionLog(open_store(store), recommender)
    assert log.verify() > 0
    looks = [entry for entry in log.read_rollout(version) if entry.evidence is not None]
    for entry in looks:
        assert entry.evidence is not None
        assert (entry.evidence.mismatches, entry.evidence.problems) == (0, {})
    return next(entry for entry in looks if entry.after.phase in ("promoted", "rolled-back"))


@pytest.mark.slow(minutes=3)
@pytest.mark.timeout(600)
def test_the_demo_serves_two_versions_and_shoppers_promote_the_better_one(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    shown = run_demo("demo", "--events=40000", f"--folder={folder}")
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
    last = read_end(f"{folder}/store", "demo", "2")
    assert last.decision is not None
    assert (last.after.phase, last.after.share, last.after.reason) == ("promoted", 1.0, "shown-superior")
    (effect,) = last.evidence.effects if last.evidence else ()
    assert effect.lower > 0
    # The sentence may be broken into lines.
    assert last.decision.sentence in " ".join(shown.stdout.split())


@pytest.mark.slow(minutes=1)
@pytest.mark.timeout(600)
def test_a_failing_version_is_taken_back_before_shoppers(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    shown = run_demo("demo-rollout", "--story=failing", f"--folder={folder}")
    last = read_end(f"{folder}/store", "demo-rollout", "2")
    assert last.decision is not None
    assert (last.after.phase, last.after.share, last.after.reason) == ("rolled-back", 0.0, "guardrail-broken")
    assert last.decision.numbers["guardrail"] == "errors"
    assert last.decision.sentence in " ".join(shown.stdout.split())
    assert (folder / "version-2.html").stat().st_size > 100_000


def test_the_demo_refuses_a_folder_that_is_not_its_own(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    refused = subprocess.run([*DEMO, f"--folder={tmp_path}"], capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "has files that no demo made" in refused.stderr
    assert (tmp_path / "thesis.txt").read_text() == "years of work"
