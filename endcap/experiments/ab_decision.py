"""The decision of an A/B test: one pure function of state, evidence, policy and time.

`decide_ab` asks the rules of `ab_rules` in their order, and the first one that has something to say decides. Chance has
a part in it: the draws that tell how probable each arm is the best. Their seed follows from the state, so a decision
can be computed again to the last bit.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from endcap.experiments.ab_decision_parts import AbDecision, AbLook, find_winner, promote_winner
from endcap.experiments.ab_evidence import AbEvidence
from endcap.experiments.ab_rules import AB_RULES
from endcap.experiments.ab_state import AbPolicy, AbState, drop_challengers, end_test
from endcap.experiments.decision_parts import clean_numbers
from endcap.experiments.findings import Finding
from endcap.spec.base import format_duration

_PATIENT = ("over", "clock-back", "evidence-ahead", "popularity-only")
"""Reasons to hold that no duration ends: the clock is wrong, or a person has thrown the switch."""
_LATE = 0.1
"""An epoch that begins later than this part of an epoch is as long as any other. Else it ends when it would have."""


def decide_ab(state: AbState, evidence: AbEvidence, policy: AbPolicy, now: datetime) -> AbDecision:
    """Decide on an A/B test.

    Parameters
    ----------
    state
        Where the test stands.
    evidence
        What the look tells.
    policy
        By what it is run.
    now
        The moment of the decision, UTC.

    Returns
    -------
    AbDecision
        The same for the same values: it reads no clock and no file, and the seed of its draws follows from the state.
    """
    look = AbLook(state, evidence, policy, now)
    decision = next(decision for rule in AB_RULES if (decision := rule(look)) is not None)
    return _check_pin(look, _check_longest(look, decision))


def apply_ab_decision(state: AbState, decision: AbDecision, policy: AbPolicy, now: datetime) -> AbState:
    """Return the state after a decision. Parameters are those of `decide_ab`, with what it returned."""
    after = replace(
        state,
        reason=decision.reason,
        phase=decision.phase,
        looked=now if state.looked is None else max(state.looked, now),
        stepped=now if decision.phase != state.phase else state.stepped,
    )
    match decision.action:
        case "drop":
            return drop_challengers(after, decision.leaving, decision.reason, now)
        case "end":
            left = tuple(replace(each, left=decision.leaving.get(each.arm, each.left)) for each in state.challengers)
            return end_test(replace(after, challengers=left), decision.winner, decision.reason, now)
        case "move":
            assert decision.allocation is not None
            layout = state.layout.change(decision.allocation.weights)
            after = replace(after, layout=layout, layouts=state.layouts + 1, stepped=now)
        case "hold":
            pass
    if not decision.is_epoch_over:
        return after
    planned = state.epoch_began + policy.ab.epoch
    is_late = now - planned > _LATE * policy.ab.epoch
    return replace(after, epoch=state.epoch + 1, epoch_began=now if is_late else planned)


def _check_longest(look: AbLook, decision: AbDecision) -> AbDecision:
    """Return the decision, or the end of a test that has lasted as long as it may."""
    longest = look.policy.ab.longest
    is_open = decision.action in ("hold", "move") and decision.reason not in _PATIENT
    if not is_open or look.now - look.state.created < longest:
        return decision
    begin = f"The test has lasted {format_duration(longest)}. "
    # What cannot be trusted promotes nobody.
    winner = find_winner(look) if decision.allocation is not None and look.policy.ab.at_end == "promote" else None
    if winner is not None:
        return promote_winner(look, winner, "longest-reached", begin)
    allocation = decision.allocation
    return AbDecision(
        "end",
        "kept",
        "longest-reached",
        f"{begin}Version {look.state.stable_version} goes on alone: {_explain_keeping(look, decision)}",
        clean_numbers({**decision.numbers, "longest": longest.total_seconds(), "without": decision.reason}),
        True,
        allocation=allocation,
        seed=None if allocation is None else look.state.seed,
    )


def _check_pin(look: AbLook, decision: AbDecision) -> AbDecision:
    """Return the decision, or a hold if it would change what is served and that is pinned."""
    pinned = look.evidence.pinned
    if not pinned or decision.action == "hold":
        return decision
    is_harm = decision.action == "drop"
    sentence = f"What is served is pinned by {pinned}, so nothing changes. Without the pin: {decision.sentence}"
    numbers = {**decision.numbers, "without": decision.reason}
    return look.hold(Finding("pinned-harm" if is_harm else "pinned", sentence, numbers), usual=not is_harm)


def _explain_keeping(look: AbLook, decision: AbDecision) -> str:
    if decision.allocation is None:
        return decision.sentence
    if look.policy.ab.at_end == "keep":
        return "ab.at_end is keep. To give everyone a challenger: endcap registry promote, then endcap deploy."
    return "no challenger is shown to be better and is most probably the best."
