"""The status of a rollout on one screen."""

from __future__ import annotations

import math
from datetime import timedelta
from pathlib import Path

import pytest

from endcap.experiments.decision_log import DecisionLog
from endcap.experiments.rollout_state import RolloutCommand
from endcap.rollout.history import RolloutHistory, format_span, read_history
from endcap.rollout.outlook import describe_wait, expect_steps
from endcap.rollout.screen import draw_band, format_look, format_looks_head, format_screen
from endcap.store import Store, open_store
from tests.experiments.rollouts import START, make_effect, make_policy
from tests.rollout.stories import POLICY, tell_story


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


def read(store: Store) -> RolloutHistory:
    return read_history(DecisionLog(store, "home"))


@pytest.mark.parametrize(("effect", "looks"), [(0.02, 0), (0.02, 1), (0.02, 18), (0.05, 60), (-0.2, 80)])
def test_it_fits_a_screen_and_is_plain_text(store: Store, effect: float, looks: int) -> None:
    tell_story(store, effect, looks, refusals={"over-cap": 340})
    lines = format_screen(read(store)).split("\n")
    assert max(map(len, lines)) <= 80
    assert len(lines) <= 40
    assert all(line.isascii() and line.isprintable() for line in lines)


def test_it_says_where_the_rollout_stands_and_what_it_waits_for(store: Store) -> None:
    tell_story(store, 0.02, 18, refusals={"over-cap": 340, "behind": 0})
    text = format_screen(read(store))
    assert "home: version 7 is rising, 50 % of the shoppers have it" in text
    assert "against    version 6; promoted by no_harm: ctr above -3 %" in text
    assert "1 % 5 % 10 % 25 % [50 %] all" in text
    assert "errors         ok  0.05 %" in text
    assert "Not counted: 340 over-cap" in text
    assert "The promotion needs ctr above -3 %: about " in text
    assert "Undecided, it is taken back at 2026-11-16 08:00." in text


def test_a_version_that_was_taken_back_waits_for_nothing(store: Store) -> None:
    tell_story(store, 0.0, 80, errors=0.05)
    text = format_screen(read(store))
    assert "version 7 is rolled-back, nobody has it" in text
    assert "guardrail-broken" in text
    assert "errors         broken" in text
    assert "Nothing: the rollout is rolled-back." in text


def test_what_a_person_wrote_cannot_steer_the_terminal(store: Store) -> None:
    now = tell_story(store, 0.02, 3)
    log = DecisionLog(store, "home")
    log.command(RolloutCommand("pause", "Jörg", why="\x1b[31mtoo\nred"), POLICY, now + timedelta(minutes=1))
    text = format_screen(read(store))
    assert "J?rg asked for it: ?[31mtoo" in text
    assert "A person: endcap rollout resume home" in text


def test_a_bar_shows_effect_band_margin_and_what_lies_beyond() -> None:
    assert draw_band(make_effect("ctr", -0.1, 0.1, effect=0.05), 0.15) == ".....[=========:====o====]....."
    assert draw_band(make_effect("ctr", -0.5, 0.1, effect=0.0), 0.15, -0.03) == "<===========!==o=========]....."
    assert draw_band(make_effect("ctr"), 0.15) == "<==============:==============>"


def test_the_time_left_follows_from_how_far_the_bound_has_come(store: Store) -> None:
    """A band shrinks with the square root of what is known: to half after three times as much again."""
    policy = make_policy(first_share=0.5, steps=[], look_every="1h", margin=0.02)
    now = tell_story(store, 0.0, 4, policy=policy)
    history = read(store)
    (step,) = expect_steps(history)
    evidence = history.evidence
    assert evidence is not None
    effect = evidence.effects[0]
    hours = 4 - 35 / 60
    needed = hours * ((effect.effect - effect.lower) / (effect.effect + 0.02)) ** 2
    assert step.when is not None
    assert (step.when - now).total_seconds() / 3600 == pytest.approx(needed - hours, rel=1e-6)


def test_an_effect_below_the_margin_gives_no_time(store: Store) -> None:
    tell_story(store, -0.1, 9)
    assert {step.when for step in expect_steps(read(store))} == {None} or expect_steps(read(store))[-1].when is None
    assert "not to be told from the present effect" in " ".join(describe_wait(read(store)))


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (59, "59 s"), (3_600, "1 h"), (8_100, "2 h 15 min"), (183_700, "2 d 3 h")]
)
def test_a_length_of_time_has_two_units_at_most(seconds: float, text: str) -> None:
    assert format_span(seconds) == text


def test_a_rollout_without_a_look_says_so(store: Store) -> None:
    DecisionLog(store, "home").begin("7", "b", "6", "a", make_policy(approval="start"), START)
    text = format_screen(read(store))
    assert "effects    nothing is known yet" in text
    assert "A person: endcap rollout approve home" in text
    assert not math.isnan(read(store).state.share)


def test_looks_in_a_row_are_a_picture_of_the_rollout(store: Store) -> None:
    tell_story(store, -0.2, 80)
    history = read(store)
    lines = [format_look(entry, history.policy) for entry in history.looks]
    assert max(map(len, [*lines, format_looks_head()])) <= 80
    assert lines[-1].endswith("metric-harmed")
    # Bands narrow below "no change", which has one place in all lines.
    drawn = [line.index("]") - line.index("[") for line in lines if "[" in line and "]" in line]
    assert drawn[0] > drawn[-1]
    assert lines[-1].index("]") <= format_looks_head().index("0", 20)
