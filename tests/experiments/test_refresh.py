"""A newer version of the same recipe in a running rollout: what it keeps, and what it must show by itself."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from endcap.experiments.decision import apply_decision, decide
from endcap.experiments.decision_log import DecisionLog
from endcap.experiments.refresh_check import find_budget_parts, may_refresh
from endcap.experiments.rollout_state import RolloutCommand, RolloutState, apply_command
from endcap.store import open_store
from tests.experiments.rollouts import LOOK, START, make_evidence, make_policy, make_state, show_ctr

POLICY = make_policy(while_running="refresh")
REFRESH = RolloutCommand("refresh", "deploy", "newer", "8", "packages/home/c")


def refresh(state: RolloutState) -> RolloutState:
    return apply_command(state, REFRESH, POLICY, START + LOOK)


def test_the_share_returns_after_the_versions_own_check_and_then_the_kept_evidence_decides() -> None:
    state = refresh(make_state(POLICY, share=0.25, approved=("start", "promotion")))
    assert (state.version, state.share, state.returns_to, state.is_checking) == ("8", 0.01, 0.25, True)
    assert state.approved == ("start",)
    # The rollout's evidence would promote; the version's own does not suffice yet.
    for fresh, reason in (((), "refresh-checking"), (show_ctr(-0.6), "refresh-checking")):
        evidence = make_evidence(POLICY, START + 2 * LOOK, version="8", effects=show_ctr(-0.01), fresh=fresh)
        decision = decide(state, evidence, POLICY, START + 2 * LOOK)
        assert (decision.reason, decision.share) == (reason, 0.01)
    now = START + 3 * LOOK
    evidence = make_evidence(POLICY, now, version="8", effects=show_ctr(-0.01), fresh=show_ctr(-0.4))
    decision = decide(state, evidence, POLICY, now)
    assert (decision.action, decision.reason, decision.share) == ("raise", "refresh-checked", 0.25)
    after = apply_decision(state, decision, POLICY, now)
    assert (after.checked_at, after.is_checking) == (now, False)
    assert decide(after, evidence, POLICY, now + LOOK).action == "promote"


@pytest.mark.parametrize("is_checked", [False, True])
def test_harm_that_only_the_newer_version_does_takes_it_back(is_checked: bool) -> None:
    state = replace(refresh(make_state(POLICY, share=0.25)), checked_at=START + 2 * LOOK if is_checked else None)
    now = START + 3 * LOOK
    evidence = make_evidence(POLICY, now, version="8", effects=show_ctr(-0.1, 0.1), fresh=show_ctr(-0.4, -0.01))
    decision = decide(state, evidence, POLICY, now)
    assert (decision.action, decision.reason, decision.numbers["since"]) == ("roll_back", "metric-harmed", "7")


def test_all_refreshes_together_spend_half_of_the_budget() -> None:
    state = make_state(POLICY)
    assert find_budget_parts(POLICY, state) == (0.5, 0.0)
    parts = [find_budget_parts(POLICY, replace(state, refreshed=("7",) * count))[1] for count in range(1, 1_000)]
    assert parts[0] == 0.25
    assert sum(parts) < 0.5
    assert find_budget_parts(make_policy(), state) == (1.0, 0.0)


def test_a_refresh_keeps_a_pause_and_an_unfinished_check_keeps_the_share_to_return_to() -> None:
    paused = refresh(make_state(POLICY, share=0.25, phase="paused", resumes="rising"))
    assert (paused.phase, paused.share, paused.returns_to) == ("paused", 0.01, 0.25)
    assert refresh(paused).returns_to == 0.25
    unmet = refresh(make_state(POLICY, share=0.0, started=None, phase="shadow"))
    assert (unmet.phase, unmet.is_checking) == ("shadow", False)


def test_a_newer_version_waits_for_the_check_and_then_for_as_long_again() -> None:
    state = refresh(make_state(POLICY))
    assert may_refresh(make_state(POLICY), START)
    assert not may_refresh(state, START + timedelta(days=9))
    checked = replace(state, checked_at=START + LOOK + timedelta(hours=5))
    assert not may_refresh(checked, START + LOOK + timedelta(hours=9))
    assert may_refresh(checked, START + LOOK + timedelta(hours=10))


def test_a_refreshed_rollout_can_be_computed_again(tmp_path: Path) -> None:
    log = DecisionLog(open_store(str(tmp_path / "store")), "home")
    log.begin("7", "packages/home/b", "6", "packages/home/a", POLICY, START)
    log.command(REFRESH, POLICY, START + LOOK)
    for number, lower in enumerate((-0.6, -0.4, -0.4)):
        now = START + (number + 2) * LOOK
        evidence = make_evidence(POLICY, now, version="8", effects=show_ctr(-0.9), fresh=show_ctr(lower))
        log.look(evidence, POLICY, now)
    reasons = [entry.after.reason for entry in log.read_entries()]
    assert reasons == ["started", "refreshed", "refresh-checking", "refresh-checked", "collecting"]
    assert log.verify() == 5
