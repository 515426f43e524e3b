"""What an A/B test decides, by its evidence."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from endcap.errors import UserError
from endcap.experiments.ab_decision import apply_ab_decision, decide_ab
from endcap.experiments.ab_decision_parts import AbDecision
from endcap.experiments.ab_evidence import AbEvidence, ChallengerEvidence
from endcap.experiments.ab_state import AB_PHASES, AbCommand, AbPolicy, AbState, apply_ab_command, share_out
from endcap.experiments.layout import count_movers
from endcap.experiments.splits import TOTAL_WEIGHT
from tests.ab.states import EPOCH, LOOK, START, break_guardrail, make_challenger, make_evidence, make_policy, make_state

ROOT = Path(__file__).parents[2]


def step(state: AbState, evidence: AbEvidence, policy: AbPolicy | None = None) -> tuple[AbDecision, AbState]:
    """Decide at the moment of the evidence, and apply it."""
    policy = policy or make_policy()
    decision = decide_ab(state, evidence, policy, evidence.until)
    assert AbDecision.from_json(decision.to_json()) == decision
    return decision, apply_ab_decision(state, decision, policy, evidence.until)


def test_shares_stay_within_an_epoch_and_follow_what_works_after_it() -> None:
    state = make_state()
    decision, after = step(state, make_evidence(state, START + LOOK, (0.0, 0.0, 0.2)))
    assert (decision.reason, after.layout, after.epoch) == ("epoch-running", state.layout, 0)
    evidence = make_evidence(state, START + EPOCH, (0.0, 0.0, 0.2))
    decision, after = step(state, evidence)
    assert (decision.action, decision.reason, after.epoch, after.epoch_began) == ("move", "capped", 1, START + EPOCH)
    assert decision.allocation is not None
    assert after.weights == decision.allocation.weights
    assert after.weights["challenger-3"] > state.weights["challenger-3"]
    moved = count_movers(state.layout, after.layout) / TOTAL_WEIGHT
    assert moved == pytest.approx(decision.allocation.moved)
    assert moved <= make_policy().ab.max_moved
    assert min(after.weights.values()) >= 0.1 * TOTAL_WEIGHT
    # The same once more, by the seed of the state alone; another epoch draws otherwise.
    assert decide_ab(state, evidence, make_policy(), evidence.until) == decision
    assert after.seed != state.seed


@pytest.mark.parametrize(("effect", "error", "reason"), [(0.0, 0.01, "dead-band"), (0.0, math.inf, "no-evidence")])
def test_an_epoch_without_a_difference_moves_nobody(effect: float, error: float, reason: str) -> None:
    state = make_state()
    decision, after = step(state, make_evidence(state, START + EPOCH, (effect,) * 3, error), make_policy(dead_band=0.5))
    assert (decision.action, decision.reason, after.layout, after.epoch) == ("hold", reason, state.layout, 1)
    assert not decision.alert


def test_an_epoch_that_begins_late_is_as_long_as_any_other() -> None:
    state = make_state()
    late = START + EPOCH + timedelta(hours=20)
    assert step(state, make_evidence(state, late))[1].epoch_began == late
    soon = START + EPOCH + LOOK
    assert step(state, make_evidence(state, soon))[1].epoch_began == START + EPOCH


Change = Callable[[AbState, datetime], AbEvidence]


def with_first(change: Callable[[ChallengerEvidence], ChallengerEvidence]) -> Change:
    def make(state: AbState, now: datetime) -> AbEvidence:
        evidence = make_evidence(state, now)
        return replace(evidence, challengers=(change(evidence.challengers[0]), *evidence.challengers[1:]))

    return make


DROPS: dict[str, Change] = {
    "guardrail-broken": with_first(break_guardrail),
    "version-vanished": with_first(lambda each: replace(each, registered="absent")),
    "version-rejected": with_first(lambda each: replace(each, registered="rejected")),
    "metric-harmed": with_first(lambda each: replace(each, effects=(replace(each.effects[0], upper=-0.01),))),
    "metric-harmed-early": with_first(lambda each: replace(each, effects=(replace(each.effects[0], harm=1e6),))),
}


@pytest.mark.parametrize("reason", DROPS)
def test_a_challenger_leaves_at_once_and_only_its_shoppers_move(reason: str) -> None:
    state = make_state()
    decision, after = step(state, DROPS[reason](state, START + LOOK))
    assert (decision.action, decision.reason, decision.alert) == ("drop", reason, True)
    assert [each.left for each in after.challengers] == [reason, "", ""]
    assert count_movers(state.layout, after.layout) == state.weights["challenger-1"]
    assert sum(after.weights.values()) == TOTAL_WEIGHT
    assert (after.epoch, after.layouts, after.phase) == (0, 2, "running")


@pytest.mark.parametrize("reason", DROPS)
def test_the_last_challenger_that_leaves_ends_the_test(reason: str) -> None:
    state = make_state(1)
    decision, after = step(state, DROPS[reason](state, START + LOOK))
    assert (decision.action, after.phase, after.winner, after.reason) == ("end", "kept", "", reason)
    assert after.challengers[0].left == reason


def test_several_challengers_leave_in_one_step() -> None:
    state = make_state()
    evidence = make_evidence(state, START + LOOK)
    broken = tuple(break_guardrail(each) for each in evidence.challengers[:2])
    decision, after = step(state, replace(evidence, challengers=(*broken, evidence.challengers[2])))
    assert set(decision.leaving) == {"challenger-1", "challenger-2"}
    assert [each.version for each in after.taking_part] == ["9"]


HOLDS: dict[str, Change] = {
    "clock-back": lambda state, now: make_evidence(state, now),
    "evidence-ahead": lambda state, now: make_evidence(state, now, until=now + timedelta(hours=1)),
    "other-version": with_first(lambda each: replace(each, version="70")),
    "audit-mismatch": with_first(lambda each: replace(each, mismatches=1)),
    "sample-ratio": with_first(lambda each: replace(each, sample_ratio=2_000.0)),
    "popularity-only": lambda state, now: make_evidence(state, now, popularity_only=True),
    "source-unreadable": lambda state, now: make_evidence(state, now, problems={"intake": "away"}),
    "layout-restored": lambda state, now: make_evidence(state, now, served="0123456789ab"),
    "no-feed": lambda state, now: make_evidence(state, now, impressions_until=None),
    "feed-silent": lambda state, now: make_evidence(state, now, impressions_until=now - timedelta(hours=2)),
    "crossed-shoppers": with_first(lambda each: replace(each, crossed=0.2)),
}


@pytest.mark.parametrize("reason", HOLDS)
def test_what_cannot_be_trusted_holds_and_is_told_once(reason: str) -> None:
    state = make_state(looked=START + 5 * EPOCH if reason == "clock-back" else None)
    now, policy = START + EPOCH, make_policy()
    evidence = HOLDS[reason](state, now)
    decision = decide_ab(state, evidence, policy, now)
    assert (decision.action, decision.reason, decision.phase, decision.alert) == ("hold", reason, "holding", True)
    after = apply_ab_decision(state, decision, policy, now)
    assert (after.layout, after.epoch) == (state.layout, 0)
    again = decide_ab(after, evidence, policy, now)
    assert (again.reason, again.alert) == (reason, False)


def test_the_best_challenger_serves_everyone_once_it_is_shown() -> None:
    state = make_state(epoch=6, epoch_began=START + 6 * EPOCH)
    decision, after = step(state, make_evidence(state, START + 7 * EPOCH, (0.0, 0.1, 0.2)))
    assert (decision.action, decision.reason, after.phase, after.winner) == ("end", "shown-best", "promoted", "9")
    # Too early, not by more than chance, or not wanted.
    early = make_state(epoch=5, epoch_began=START + 5 * EPOCH)
    assert step(early, make_evidence(early, START + 6 * EPOCH, (0.0, 0.1, 0.2)))[0].action == "move"
    assert step(state, make_evidence(state, START + 7 * EPOCH, (0.0, 0.1, 0.2), error=0.1))[0].action != "end"
    kept = step(state, make_evidence(state, START + 7 * EPOCH, (0.0, 0.1, 0.2)), make_policy(at_end="keep"))
    assert kept[0].action == "move"


@pytest.mark.parametrize(
    ("effects", "at_end", "phase"),
    [
        ((0.0, 0.0, 0.2), "promote", "promoted"),
        ((0.0, 0.0, 0.01), "promote", "kept"),
        ((0.0, 0.0, 0.2), "keep", "kept"),
    ],
)
def test_the_longest_duration_ends_the_test(effects: tuple[float, ...], at_end: str, phase: str) -> None:
    state = make_state(epoch=13, epoch_began=START + 13 * EPOCH + LOOK)
    policy = make_policy(at_end=at_end)
    decision, after = step(state, make_evidence(state, START + 14 * EPOCH, effects), policy)
    assert (decision.action, decision.reason, after.phase) == ("end", "longest-reached", phase)
    assert (after.winner == "9") == (phase == "promoted")


def test_what_cannot_be_trusted_promotes_nobody_at_the_end() -> None:
    state = make_state()
    now = START + 14 * EPOCH
    silent = make_evidence(state, now, (0.0, 0.0, 0.2), impressions_until=now - timedelta(days=1))
    decision, after = step(state, silent)
    assert (decision.reason, after.phase, decision.numbers["without"]) == ("longest-reached", "kept", "feed-silent")
    switched = make_evidence(state, now, (0.0, 0.0, 0.2), popularity_only=True)
    assert step(state, switched)[0].reason == "popularity-only"


def test_a_pin_keeps_shares_and_tells_of_harm() -> None:
    state = make_state()
    decision, after = step(state, make_evidence(state, START + EPOCH, (0.0, 0.0, 0.2), pinned="ann: sale"))
    assert (decision.reason, decision.alert, after.layout, after.epoch) == ("pinned", False, state.layout, 0)
    broken = replace(DROPS["guardrail-broken"](state, START + LOOK), pinned="ann: sale")
    decision, after = step(state, broken)
    assert (decision.reason, decision.alert, after.layout) == ("pinned-harm", True, state.layout)


def test_a_test_that_is_over_decides_nothing() -> None:
    state = make_state(phase="kept", reason="stopped-by-command")
    decision, after = step(state, make_evidence(state, START + LOOK))
    assert (decision.reason, after.phase) == ("over", "kept")


def test_commands_change_the_state_as_they_say() -> None:
    state, now = make_state(), START + LOOK
    dropped = apply_ab_command(state, AbCommand("drop", "ann", "too dear", "8"), now)
    assert [each.left for each in dropped.challengers] == ["", "dropped-by-command", ""]
    assert count_movers(state.layout, dropped.layout) == state.weights["challenger-2"]
    stopped = apply_ab_command(state, AbCommand("stop", "ann"), now)
    assert (stopped.phase, stopped.winner, stopped.is_over) == ("kept", "", True)
    promoted = apply_ab_command(state, AbCommand("promote", "ann", version="7"), now)
    assert (promoted.phase, promoted.winner) == ("promoted", "7")
    with pytest.raises(UserError) as refused:
        apply_ab_command(dropped, AbCommand("promote", "ann", version="8"), now)
    assert (refused.value.code, refused.value.fields["allowed"]) == ("experiments.no-challenger", ["7", "9"])
    with pytest.raises(UserError) as refused:
        apply_ab_command(stopped, AbCommand("stop", "ann"), now)
    assert refused.value.code == "experiments.no-test-runs"


def test_what_leaves_is_shared_out_in_proportion() -> None:
    shared = share_out({"stable": 500_000, "challenger-1": 300_000, "challenger-2": 200_000}, {"challenger-2"})
    assert shared == {"stable": 625_000, "challenger-1": 375_000}
    odd = share_out({"stable": 333_334, "challenger-1": 333_333, "challenger-2": 333_333}, {"stable"})
    assert sum(odd.values()) == TOTAL_WEIGHT


def test_a_state_is_the_same_after_json() -> None:
    state = make_state(looked=START)
    assert AbState.from_json(state.to_json()) == state
    evidence = make_evidence(state, START, error=math.inf)
    assert AbEvidence.from_json(evidence.to_json()) == evidence
    assert make_challenger(state, 0).version == "7"


def test_the_reference_lists_every_reason_and_phase() -> None:
    folder = ROOT / "endcap" / "experiments"
    text = "".join((folder / f"{name}.py").read_text(encoding="utf-8") for name in ("ab_decision", "findings"))
    reasons = set(re.findall(r'Finding\(\s*"([a-z-]+)"', text)) | {"shown-best", "longest-reached", "moved", "capped"}
    reasons |= {"dead-band", "no-evidence", "dropped-by-command", "stopped-by-command", "promoted-by-command", "begun"}
    reference = (ROOT / "docs" / "ab-reference.md").read_text(encoding="utf-8")
    assert len(reasons) > 20
    assert {word for word in (*reasons, *AB_PHASES) if f"`{word}`" not in reference} == set()
