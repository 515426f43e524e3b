"""The page of a rollout: what it shows, and how Chromium shows it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from endcap.experiments.decision_log import DecisionLog
from endcap.experiments.rollout_state import RolloutCommand
from endcap.rollout.history import RolloutHistory, read_history
from endcap.rollout.report import render_rollout
from endcap.store import open_store
from tests.experiments.rollouts import START, make_policy
from tests.report.browser import Page, browser, program
from tests.rollout.stories import POLICY, tell_story


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> RolloutHistory:
    store = open_store(str(tmp_path_factory.mktemp("store")))
    log = DecisionLog(store, "home")
    now = tell_story(store, 0.05, 60, refusals={"unsigned": 12})
    log.command(RolloutCommand("abort", "<b>Ada</b>", "a test"), POLICY, now + timedelta(minutes=1))
    return read_history(log)


@pytest.fixture(scope="module")
def text(history: RolloutHistory) -> str:
    return render_rollout(history)


def read_figures(text: str) -> dict[str, Any]:
    match = re.search(r'<script type="application/json" id="figures">(.*?)</script>', text)
    assert match is not None
    figures: dict[str, Any] = json.loads(match[1])
    return figures


def test_it_shows_share_effects_guardrails_decisions_and_policy(text: str, history: RolloutHistory) -> None:
    figures = read_figures(text)
    metrics = [f"effect-{name}" for name in ("ctr", "conversion", "revenue")]
    guardrails = [f"guardrail-{name}" for name in ("errors", "latency", "empty-answers", "fallbacks")]
    assert list(figures) == ["share", *metrics, *guardrails]
    assert "There is no baseline" in text
    assert figures["share"]["data"][0]["text"][:5] == ["1 %", "5 %", "10 %", "25 %", "50 %"]
    names = [trace["name"] for trace in figures["effect-ctr"]["data"]]
    assert names[-2:] == ["margin", "needed for the next share"]
    assert figures["effect-ctr"]["data"][-2]["y"] == [-0.03, -0.03]
    for step in history.steps[-5:]:
        assert f"<code>{step.reason}</code>" in text
    for words in ("version 7 against 6", "Not counted", "unsigned", "digest of the policy", "shown-no-harm"):
        assert words in text


def test_what_a_person_wrote_stays_text(text: str) -> None:
    assert "<b>Ada</b>" not in text
    assert "&lt;b&gt;Ada&lt;/b&gt; asked for it: a test" in text


def test_after_the_promotion_the_line_does_not_go_on_from_another_comparison(text: str) -> None:
    bands = [trace for trace in read_figures(text)["effect-ctr"]["data"] if trace["name"] == "band"]
    assert len(bands) == 2
    assert bands[0]["x"][-1] < bands[1]["x"][0]


def test_a_rollout_without_a_look_has_a_page_too(tmp_path: Path) -> None:
    log = DecisionLog(open_store(str(tmp_path)), "home")
    log.begin("7", "b", "6", "a", make_policy(), START)
    page = render_rollout(read_history(log))
    assert "Nothing is known of any metric yet." in page
    assert "There was no look yet." in page


@pytest.mark.slow
def test_a_long_rollout_makes_no_long_lines(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    tell_story(store, 0.05, 450)
    figures = read_figures(render_rollout(read_history(DecisionLog(store, "home"))))
    assert max(len(trace["x"]) for figure in figures.values() for trace in figure["data"]) < 400


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("chromium") / "profile") as page:
        yield page


@pytest.mark.skipif(program() is None, reason="there is no Chromium here; apt-get install chromium")
@pytest.mark.parametrize(("width", "dark"), [(1440, False), (390, True)])
def test_charts_are_drawn_nothing_is_fetched_and_nothing_sticks_out(
    page: Page, text: str, tmp_path: Path, width: int, dark: bool
) -> None:
    file = tmp_path / "rollout.html"
    file.write_text(text, encoding="utf-8")
    page.events.clear()
    page.show(file, width=width, dark=dark)
    assert page.complaints() == []
    assert page.requests() == [file.as_uri()]
    assert page.ask("document.documentElement.scrollWidth") == width
    place = "[...document.querySelectorAll('[data-chart]')]"
    assert page.ask(f"{place}.filter((one) => one.firstElementChild.scrollWidth > one.clientWidth).length") == 0
