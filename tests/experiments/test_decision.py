"""The decision of a rollout: what raises, holds, takes back and promotes, and the reason that is given."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from endcap.errors import UserError
from endcap.experiments.decision import Decision, apply_decision, decide
from endcap.experiments.evidence import HistoryEvidence, RolloutEvidence
from endcap.experiments.rollout_state import PHASES, Action, RolloutCommand, RolloutState, apply_command
from endcap.spec.rollout import RolloutSpec
from tests.experiments.rollouts import (
    INF,
    LOOK,
    START,
    make_effect,
    make_evidence,
    make_guardrails,
    make_policy,
    make_state,
    show_ctr,
)

ROOT = Path(__file__).parents[2]
POLICY = make_policy()


def judge(policy: RolloutSpec = POLICY, state: RolloutState | None = None, **changes: Any) -> Decision:
    return decide(state or make_state(policy), make_evidence(policy, **changes), policy, START + LOOK)


@pytest.mark.parametrize(
    ("share", "lower", "expected"),
    [
        (0.01, -0.51, ("hold", 0.01, "collecting")),
        (0.01, -0.49, ("raise", 0.05, "risk-excluded")),
        (0.05, -0.36, ("hold", 0.05, "collecting")),
        (0.05, -0.34, ("raise", 0.1, "risk-excluded")),
        (0.1, -0.24, ("raise", 0.25, "risk-excluded")),
        (0.25, -0.14, ("raise", 0.5, "risk-excluded")),
        (0.5, -0.04, ("hold", 0.5, "deciding")),
        (0.2, -0.24, ("raise", 0.25, "risk-excluded")),
    ],
)
def test_the_share_rises_by_the_risk_that_is_left(share: float, lower: float, expected: tuple[str, float, str]) -> None:
    decision = judge(state=make_state(share=share), effects=show_ctr(lower))
    assert (decision.action, decision.share, decision.reason) == expected
    assert not decision.alert


def test_a_share_is_not_raised_twice_within_one_look() -> None:
    state = make_state(share=0.05, stepped=START + timedelta(minutes=5))
    assert judge(state=state, effects=show_ctr(-0.1)).reason == "too-early"


@pytest.mark.parametrize(
    ("policy", "lower", "action"),
    [
        ({}, -0.029, "promote"),
        ({}, -0.031, "hold"),
        ({"margin": 0.1}, -0.09, "promote"),
        ({"promote": "superior"}, -0.001, "hold"),
        ({"promote": "superior"}, 0.001, "promote"),
    ],
)
def test_a_version_is_promoted_when_the_policys_bound_is_exceeded(
    policy: dict[str, Any], lower: float, action: str
) -> None:
    decision = judge(make_policy(**policy), make_state(share=0.5), effects=show_ctr(lower))
    assert decision.action == action
    assert decision.share == (1.0 if action == "promote" else 0.5)


def test_a_promotion_waits_until_a_window_of_each_metric_is_over() -> None:
    late = (make_effect("ctr", 0.01), make_effect("conversion", complete_until=None), make_effect("revenue"))
    decision = judge(state=make_state(share=0.5), effects=late)
    assert (decision.action, decision.reason, decision.numbers["metrics"]) == ("hold", "metric-unsettled", "conversion")


@pytest.mark.parametrize("metric", ["ctr", "conversion", "revenue"])
def test_any_metric_that_is_shown_to_be_harmed_takes_the_version_back(metric: str) -> None:
    effects = tuple(make_effect(name, upper=-0.01 if name == metric else INF) for name in POLICY.metric_budgets)
    decision = judge(effects=effects)
    assert (decision.action, decision.phase, decision.share) == ("roll_back", "rolled-back", 0.0)
    assert (decision.reason, decision.numbers["metric"], decision.alert) == ("metric-harmed", metric, True)


def test_a_metric_of_which_less_is_better_is_read_the_other_way() -> None:
    policy = make_policy(metrics=[{"kind": "conversion", "name": "returns", "direction": "down"}])
    worse = make_effect("returns", lower=0.01, upper=0.5, better=False)
    better = make_effect("returns", lower=-0.5, upper=0.01, better=False)
    assert judge(policy, effects=(worse,)).reason == "metric-harmed"
    assert judge(policy, effects=(better,)).action == "promote"


def test_few_shoppers_suffice_where_the_exact_e_value_excludes_chance() -> None:
    assert judge(effects=show_ctr(harm=39.9)).action == "hold"
    decision = judge(effects=show_ctr(harm=40.1))
    assert (decision.action, decision.reason) == ("roll_back", "metric-harmed-early")


@pytest.mark.parametrize("name", POLICY.guardrail_budgets)
def test_a_broken_guardrail_takes_the_version_back_whatever_else_is_wrong(name: str) -> None:
    broken = make_guardrails(POLICY, **{name: 401.0})
    faults: dict[str, Any] = {
        "mismatches": 3,
        "sample_ratio": 1e9,
        "problems": {"log": "away"},
        "impressions_until": None,
    }
    decision = judge(guardrails=broken, **faults)
    assert (decision.action, decision.reason, decision.numbers["guardrail"]) == ("roll_back", "guardrail-broken", name)


def test_a_version_that_has_just_got_its_share_waits_for_reports_without_an_alarm() -> None:
    state = make_state(started=START + LOOK - POLICY.look_every / 2)
    decision = judge(state=state, impressions_until=None, effects=())
    assert (decision.action, decision.phase, decision.reason, decision.alert) == (
        "hold",
        "rising",
        "no-evidence",
        False,
    )


def test_a_guardrail_without_requests_breaks_nothing_and_raises_nothing() -> None:
    blind = tuple(replace(entry, e_value=1e6, events=0) for entry in make_guardrails(POLICY))
    decision = judge(guardrails=blind, effects=show_ctr(0.1))
    assert (decision.action, decision.reason) == ("hold", "guardrail-blind")
    assert judge(guardrails=(), effects=show_ctr(0.1)).reason == "guardrail-blind"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"impressions_until": None}, "no-feed"),
        ({"impressions_until": START - timedelta(hours=1)}, "feed-silent"),
        ({"mismatches": 1}, "audit-mismatch"),
        ({"sample_ratio": 1000.0}, "sample-ratio"),
        ({"sample_ratio": INF}, "sample-ratio"),
        ({"crossed": 0.06}, "crossed-shoppers"),
        ({"problems": {"prometheus": "cannot be reached"}}, "source-unreadable"),
        ({"popularity_only": True}, "popularity-only"),
        ({"version": "8"}, "other-version"),
        ({"arm": "baseline"}, "other-version"),
        ({"until": START + timedelta(hours=1)}, "evidence-ahead"),
    ],
)
def test_what_cannot_be_trusted_holds_and_says_why(changes: dict[str, Any], reason: str) -> None:
    decision = judge(**{"effects": show_ctr(0.1), **changes})
    assert (decision.action, decision.phase, decision.share, decision.reason) == ("hold", "holding", 0.01, reason)
    assert decision.alert
    state = make_state(reason=reason)
    assert not judge(state=state, **{"effects": show_ctr(0.1), **changes}).alert  # a reason that lasts alerts once


@pytest.mark.parametrize("fault", [{"mismatches": 1}, {"sample_ratio": 1e4}])
def test_harm_is_not_believed_where_the_arms_are_wrong(fault: dict[str, Any]) -> None:
    assert judge(effects=show_ctr(-0.9, -0.5), **fault).action == "hold"


@pytest.mark.parametrize("fault", [{"crossed": 0.5}, {"problems": {"prometheus": "away"}}])
def test_harm_is_believed_where_something_else_is_wrong(fault: dict[str, Any]) -> None:
    assert judge(effects=show_ctr(-0.9, -0.5), **fault).action == "roll_back"


def test_nothing_is_decided_without_any_evidence() -> None:
    assert judge(effects=()).reason == "no-evidence"
    assert judge(effects=(make_effect("other", 0.5),)).reason == "no-evidence"


def test_a_clock_that_was_set_back_holds() -> None:
    state = make_state(looked=START + timedelta(hours=1))
    decision = judge(state=state, effects=show_ctr(0.1))
    assert (decision.action, decision.reason, decision.numbers["seconds"]) == ("hold", "clock-back", 3000.0)
    assert apply_decision(state, decision, POLICY, START + LOOK).looked == START + timedelta(hours=1)


def test_clocks_that_differ_by_seconds_hold_nothing_and_repeat_no_step() -> None:
    state = make_state(looked=START + LOOK + timedelta(seconds=5), stepped=START + LOOK + timedelta(seconds=5))
    assert judge(state=state, effects=show_ctr(-0.1)).reason == "too-early"


def test_a_metric_that_is_all_zero_tells_nothing() -> None:
    nothing = {"stable_rate": 0.0, "outcomes": {"canary": 0.0, "stable": 0.0}}
    decision = judge(effects=show_ctr(**nothing))
    assert (decision.action, decision.reason, decision.numbers["lower"]) == ("hold", "collecting", None)
    assert "may still change by any amount" in decision.sentence


@pytest.mark.parametrize(("at_longest", "action"), [("roll_back", "roll_back"), ("hold", "hold")])
@pytest.mark.parametrize("changes", [{}, {"impressions_until": None}])
def test_a_rollout_that_lasts_too_long_ends_as_the_policy_says(
    at_longest: str, action: str, changes: dict[str, Any]
) -> None:
    policy = make_policy(longest="2d", at_longest=at_longest)
    now = START + timedelta(days=2)
    decision = decide(make_state(policy), make_evidence(policy, now, **changes), policy, now)
    assert (decision.action, decision.reason) == (action, "longest-reached")


def test_a_person_may_take_longer_than_the_longest_duration() -> None:
    policy = make_policy(longest="2d", approval="promotion")
    now = START + timedelta(days=3)
    waiting = decide(make_state(policy), make_evidence(policy, now, effects=show_ctr(0.1)), policy, now)
    paused = decide(make_state(policy, phase="paused"), make_evidence(policy, now), policy, now)
    switched = decide(make_state(policy), make_evidence(policy, now, popularity_only=True), policy, now)
    assert (switched.action, switched.reason) == ("hold", "popularity-only")
    assert (waiting.reason, paused.reason) == ("waits-for-approval", "paused")


@pytest.mark.parametrize(
    ("hand_edited", "actual", "expected"),
    [
        ("adopt", 0.3, ("share-adopted", "holding", 0.3)),
        ("adopt", 0.0, ("share-adopted", "paused", 0.0)),
        ("restore", 0.3, ("share-restored", "holding", 0.01)),
        ("restore", 0.01, ("risk-excluded", "rising", 0.05)),
    ],
)
def test_a_share_that_a_person_changed_is_adopted_or_put_back(
    hand_edited: str, actual: float, expected: tuple[str, str, float]
) -> None:
    decision = judge(make_policy(hand_edited=hand_edited), share=actual, effects=show_ctr(-0.1))
    assert (decision.reason, decision.phase, decision.share) == expected


@pytest.mark.parametrize(("minutes", "reason"), [(-5, "share-pending"), (5, "share-adopted")])
def test_a_step_that_was_not_carried_out_is_no_persons_change(minutes: int, reason: str) -> None:
    """The log says 5 %, and the desired state still has 1 %: since before the step, or since after it."""
    state = make_state(share=0.05, steps=2)
    decision = judge(state=state, share=0.01, share_since=START + timedelta(minutes=minutes))
    assert (decision.reason, decision.share) == (reason, 0.05 if reason == "share-pending" else 0.01)


def test_harm_counts_before_a_share_that_a_person_changed() -> None:
    assert judge(share=0.3, effects=show_ctr(-0.9, -0.5)).action == "roll_back"


def test_a_paused_rollout_rises_no_further_and_is_still_taken_back() -> None:
    paused = make_state(phase="paused", resumes="rising")
    assert judge(state=paused, effects=show_ctr(0.1)).reason == "paused"
    assert judge(state=paused, effects=show_ctr(-0.9, -0.5)).action == "roll_back"


def run(policy: RolloutSpec, state: RolloutState, now: Any, **changes: Any) -> tuple[Decision, RolloutState]:
    decision = decide(state, make_evidence(policy, now, **changes), policy, now)
    return decision, apply_decision(state, decision, policy, now)


def test_a_shadow_and_a_persons_approval_come_before_the_first_share() -> None:
    policy = make_policy(shadow="1h", approval="start")
    state = make_state(policy)
    assert (state.phase, state.share, state.started) == ("shadow", 0.0, None)
    decision, state = run(policy, state, START + LOOK)
    assert decision.reason == "shadowing"
    decision, state = run(policy, state, START + timedelta(hours=1))
    assert (decision.reason, state.phase) == ("waits-for-approval", "waiting-approval")
    state = apply_command(state, RolloutCommand("approve", "ada"), policy, START + timedelta(hours=2))
    decision, state = run(policy, state, START + timedelta(hours=2))
    assert (decision.reason, state.phase, state.share, state.steps) == ("first-share", "rising", 0.01, 1)
    assert state.started == START + timedelta(hours=2)


def test_a_shadow_that_breaks_a_guardrail_gets_no_share() -> None:
    policy = make_policy(shadow="1h")
    decision = judge(policy, make_state(policy), guardrails=make_guardrails(policy, errors=1e4))
    assert (decision.action, decision.reason) == ("roll_back", "guardrail-broken")


def test_a_promotion_that_waits_for_a_person_comes_with_the_approval() -> None:
    policy = make_policy(approval="promotion")
    good = {"effects": show_ctr(0.1)}
    decision, state = run(policy, make_state(policy), START + LOOK, **good)
    assert (decision.reason, state.phase, decision.alert) == ("waits-for-approval", "waiting-approval", True)
    state = apply_command(state, RolloutCommand("approve", "ada"), policy, START + 2 * LOOK)
    decision, state = run(policy, state, START + 3 * LOOK, **good)
    assert (decision.action, state.phase, state.arm, state.share) == ("promote", "guarding", "stable", 1.0)


def guard(policy: RolloutSpec = POLICY, at: timedelta = timedelta(days=1), **changes: Any) -> Decision:
    state = make_state(policy, arm="stable", phase="guarding", share=1.0)
    now = START + at
    return decide(state, make_evidence(policy, now, arm="stable", **{"against": "previous", **changes}), policy, now)


def test_the_champion_stays_guarded_after_its_promotion() -> None:
    assert guard().reason == "guarded"
    assert guard(effects=show_ctr(-0.3, -0.1)).action == "roll_back"
    assert guard(guardrails=make_guardrails(POLICY, latency=1e4)).action == "roll_back"
    over = guard(at=timedelta(days=30))
    assert (over.reason, over.phase, over.share) == ("guard-over", "promoted", 1.0)


@pytest.mark.parametrize(("on_breach", "action"), [("alert", "hold"), ("rollback", "roll_back")])
def test_history_alone_only_alerts_unless_the_policy_says_more(on_breach: str, action: str) -> None:
    policy = make_policy(guard={"on_breach": on_breach})
    breach = HistoryEvidence("ctr", -0.2, cusum=0.5, limit=0.4, weeks=3, blocks=8)
    decision = guard(policy, history=(breach,))
    assert (decision.action, decision.reason, decision.alert) == (action, "history-breach", True)
    for quiet in (replace(breach, cusum=0.3), replace(breach, weeks=0)):
        assert guard(policy, history=(quiet,)).reason == "guarded"


@pytest.mark.parametrize("phase", ["rolled-back", "aborted", "superseded"])
def test_an_ended_rollout_is_left_alone(phase: Any) -> None:
    decision = judge(state=make_state(phase=phase, share=0.0), guardrails=make_guardrails(POLICY, errors=1e9))
    assert (decision.action, decision.reason, decision.phase) == ("hold", "over", phase)


def test_evidence_decision_and_state_come_back_from_json_as_they_were() -> None:
    evidence = make_evidence(
        share_since=START, sample_ratio=INF, effects=show_ctr(harm=INF), guardrails=make_guardrails(POLICY, errors=INF)
    )
    assert RolloutEvidence.from_json(json.loads(json.dumps(evidence.to_json(), allow_nan=False))) == evidence
    decision, state = run(POLICY, make_state(), START + LOOK, effects=show_ctr(-0.2))
    assert Decision.from_json(json.loads(json.dumps(decision.to_json(), allow_nan=False))) == decision
    assert RolloutState.from_json(json.loads(json.dumps(state.to_json(), allow_nan=False))) == state


@pytest.mark.parametrize(
    ("phase", "action", "fits"),
    [
        ("rising", "pause", True),
        ("rising", "resume", False),
        ("rising", "approve", False),
        ("rising", "promote", True),
        ("paused", "resume", True),
        ("waiting-approval", "approve", True),
        ("guarding", "abort", True),
        ("guarding", "pause", False),
        ("aborted", "abort", False),
    ],
)
def test_commands_fit_the_state_or_are_refused(phase: Any, action: Action, fits: bool) -> None:
    state, command = make_state(phase=phase), RolloutCommand(action, "ada", "because")
    if fits:
        assert apply_command(state, command, POLICY, START).reason != state.reason
    else:
        with pytest.raises(UserError, match=f"{action} does not fit"):
            apply_command(state, command, POLICY, START)


def test_commands_change_the_state_as_they_say() -> None:
    state = make_state(share=0.25)
    paused = apply_command(state, RolloutCommand("pause", "ada"), POLICY, START)
    assert (paused.phase, paused.share) == ("paused", 0.25)
    resumed = apply_command(paused, RolloutCommand("resume", "ada"), POLICY, START)
    assert (resumed.phase, resumed.share) == ("rising", 0.25)
    assert apply_command(replace(paused, share=0.0), RolloutCommand("resume", "ada"), POLICY, START).share == 0.01
    promoted = apply_command(state, RolloutCommand("promote", "ada"), POLICY, START)
    assert (promoted.arm, promoted.phase, promoted.share) == ("stable", "guarding", 1.0)
    refreshed = apply_command(state, RolloutCommand("refresh", "deploy", version="8", package="p"), POLICY, START)
    assert (refreshed.version, refreshed.share, refreshed.refreshed) == ("8", 0.01, ("7",))
    for action, phase in (("abort", "aborted"), ("supersede", "superseded")):
        ended = apply_command(state, RolloutCommand(action, "ada"), POLICY, START)  # type: ignore[arg-type]
        assert (ended.phase, ended.share) == (phase, 0.0)


def test_the_reference_lists_every_reason_and_phase() -> None:
    reasons: set[str] = {"first-share", "risk-excluded", "shown-no-harm", "shown-superior"}
    for name in ("decision", "safety_rules", "progress_rules", "findings"):
        text = (ROOT / "endcap" / "experiments" / f"{name}.py").read_text(encoding="utf-8")
        reasons |= set(re.findall(r'(?:hold|roll_back|Finding)\(\s*"([a-z-]+)"', text))
    reference = (ROOT / "docs" / "rollout-reference.md").read_text(encoding="utf-8")
    assert len(reasons) > 25
    assert {word for word in (*reasons, *PHASES) if f"`{word}`" not in reference} == set()
