"""What the screen, the page and the commands show of an A/B test."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path

import pytest

from endcap.ab.gains import trace_gain
from endcap.ab.history import AbHistory, read_history
from endcap.ab.report import render_test
from endcap.ab.screen import WIDTH, format_screen
from endcap.cli.main import main
from endcap.experiments.ab_log import AbLog
from endcap.experiments.ab_state import AbCommand
from endcap.store import Store, open_store
from tests.ab.states import START, VERSIONS, make_policy
from tests.ab.stories import tell_story
from tests.report.browser import browser, program


@pytest.fixture
def story(store: Store) -> AbHistory:
    tell_story(store, why="<b>three</b> losses")
    return read_history(AbLog(store, "home"))


def test_each_epoch_has_its_shares_and_the_effects_of_its_own_visits(story: AbHistory) -> None:
    epochs = story.epochs
    assert [epoch.number for epoch in epochs] == [1, 2, 3, 4]
    assert all(epoch.is_over for epoch in epochs)
    assert epochs[0].shares == {"6": 0.25, "7": 0.25, "8": 0.25, "9": 0.25}
    assert set(epochs[2].effects) == {"8", "9"}
    # The increments of the sums: a score of 0.1 * 0.08 over a stable rate of 0.1.
    assert epochs[2].effects["9"].effect == pytest.approx(0.08)
    assert epochs[2].effects["9"].lower < 0.08 < epochs[2].effects["9"].upper
    assert epochs[3].shares["9"] > 0.4


def test_a_test_that_has_not_been_looked_at_is_shown_too(store: Store) -> None:
    AbLog(store, "home").begin(("6", "a"), VERSIONS, make_policy(), START)
    history = read_history(AbLog(store, "home"))
    assert (len(history.epochs), trace_gain(history)) == (1, [])
    assert "not known yet" in format_screen(history)
    assert "There was no look yet." in render_test(history)


def test_the_screen_fits_and_names_each_version(story: AbHistory) -> None:
    lines = format_screen(story).splitlines()
    assert max(map(len, lines)) <= WIDTH
    text = "\n".join(lines)
    assert "left: metric-harmed" in text
    assert "Not counted: 3 forged" in text
    assert re.search(r"^  9 .*\+8 \(", text, re.MULTILINE)


def test_what_moving_shoppers_has_won_grows_with_the_better_version(story: AbHistory) -> None:
    points = trace_gain(story)
    assert points[0].gain.outcomes == pytest.approx(0.0, abs=1e-6)
    assert points[-1].gain.outcomes > 0
    assert points[-1].gain.lower < points[-1].gain.outcomes < points[-1].gain.upper


def test_the_page_shows_shares_epochs_gain_and_decisions(story: AbHistory) -> None:
    page = render_test(story)
    match = re.search(r'<script type="application/json" id="figures">(.*?)</script>', page)
    assert match is not None
    figures = json.loads(match[1])
    assert list(figures) == ["shares", "best", "lift", "gain"]
    assert [trace["name"] for trace in figures["shares"]["data"]] == [f"version {number}" for number in (6, 7, 8, 9)]
    assert figures["shares"]["data"][0]["stackgroup"] == "shares"
    for number in range(len(figures["shares"]["data"][0]["x"])):
        assert sum(trace["y"][number] for trace in figures["shares"]["data"]) == pytest.approx(1.0)
    assert "<b>three</b>" not in page
    assert "<code>metric-harmed</code>" in page


@pytest.mark.skipif(program() is None, reason="needs Chromium")
@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.slow
def test_chromium_draws_the_page_without_scrolling_sideways(story: AbHistory, tmp_path: Path, width: int) -> None:
    file = tmp_path / "ab.html"
    file.write_text(render_test(story), encoding="utf-8")
    with browser(tmp_path / "profile") as page:
        page.show(file, width=width)
        assert page.complaints() == []
        assert page.requests() == [file.as_uri()]
        assert page.ask("document.documentElement.scrollWidth") == width


def test_the_commands_print_the_same_for_people_and_programs(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    now = tell_story(store)
    AbLog(store, "home").command(AbCommand("stop", "ann", "enough"), now + timedelta(minutes=1))
    place = ["--store", store.root]
    main(["ab", "status", "home", *place, "--json"])
    document = json.loads(capsys.readouterr().out)
    assert (document["state"]["phase"], document["shares"]) == ("kept", {"6": 1.0})
    main(["ab", "history", "home", *place, "--json"])
    steps = json.loads(capsys.readouterr().out)
    assert (steps[0]["step"], steps[0]["by"]) == ("begin", "ann")
    assert (steps[-1]["step"], steps[-1]["by"]) == ("stop", "ann")
    main(["ab", "history", "home", *place])
    assert len(capsys.readouterr().out.splitlines()) == len(steps)
    file = tmp_path / "page.html"
    main(["ab", "report", "home", *place, "--out", str(file)])
    assert file.stat().st_size > 1_000_000
    with pytest.raises(SystemExit):
        main(["ab", "status", "away", *place, "--json"])
    assert json.loads(capsys.readouterr().out.partition("\n")[2] or "{}")["error"]["code"] == "experiments.no-test"


def test_an_empty_store_has_no_test(tmp_path: Path) -> None:
    assert AbLog(open_store(str(tmp_path)), "home").verify() == 0
