"""The rules of an A/B test, in their order: what is wrong comes first, then the end, then the shares."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import timedelta

from endcap.experiments.ab_decision_parts import AbDecision, AbLook, find_winner, list_chances, promote_winner
from endcap.experiments.ab_state import AbState
from endcap.experiments.decision_parts import Number, clean_numbers, format_share
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

AbRule = Callable[[AbLook], AbDecision | None]


def _say_it_is_over(look: AbLook) -> AbDecision | None:
    if not look.state.is_over:
        return None
    return look.hold(Finding("over", f"The test is over: {look.state.reason}."), usual=True)


def _check_clock(look: AbLook) -> AbDecision | None:
    state = look.state
    latest = max(time for time in (state.created, state.stepped, state.looked) if time is not None)
    return _hold(look, find_clock_fault(latest, look.evidence.until, look.now))


def _check_challengers(look: AbLook) -> AbDecision | None:
    compared = [(each.arm, each.version) for each in look.evidence.challengers]
    known = [(each.arm, each.version) for each in look.state.taking_part]
    if compared == known:
        return None
    sentence = "The evidence is about other versions than those that take part in the test."
    return look.hold(Finding("other-version", sentence, {"versions": ", ".join(version for _, version in compared)}))


def _drop_faulty(look: AbLook) -> AbDecision | None:
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


def _check_arms(look: AbLook) -> AbDecision | None:
    """Where arms or their sizes are wrong, no metric counts."""
    for each in look.evidence.challengers:
        fault = find_audit_fault(each.mismatches, each.sample_ratio)
        if fault is not None:
            numbers: dict[str, Number] = {**fault.numbers, "version": each.version}
            return look.hold(Finding(fault.reason, f"Version {each.version}: {fault.sentence}", numbers))
    return None


def _drop_harmful(look: AbLook) -> AbDecision | None:
    """A challenger that is shown to be worse than the stable version leaves."""
    budgets = look.policy.rollout.metric_budgets
    harms = {each.arm: find_harm(each.effects, budgets) for each in look.evidence.challengers}
    return _drop(look, {arm: harm for arm, harm in harms.items() if harm is not None})


def _check_switch(look: AbLook) -> AbDecision | None:
    if not look.evidence.popularity_only:
        return None
    sentence = (
        "Popularity answers everyone, so nobody meets the versions. The test goes on after endcap deploy "
        f"{look.state.recommender} --no-popularity."
    )
    return look.hold(Finding("popularity-only", sentence))


def _check_sources(look: AbLook) -> AbDecision | None:
    return _hold(look, find_unread_source(look.evidence.problems))


def _check_layout(look: AbLook) -> AbDecision | None:
    served, expected = look.evidence.served, look.state.layout.layout_id
    if served is None or served == expected:
        return None
    sentence = "Someone changed who meets which version. It is put back."
    return look.hold(Finding("layout-restored", sentence, {"found": served, "layout": expected}))


def _check_feed(look: AbLook) -> AbDecision | None:
    silence, due = look.policy.rollout.max_silence, look.state.created + look.policy.ab.look_every
    return _hold(look, find_feed_fault(look.evidence.impressions_until, look.now, silence, due))


def _check_crossing(look: AbLook) -> AbDecision | None:
    crossed = max((each.crossed for each in look.evidence.challengers), default=0.0)
    return _hold(look, find_crossing(crossed, look.policy.rollout.max_crossed))


def _end_early(look: AbLook) -> AbDecision | None:
    """A challenger that is shown to be better, and is most probably the best, serves everyone once it may."""
    ab, state = look.policy.ab, look.state
    if not look.is_epoch_over or state.epoch + 1 < ab.min_epochs or ab.at_end != "promote":
        return None
    winner = find_winner(look)
    return None if winner is None else promote_winner(look, winner, "shown-best", f"After {state.epoch + 1} epochs: ")


def _move(look: AbLook) -> AbDecision | None:
    """At the end of an epoch the arms get the shares that follow from how probable each is the best."""
    if not look.is_epoch_over:
        return None
    state, allocation = look.state, look.allocation
    best = ", ".join(
        f"version {state.name_version(arm)} {format_share(chance)}"
        for arm, chance in sorted(allocation.best.items(), key=lambda item: -item[1])
    )
    numbers = list_chances(look)
    if allocation.reason not in ("moved", "capped"):
        cause = {
            "dead-band": f"Fewer than {format_share(look.policy.ab.dead_band)} of the shoppers would move",
            "no-evidence": "Too little was seen of a version",
        }.get(allocation.reason, "It is not shown that other shares would be better")
        sentence = f"Epoch {state.epoch + 1} is over. {cause}, so the shares stay."
        if allocation.reason != "no-evidence":
            sentence += f" How probable each is the best: {best}."
        decision = look.hold(Finding(allocation.reason, sentence, numbers), usual=True)
        return replace(decision, is_epoch_over=True, allocation=allocation, seed=state.seed)
    shares = ", ".join(
        f"version {state.name_version(arm)} {format_share(weight / TOTAL_WEIGHT)}"
        for arm, weight in allocation.weights.items()
    )
    capped = " More would follow, but ab.max_moved allows no more." if allocation.reason == "capped" else ""
    sentence = (
        f"Epoch {state.epoch + 1} is over. {format_share(allocation.moved)} of the shoppers move: {shares}.{capped} "
        f"How probable each is the best: {best}."
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


def _wait(look: AbLook) -> AbDecision:
    ends = look.state.epoch_began + look.policy.ab.epoch
    left = format_duration(timedelta(seconds=max(1, round((ends - look.now).total_seconds()))))
    sentence = f"Epoch {look.state.epoch + 1} ends in {left}. Until then the shares stay."
    decision = look.hold(Finding("epoch-running", sentence, list_chances(look)), usual=True)
    return replace(decision, allocation=look.allocation, seed=look.state.seed)


def _drop(look: AbLook, findings: Mapping[Arm, Finding]) -> AbDecision | None:
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


def _hold(look: AbLook, finding: Finding | None) -> AbDecision | None:
    return None if finding is None else look.hold(finding)


AB_RULES: tuple[AbRule, ...] = (
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
