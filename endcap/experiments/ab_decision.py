"""The decision of an A/B test: one pure function of state, evidence, policy and time.

`decide_ab` asks rules in a fixed order, and the first one that has something to say decides. Chance has a part in it:
the draws that tell how probable each arm is the best. Their seed follows from the state, so a decision can be computed
again to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, Literal, Self

from endcap.experiments.ab_evidence import AbEvidence, ChallengerEvidence
from endcap.experiments.ab_state import AbPhase, AbPolicy, AbState, drop_challengers, end_test
from endcap.experiments.allocation import Allocation, allocate
from endcap.experiments.decision_parts import (
    Number,
    Numbers,
    clean_numbers,
    find_worst,
    format_change,
    format_share,
)
from endcap.experiments.evidence import EffectEvidence
from endcap.experiments.findings import (
    Finding,
    find_audit_fault,
    find_broken_guardrail,
    find_clock_fault,
    find_crossing,
    find_feed_fault,
    find_harm,
    find_unread_source,
)
from endcap.experiments.splits import TOTAL_WEIGHT, Arm
from endcap.spec.base import format_duration

AbDecisionAction = Literal["move", "hold", "drop", "end"]
_PATIENT = ("over", "clock-back", "evidence-ahead", "popularity-only")
"""Reasons to hold that no duration ends: the clock is wrong, or a person has thrown the switch."""
_LATE = 0.1
"""An epoch that begins later than this part of an epoch is as long as any other. Else it ends when it would have."""


@dataclass(frozen=True)
class AbDecision:
    """What is to be done with a test, and why.

    Attributes
    ----------
    action
        move: the arms get other shares; hold: nothing changes; drop: challengers leave; end: the test is over.
    phase
        The test's phase from now on.
    reason
        A code of `docs/ab-reference.md`.
    numbers
        What the reason rests on: finite numbers and texts; None for what is not known.
    sentence
        The reason for a person.
    alert
        Whether a person should look. A reason that lasts alerts once.
    is_epoch_over
        Whether the present epoch is over and the next one begins.
    leaving
        Why each challenger leaves, by its arm.
    winner
        The version that serves everyone from now on, if the test ends; empty: the stable one.
    allocation
        How probable each arm is the best at this look, and the shares that follow; None where a fault came first.
    seed
        Of its draws.
    """

    action: AbDecisionAction
    phase: AbPhase
    reason: str
    sentence: str
    numbers: Numbers = field(default_factory=dict)
    alert: bool = False
    is_epoch_over: bool = False
    leaving: Mapping[Arm, str] = field(default_factory=dict)
    winner: str = ""
    allocation: Allocation | None = None
    seed: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the decision as JSON values."""
        allocation = None if self.allocation is None else asdict(self.allocation)
        return {**vars(self), "numbers": dict(self.numbers), "leaving": dict(self.leaving), "allocation": allocation}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Read what `to_json` returned."""
        allocation = document["allocation"]
        return cls(**{**document, "allocation": None if allocation is None else Allocation(**allocation)})


@dataclass(frozen=True)
class _Look:
    """What rules look at."""

    state: AbState
    evidence: AbEvidence
    policy: AbPolicy
    now: datetime

    @cached_property
    def allocation(self) -> Allocation:
        estimates = [each.estimate for each in self.evidence.challengers]
        return allocate(self.state.weights, estimates, self.policy.ab, self.state.seed)

    @property
    def is_epoch_over(self) -> bool:
        return self.now >= self.state.epoch_began + self.policy.ab.epoch

    def hold(self, finding: Finding, *, usual: bool = False) -> AbDecision:
        """Make a decision that changes nothing. usual: nothing is wrong, so no person need look."""
        phase: AbPhase = self.state.phase
        if not self.state.is_over:
            phase = "running" if usual else "holding"
        alert = not usual and finding.reason != self.state.reason
        return AbDecision("hold", phase, finding.reason, finding.sentence, clean_numbers(finding.numbers), alert)

    def find_effect(self, challenger: ChallengerEvidence) -> EffectEvidence | None:
        """Return a challenger's effect on the deciding metric."""
        name = self.policy.rollout.deciding_metric.name
        return next((effect for effect in challenger.effects if effect.metric == name), None)


_Rule = Callable[[_Look], AbDecision | None]


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
    look = _Look(state, evidence, policy, now)
    decision = next(decision for rule in _RULES if (decision := rule(look)) is not None)
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


def _say_it_is_over(look: _Look) -> AbDecision | None:
    if not look.state.is_over:
        return None
    return look.hold(Finding("over", f"The test is over: {look.state.reason}."), usual=True)


def _check_clock(look: _Look) -> AbDecision | None:
    state = look.state
    latest = max(time for time in (state.created, state.stepped, state.looked) if time is not None)
    return _hold(look, find_clock_fault(latest, look.evidence.until, look.now))


def _check_challengers(look: _Look) -> AbDecision | None:
    compared = [(each.arm, each.version) for each in look.evidence.challengers]
    known = [(each.arm, each.version) for each in look.state.taking_part]
    if compared == known:
        return None
    sentence = "The evidence is about other versions than those that take part in the test."
    return look.hold(Finding("other-version", sentence, {"versions": ", ".join(version for _, version in compared)}))


def _drop_faulty(look: _Look) -> AbDecision | None:
    """A broken guardrail, or a version that cannot be served any more, ends a challenger's part."""
    findings: dict[Arm, Finding] = {}
    for each in look.evidence.challengers:
        broken = find_broken_guardrail(each.guardrails, look.policy.rollout)
        if broken is not None:
            findings[each.arm] = broken
        elif each.registered == "absent":
            findings[each.arm] = Finding("version-vanished", "It is no longer in the registry.")
        elif each.registered == "rejected":
            findings[each.arm] = Finding("version-rejected", "It was rejected in the registry.")
    return _drop(look, findings)


def _check_arms(look: _Look) -> AbDecision | None:
    """Where arms or their sizes are wrong, no metric counts."""
    for each in look.evidence.challengers:
        fault = find_audit_fault(each.mismatches, each.sample_ratio)
        if fault is not None:
            numbers: dict[str, Number] = {**fault.numbers, "version": each.version}
            return look.hold(Finding(fault.reason, f"Version {each.version}: {fault.sentence}", numbers))
    return None


def _drop_harmful(look: _Look) -> AbDecision | None:
    """A challenger that is shown to be worse than the stable version leaves."""
    budgets = look.policy.rollout.metric_budgets
    harms = {each.arm: find_harm(each.effects, budgets) for each in look.evidence.challengers}
    return _drop(look, {arm: harm for arm, harm in harms.items() if harm is not None})


def _check_switch(look: _Look) -> AbDecision | None:
    if not look.evidence.popularity_only:
        return None
    sentence = (
        "Popularity answers everyone, so nobody meets the versions. The test goes on after endcap deploy "
        f"{look.state.recommender} --no-popularity."
    )
    return look.hold(Finding("popularity-only", sentence))


def _check_sources(look: _Look) -> AbDecision | None:
    return _hold(look, find_unread_source(look.evidence.problems))


def _check_layout(look: _Look) -> AbDecision | None:
    served, expected = look.evidence.served, look.state.layout.layout_id
    if served is None or served == expected:
        return None
    sentence = "Someone changed who meets which version. It is put back."
    return look.hold(Finding("layout-restored", sentence, {"found": served, "layout": expected}))


def _check_feed(look: _Look) -> AbDecision | None:
    silence, due = look.policy.rollout.max_silence, look.state.created + look.policy.ab.look_every
    return _hold(look, find_feed_fault(look.evidence.impressions_until, look.now, silence, due))


def _check_crossing(look: _Look) -> AbDecision | None:
    crossed = max((each.crossed for each in look.evidence.challengers), default=0.0)
    return _hold(look, find_crossing(crossed, look.policy.rollout.max_crossed))


def _end_early(look: _Look) -> AbDecision | None:
    """A challenger that is shown to be better, and is most probably the best, serves everyone once it may."""
    ab, state = look.policy.ab, look.state
    if not look.is_epoch_over or state.epoch + 1 < ab.min_epochs or ab.at_end != "promote":
        return None
    winner = _find_winner(look)
    return None if winner is None else _promote(look, winner, "shown-best", f"After {state.epoch + 1} epochs: ")


def _move(look: _Look) -> AbDecision | None:
    """At the end of an epoch the arms get the shares that follow from how probable each is the best."""
    if not look.is_epoch_over:
        return None
    state, allocation = look.state, look.allocation
    best = ", ".join(
        f"version {state.name_version(arm)} with {format_share(chance)}" for arm, chance in allocation.best.items()
    )
    numbers = _list_chances(look)
    if allocation.reason not in ("moved", "capped"):
        cause = {
            "dead-band": f"Fewer than {format_share(look.policy.ab.dead_band)} of the shoppers would move",
            "no-evidence": "Too little was seen of a version",
        }.get(allocation.reason, "It is not shown that other shares would be better")
        sentence = f"Epoch {state.epoch + 1} is over. {cause}, so the shares stay."
        if allocation.reason != "no-evidence":
            sentence += f" The best is {best}."
        decision = look.hold(Finding(allocation.reason, sentence, numbers), usual=True)
        return replace(decision, is_epoch_over=True, allocation=allocation, seed=state.seed)
    shares = ", ".join(
        f"version {state.name_version(arm)} {format_share(weight / TOTAL_WEIGHT)}"
        for arm, weight in allocation.weights.items()
    )
    capped = " More would follow, but ab.max_moved allows no more." if allocation.reason == "capped" else ""
    sentence = (
        f"Epoch {state.epoch + 1} is over. {format_share(allocation.moved)} of the shoppers move: {shares}.{capped} "
        f"The best is {best}."
    )
    return AbDecision(
        "move",
        "running",
        allocation.reason,
        sentence,
        clean_numbers({**numbers, "moved": allocation.moved}),
        is_epoch_over=True,
        allocation=allocation,
        seed=state.seed,
    )


def _wait(look: _Look) -> AbDecision:
    ends = look.state.epoch_began + look.policy.ab.epoch
    left = format_duration(timedelta(seconds=max(1, round((ends - look.now).total_seconds()))))
    sentence = f"Epoch {look.state.epoch + 1} ends in {left}. Until then the shares stay."
    decision = look.hold(Finding("epoch-running", sentence, _list_chances(look)), usual=True)
    return replace(decision, allocation=look.allocation, seed=look.state.seed)


_RULES: tuple[_Rule, ...] = (
    _say_it_is_over,
    _check_clock,
    _check_challengers,
    _drop_faulty,
    _check_arms,
    _drop_harmful,
    _check_switch,
    _check_sources,
    _check_layout,
    _check_feed,
    _check_crossing,
    _end_early,
    _move,
    _wait,
)


def _check_longest(look: _Look, decision: AbDecision) -> AbDecision:
    """Return the decision, or the end of a test that has lasted as long as it may."""
    longest = look.policy.ab.longest
    is_open = decision.action in ("hold", "move") and decision.reason not in _PATIENT
    if not is_open or look.now - look.state.created < longest:
        return decision
    begin = f"The test has lasted {format_duration(longest)}. "
    # What cannot be trusted promotes nobody.
    winner = _find_winner(look) if decision.allocation is not None and look.policy.ab.at_end == "promote" else None
    if winner is not None:
        return _promote(look, winner, "longest-reached", begin)
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


def _check_pin(look: _Look, decision: AbDecision) -> AbDecision:
    """Return the decision, or a hold if it would change what is served and that is pinned."""
    pinned = look.evidence.pinned
    if not pinned or decision.action == "hold":
        return decision
    is_harm = decision.action == "drop"
    sentence = f"What is served is pinned by {pinned}, so nothing changes. Without the pin: {decision.sentence}"
    numbers = {**decision.numbers, "without": decision.reason}
    return look.hold(Finding("pinned-harm" if is_harm else "pinned", sentence, numbers), usual=not is_harm)


def _explain_keeping(look: _Look, decision: AbDecision) -> str:
    if decision.allocation is None:
        return decision.sentence
    if look.policy.ab.at_end == "keep":
        return "ab.at_end is keep. To give everyone a challenger: endcap registry promote, then endcap deploy."
    return "no challenger is shown to be better and is most probably the best."


def _find_winner(look: _Look) -> ChallengerEvidence | None:
    """Return the challenger that is most probably the best, if its band against the stable version lies above 0."""
    best = look.allocation.best
    leader = max(best, key=lambda arm: best[arm])
    challenger = look.evidence.find(leader)
    effect = None if challenger is None else look.find_effect(challenger)
    return challenger if effect is not None and find_worst(effect) > 0 else None


def _promote(look: _Look, winner: ChallengerEvidence, reason: str, begin: str) -> AbDecision:
    effect = look.find_effect(winner)
    assert effect is not None
    sentence = (
        f"{begin}version {winner.version} is the best with a probability of "
        f"{format_share(look.allocation.best[winner.arm])}, and changes {effect.metric} by "
        f"{format_change(effect.effect)}, at worst {format_change(find_worst(effect))}. It serves everyone."
    )
    return AbDecision(
        "end",
        "promoted",
        reason,
        sentence[0].upper() + sentence[1:],
        clean_numbers({**_list_chances(look), "lower": effect.lower, "upper": effect.upper}),
        True,
        winner=winner.version,
        allocation=look.allocation,
        seed=look.state.seed,
    )


def _drop(look: _Look, findings: Mapping[Arm, Finding]) -> AbDecision | None:
    """Make the decision by which some challengers leave; it ends the test if nobody is left."""
    if not findings:
        return None
    leaving = {arm: finding.reason for arm, finding in findings.items()}
    reason = next(iter(leaving.values()))
    sentence = " ".join(_describe_leaving(look.state, findings))
    numbers: dict[str, Number] = dict(next(iter(findings.values())).numbers)
    numbers["versions"] = ", ".join(look.state.name_version(arm) for arm in leaving)
    decision = AbDecision("drop", "running", reason, sentence, clean_numbers(numbers), True, leaving=leaving)
    if len(findings) < len(look.state.taking_part):
        return decision
    sentence += f" No challenger is left. Version {look.state.stable_version} goes on alone."
    return replace(decision, action="end", phase="kept", sentence=sentence)


def _describe_leaving(state: AbState, findings: Mapping[Arm, Finding]) -> Iterator[str]:
    for arm, finding in findings.items():
        yield f"Version {state.name_version(arm)} leaves the test. {finding.sentence}"


def _list_chances(look: _Look) -> dict[str, Number]:
    state, best = look.state, look.allocation.best
    return {f"best_{state.name_version(arm)}": chance for arm, chance in best.items()}


def _hold(look: _Look, finding: Finding | None) -> AbDecision | None:
    return None if finding is None else look.hold(finding)
