"""Three days of the demo's month: runs that start by themselves, a broken file, a late one."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from endcap.lineage import trace_version
from endcap.registry import open_registry
from endcap.store import open_store
from tests.e2e.test_demo import ENDCAP


@pytest.mark.long(minutes=3)
@pytest.mark.timeout(1200)
def test_three_days_run_by_themselves(tmp_path: Path) -> None:
    folder = tmp_path / "month"
    shown = subprocess.run(
        [*ENDCAP, "demo-month", "--days=3", f"--folder={folder}"], capture_output=True, text=True, check=False
    )
    assert shown.returncode == 0, shown.stdout + shown.stderr
    first, second, third = json.loads((folder / "month.json").read_text())

    def list_ends(day: dict[str, list[dict[str, str]]]) -> list[tuple[str, ...]]:
        return [(run["step"], run["reason"], run["cause"], run.get("version", "")) for run in day["runs"]]

    assert list_ends(first) == [("succeeded", "", "arrival", "1")]
    assert list_ends(second) == [
        ("failed", "events.bad-rows", "arrival", ""),
        ("failed", "events.bad-rows", "cron", ""),
        ("succeeded", "", "arrival", "2"),
    ]
    assert (list_ends(third), third["skipped"]) == ([("succeeded", "", "arrival", "3")], ["no-new-data"])
    assert [day["champion"] for day in (first, second, third)] == ["1", "2", "3"]
    # The file came at 9:10, and the next look settled on it: the clock is the month's, in the run's process too.
    assert 13 < second["hours_since_success"] < 14.5

    store = open_store(str(folder / "store"))
    lineage = trace_version(open_registry("", store).get_version("demo-month", "3"), store)
    assert list(lineage.list_days()) == [f"2026-02-{day}" for day in (26, 27, 28)] + ["2026-03-01", "2026-03-02"]
    assert lineage.run is not None
    assert (lineage.run.how, lineage.run.state) == ("schedule", "succeeded")
