"""What personalisation brings, on a screen, on a page and from the command."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest

from endcap.cli.main import main
from endcap.experiments.decision_log import DecisionLog
from endcap.experiments.lift import Lift, LiftTable
from endcap.rollout.history import read_history
from endcap.rollout.lift import ChampionLift
from endcap.rollout.lift_screen import format_lift
from endcap.rollout.report import render_rollout
from endcap.store import Store, open_store
from tests.experiments.rollouts import START
from tests.rollout.stories import tell_story


def make_lift(metric: str, effect: float, width: float, exposures: int = 5000) -> Lift:
    counts = {"stable": exposures, "baseline": exposures // 50}
    return Lift(
        metric, effect, effect - width, effect + width, True, counts, counts, {"stable": 900.0, "baseline": 15.0}
    )


TABLE = LiftTable(
    (make_lift("ctr", 0.25, 0.1), make_lift("conversion", 0.1, 0.3)),
    (make_lift("1", 0.3, 0.2), make_lift("11+", 0.0, 1.0, 0)),
    (make_lift("home <b>\x1b[31m", 0.4, 0.3), make_lift("", 0.1, float("inf"), 100)),
)
EARLIER = ChampionLift("6", START - timedelta(days=9), START, TABLE)
LIFT = ChampionLift("7", START, START + timedelta(days=2), TABLE, past=(EARLIER,))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


def test_the_screen_has_a_line_for_all_that_was_seen() -> None:
    text = format_lift("home", LIFT)
    assert all(line.isascii() and line.isprintable() and len(line) <= 80 for line in text.splitlines())
    assert "champion   version 7, since 2026-11-02 08:00 UTC" in text
    lines = {line.split()[0]: line for line in text.splitlines() if line.startswith("    ")}
    assert lines["ctr"].endswith("+25 (+15, +35) %")
    assert "11+" not in lines
    assert lines["no"].endswith("+10 (?, ?) %")
    below = ChampionLift("7", START, START, LiftTable((make_lift("ctr", -0.2, 0.1),)))
    assert "Popularity does better on ctr." in format_lift("home", below)


def test_status_and_report_show_it_with_and_without_a_rollout(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store.write_document("rollouts/home/lift", LIFT.to_json())
    main(["rollout", "status", "home", "--store", store.root])
    assert capsys.readouterr().out.strip() == format_lift("home", LIFT)
    main(["rollout", "status", "home", "--store", store.root, "--json"])
    document = json.loads(capsys.readouterr().out)
    assert "state" not in document
    assert ChampionLift.from_json(document["lift"]) == LIFT
    tell_story(store, 0.02, 3)
    main(["rollout", "status", "home", "--store", store.root])
    shown = capsys.readouterr().out
    assert shown.startswith("home: version 7 is rising")
    assert shown.strip().endswith(format_lift("home", LIFT).splitlines()[-1])
    file = tmp_path / "page.html"
    main(["rollout", "report", "home", "--store", store.root, "--out", str(file)])
    text = file.read_text()
    assert text == render_rollout(read_history(DecisionLog(store, "home")), LIFT)
    for words in ("What personalisation brings", "Clicks by surface", "Champions before", "home &lt;b&gt;"):
        assert words in text
    assert "home <b>" not in text
