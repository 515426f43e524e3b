"""The decision of a rollout: one pure function of state, evidence, policy and time.

`decide` asks rules in a fixed order, and the first one that has something to say decides. What can only be a fault of
the measurement holds; what an arm shows despite that takes the version back.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from endcap.experiments import progress_rules, safety_rules
from endcap.experiments.decision_parts import Decision, Look, Number, Rule
from endcap.experiments.evidence import RolloutEvidence
from endcap.experiments.refresh_check import check_refresh
from endcap.experiments.rollout_state import GUARDED, RolloutState, promote_state
from endcap.spec.base import format_duration
from endcap.spec.rollout import RolloutSpec

__all__ = ["Decision", "apply_decision", "decide"]


def decide(state: RolloutState, evidence: RolloutEvidence, policy: RolloutSpec, now: datetime) -> Decision:
    """Decide on a rollout.

    Parameters
    ----------
    state
        Where the rollout stands.
    evidence
        What the look tells.
    policy
        The section `rollout:` of the recommender.
    now
        The moment of the decision, UTC.

    Returns
    -------
    Decision
        The same for the same values: it reads no clock, file or random number.
    """
    look = Look(state, evidence, policy, now)
    decisions = (rule(look) for rule in _list_rules(state))
    decision = _check_duration(look, next(decision for decision in decisions if decision is not None))
    return _check_pin(look, decision)


def apply_decision(state: RolloutState, decision: Decision, policy: RolloutSpec, now: datetime) -> RolloutState:
    """Return the state after a decision.

    Parameters
    ----------
    state
        The state that was decided on.
    decision
        What `decide` returned for it.
    policy, now
        As in `decide`.
    """
    after = replace(state, reason=decision.reason, looked=now if state.looked is None else max(state.looked, now))
    if decision.action == "promote":
        return promote_state(after, policy, now)
    has_changed = (decision.phase, decision.share) != (state.phase, state.share)
    if decision.action == "raise":
        checked = now if state.is_checking else state.checked_at
        after = replace(after, started=state.started or now, steps=state.steps + 1, checked_at=checked)
    return replace(after, phase=decision.phase, share=decision.share, stepped=now if has_changed else state.stepped)


def _say_it_is_over(look: Look) -> Decision:
    return look.hold("over", f"The rollout is {look.state.phase}.", usual=True)


_BEFORE_START: tuple[Rule, ...] = (
    safety_rules.check_clock,
    safety_rules.check_version,
    safety_rules.check_guardrails,
    safety_rules.check_switch,
    safety_rules.check_sources,
    progress_rules.check_paused,
    progress_rules.check_shadow,
    progress_rules.begin,
)
_RUNNING: tuple[Rule, ...] = (
    safety_rules.check_clock,
    safety_rules.check_version,
    safety_rules.check_guardrails,
    safety_rules.check_audit,
    safety_rules.check_harm,
    safety_rules.check_edited_share,
    safety_rules.check_switch,
    safety_rules.check_sources,
    safety_rules.check_feed,
    safety_rules.check_crossed,
    progress_rules.check_paused,
    safety_rules.check_blind_guardrails,
    check_refresh,
    progress_rules.check_promotion,
    progress_rules.check_raise,
    progress_rules.collect,
)
_GUARD: tuple[Rule, ...] = (
    safety_rules.check_clock,
    safety_rules.check_version,
    safety_rules.check_guardrails,
    safety_rules.check_audit,
    safety_rules.check_guarded_harm,
    safety_rules.check_history,
    safety_rules.check_switch,
    safety_rules.check_sources,
    safety_rules.check_feed,
    progress_rules.check_guard_over,
    progress_rules.watch,
)
_PATIENT = ("clock-back", "paused", "popularity-only", "waits-for-approval")
"""Reasons to hold that no duration ends: the clock is wrong, or a person is asked or has thrown the switch."""


def _list_rules(state: RolloutState) -> tuple[Rule, ...]:
    if state.is_over:
        return (_say_it_is_over,)
    if state.phase in GUARDED:
        return _GUARD
    return _BEFORE_START if state.started is None else _RUNNING


def _check_pin(look: Look, decision: Decision) -> Decision:
    """Return the decision, or a hold if it would change what is served and that is pinned."""
    pinned, state = look.evidence.pinned, look.state
    is_still = decision.action == "hold" and decision.share == state.share and decision.phase != "promoted"
    if not pinned or state.is_over or (is_still or (state.phase == "promoted" and decision.action == "hold")):
        return decision
    is_harm = decision.action == "roll_back"
    sentence = f"What is served is pinned by {pinned}, so nothing changes. Without the pin: {decision.sentence}"
    numbers: dict[str, Number] = {**decision.numbers, "without": decision.reason}
    return look.hold("pinned-harm" if is_harm else "pinned", sentence, numbers, usual=not is_harm)


def _check_duration(look: Look, decision: Decision) -> Decision:
    """Return the decision, or what the policy says of a rollout that has lasted too long without one."""
    started, longest = look.state.started, look.policy.longest
    is_running = started is not None and not look.state.is_over and look.state.phase not in GUARDED
    if not is_running or decision.action != "hold" or decision.reason in _PATIENT or look.state.phase == "paused":
        return decision
    assert started is not None
    if look.now - started < longest:
        return decision
    numbers: dict[str, Number] = {**decision.numbers, "longest": longest.total_seconds(), "without": decision.reason}
    sentence = f"Nothing was decided within {format_duration(longest)}. {decision.sentence}"
    if look.policy.at_longest == "roll_back":
        return look.roll_back("longest-reached", sentence, numbers)
    return replace(look.hold("longest-reached", sentence, numbers), share=decision.share)
