"""What a test won by moving shoppers, read from its log."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from endcap.ab.gains import trace_gain
from endcap.ab.history import AbHistory
from endcap.experiments.ab_decision import apply_ab_decision, decide_ab
from endcap.experiments.ab_log import AbLogEntry
from endcap.experiments.ab_state import AbState
from endcap.experiments.splits import TOTAL_WEIGHT
from tests.ab.states import EPOCH, START, make_challenger, make_effect, make_evidence, make_policy, make_state

POLICY = make_policy(max_moved=1.0)
WINDOW = timedelta(hours=1)


def add_look(entries: list[AbLogEntry], now: datetime, score: float, variance: float) -> None:
    """A look whose second challenger is far better, with the sums so far of all visits before `now` less the window."""
    state = entries[-1].after
    effect = make_effect("ctr", 0.1, 0.3, complete_until=now - WINDOW)
    challengers = tuple(
        make_challenger(state, number, gain, 0.01, score=number * score, variance=variance, effects=(effect,))
        for number, gain in enumerate((0.0, 0.2))
    )
    evidence = make_evidence(state, now, (0.0, 0.2), challengers=challengers)
    decision = decide_ab(state, evidence, POLICY, now)
    after = apply_ab_decision(state, decision, POLICY, now)
    entries.append(AbLogEntry(len(entries), "decision", now, POLICY.digest, state, after, evidence, decision))


def begin() -> tuple[AbState, list[AbLogEntry]]:
    state = make_state(2)
    return state, [AbLogEntry(0, "begin", START, POLICY.digest, None, state)]


def measure(entries: list[AbLogEntry]) -> tuple[float, float, float]:
    gain = trace_gain(AbHistory(entries, {POLICY.digest: POLICY}))[-1].gain
    return gain.outcomes, gain.lower, gain.upper


def test_nothing_is_won_before_shares_differ() -> None:
    _, entries = begin()
    add_look(entries, START + EPOCH / 2, 50.0, 100.0)
    # Weights that sum to a million differ by one.
    assert measure(entries)[0] == pytest.approx(0.0, abs=1e-3)


def test_visits_count_for_the_layout_in_which_they_began() -> None:
    _, entries = begin()
    add_look(entries, START + EPOCH, 50.0, 100.0)
    moved = entries[-1].after
    assert moved.layout.weigh("challenger-2") == 0.8 * TOTAL_WEIGHT
    # Of the visits before the move, some were not over at its look; the look after the window has them.
    add_look(entries, START + EPOCH + WINDOW, 60.0, 120.0)
    assert measure(entries)[0] == pytest.approx(0.0, abs=1e-3)
    add_look(entries, START + 1.5 * EPOCH, 75.0, 150.0)
    outcomes, lower, upper = measure(entries)
    # (0.8 - 1/3) (1/0.1 + 1/0.8) of the score that the visits since the move added.
    assert outcomes == pytest.approx((0.8 - 1 / 3) * 11.25 * 15.0, rel=1e-3)
    assert lower < outcomes < upper < math.inf


def test_a_challenger_that_left_keeps_what_it_did() -> None:
    _, entries = begin()
    add_look(entries, START + EPOCH, 50.0, 100.0)
    add_look(entries, START + 1.5 * EPOCH, 75.0, 150.0)
    won = measure(entries)[0]
    state, now = entries[-1].after, START + 1.5 * EPOCH + WINDOW
    evidence = entries[-1].evidence
    assert evidence is not None
    absent = replace(evidence.challengers[0], registered="absent")
    evidence = replace(evidence, until=now, impressions_until=now, challengers=(absent, evidence.challengers[1]))
    evidence = replace(evidence, served=state.layout.layout_id)
    decision = decide_ab(state, evidence, POLICY, now)
    after = apply_ab_decision(state, decision, POLICY, now)
    assert not after.layout.weigh("challenger-1")
    entries.append(AbLogEntry(len(entries), "decision", now, POLICY.digest, state, after, evidence, decision))
    assert measure(entries)[0] == pytest.approx(won)
