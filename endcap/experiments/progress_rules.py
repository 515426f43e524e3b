"""Rules by which a rollout goes on: the first share, larger shares, the promotion, and the guard after it."""

from __future__ import annotations

from dataclasses import replace

from endcap.experiments.decision_parts import (
    Decision,
    Look,
    Number,
    Numbers,
    clean_numbers,
    find_worst,
    format_change,
    format_seconds,
    format_share,
    list_numbers,
)
from endcap.experiments.rollout_state import promote_state
from endcap.spec.base import format_duration


def check_paused(look: Look) -> Decision | None:
    """A person's pause stops the rise of the share."""
    if look.state.phase != "paused":
        return None
    return look.hold("paused", "A person paused the rollout. It is still taken back if it does harm.", usual=True)


def check_shadow(look: Look) -> Decision | None:
    """The version answers copies of requests first."""
    state, shadow = look.state, look.policy.shadow
    if state.phase != "shadow" or shadow is None:
        return None
    left = (state.stepped + shadow - look.now).total_seconds()
    if left <= 0:
        return None
    sentence = f"The version answers copies of requests for another {format_seconds(left)}."
    return look.hold("shadowing", sentence, {"seconds_left": left}, usual=True)


def begin(look: Look) -> Decision:
    """The version gets its first share, once a person agreed where the policy wants that."""
    if look.policy.approval == "start" and "start" not in look.state.approved:
        return _wait_for_approval(look, f"a first share of {format_share(look.policy.first_share)}", {})
    share = look.policy.first_share
    sentence = f"The version gets its first share: {format_share(share)} of the shoppers."
    return Decision("raise", "rising", share, "first-share", {"share": share}, sentence)


def _wait_for_approval(look: Look, purpose: str, numbers: Numbers) -> Decision:
    sentence = f"A person must approve {purpose}: endcap rollout approve {look.state.recommender}."
    decision = look.hold("waits-for-approval", sentence, numbers)
    return replace(decision, phase="waiting-approval")


def check_promotion(look: Look) -> Decision | None:
    """The version is promoted once the deciding metric suffices."""
    effect = look.deciding
    allowed = look.policy.allowed_loss
    if effect is None or not find_worst(effect) > allowed or _list_unsettled(look):
        return None
    numbers: dict[str, Number] = {**list_numbers(effect), "allowed": allowed}
    if look.policy.approval == "promotion" and "promotion" not in look.state.approved:
        purpose = f"the promotion ({effect.metric} at worst {format_change(find_worst(effect))})"
        return _wait_for_approval(look, purpose, numbers)
    sentence = (
        f"{effect.metric} changes by {format_change(effect.effect)}, at worst {format_change(find_worst(effect))}; "
        f"the policy allows {format_change(allowed)}. The version is promoted."
    )
    phase = promote_state(look.state, look.policy, look.now).phase
    reason = "shown-superior" if look.policy.promote == "superior" else "shown-no-harm"
    return Decision("promote", phase, 1.0, reason, clean_numbers(numbers), sentence, True)


def check_raise(look: Look) -> Decision | None:
    """The share rises once a larger loss is excluded."""
    effect, share = look.deciding, look.state.share
    step = next((step for step in look.policy.share_steps if step.share > share), None)
    if step is None or effect is None:
        return None
    worst = find_worst(effect)
    numbers: dict[str, Number] = {
        **list_numbers(effect),
        "needed": step.worst,
        "share": share,
        "next_share": step.share,
    }
    if not worst > step.worst:
        sentence = (
            f"{effect.metric} may still change by {format_change(worst)}. The share rises from {format_share(share)} "
            f"to {format_share(step.share)} above {format_change(step.worst)}."
        )
        return look.hold("collecting", sentence, numbers, usual=True)
    if look.now - look.state.stepped < look.policy.look_every:
        age = format_duration(look.policy.look_every)
        sentence = f"The share rises once the version has had {format_share(share)} for {age}."
        return look.hold("too-early", sentence, numbers, usual=True)
    sentence = (
        f"{effect.metric} changes by {format_change(worst)} at worst, which is above {format_change(step.worst)}. "
        f"The share rises from {format_share(share)} to {format_share(step.share)}."
    )
    return Decision("raise", "rising", step.share, "risk-excluded", clean_numbers(numbers), sentence)


def collect(look: Look) -> Decision:
    """Nothing is decided yet."""
    effect = look.deciding
    if effect is None:
        name = look.policy.deciding_metric.name
        return look.hold("no-evidence", f"Nothing is known of {name} yet.", {"metric": name}, usual=True)
    numbers: dict[str, Number] = {**list_numbers(effect), "allowed": look.policy.allowed_loss}
    unsettled = _list_unsettled(look)
    if find_worst(effect) > look.policy.allowed_loss and unsettled:
        names = ", ".join(unsettled)
        sentence = f"{effect.metric} suffices for a promotion. It waits until windows are over for: {names}."
        return look.hold("metric-unsettled", sentence, {"metrics": names, **numbers}, usual=True)
    sentence = (
        f"{effect.metric} may still change by {format_change(find_worst(effect))}. The version is promoted above "
        f"{format_change(look.policy.allowed_loss)}."
    )
    return look.hold("deciding", sentence, numbers, usual=True)


def check_guard_over(look: Look) -> Decision | None:
    """The previous version loses its share after the guard's time."""
    state, lasts = look.state, look.policy.guard.lasts
    if state.phase != "guarding" or look.now - state.stepped < lasts:
        return None
    sentence = (
        f"The previous version kept a share for {format_duration(lasts)} after the promotion. It is no longer served."
    )
    return replace(look.hold("guard-over", sentence, usual=True), phase="promoted")


def watch(look: Look) -> Decision:
    """Nothing speaks against the champion."""
    return look.hold("guarded", f"Nothing speaks against version {look.state.version}.", usual=True)


def _list_unsettled(look: Look) -> list[str]:
    """Return the metrics of which no window of the rollout is over yet."""
    started, names = look.state.started, []
    for metric in look.policy.metrics:
        effect = look.find_effect(metric.name)
        until = None if effect is None else effect.complete_until
        if until is None or started is None or until <= started:
            names.append(metric.name)
    return names
