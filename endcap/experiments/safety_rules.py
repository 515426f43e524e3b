"""Rules of a rollout that take a version back, or hold since something cannot be trusted."""

from __future__ import annotations

import math
from dataclasses import replace

from endcap.experiments.decision_parts import Decision, Look, Number, format_change, format_share
from endcap.experiments.evidence import Comparator
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
from endcap.experiments.refresh_check import find_budget_parts

_AGAINST: dict[Comparator, str] = {
    "stable": "the stable version",
    "previous": "the previous version",
    "baseline": "the most popular items",
}


def check_clock(look: Look) -> Decision | None:
    """A clock that was set back, or one ahead of it, decides nothing."""
    state = look.state
    latest = max(time for time in (state.created, state.stepped, state.looked) if time is not None)
    return _hold(look, find_clock_fault(latest, look.evidence.until, look.now))


def check_version(look: Look) -> Decision | None:
    """Evidence on another version or arm decides nothing."""
    evidence, state = look.evidence, look.state
    if (evidence.version, evidence.arm) == (state.version, state.arm):
        return None
    sentence = (
        f"The evidence is about version {evidence.version} as {evidence.arm}, and the rollout is about version "
        f"{state.version} as {state.arm}."
    )
    return look.hold("other-version", sentence, {"evidence_version": evidence.version, "evidence_arm": evidence.arm})


def check_guardrails(look: Look) -> Decision | None:
    """A broken guardrail takes the version back."""
    return _roll_back(look, find_broken_guardrail(look.evidence.guardrails, look.policy))


def check_audit(look: Look) -> Decision | None:
    """Where arms or their sizes are wrong, no metric counts."""
    return _hold(look, find_audit_fault(look.evidence.mismatches, look.evidence.sample_ratio))


def _find_harm(look: Look) -> Finding | None:
    """Find the first metric that is shown to be harmed, in the whole rollout or since a refresh."""
    budgets, (kept, fresh) = look.policy.metric_budgets, find_budget_parts(look.policy, look.state)
    harm = find_harm(look.evidence.effects, {metric: kept * budget for metric, budget in budgets.items()})
    if harm is not None or not fresh:
        return harm
    harm = find_harm(look.evidence.fresh, {metric: fresh * budget for metric, budget in budgets.items()})
    if harm is None:
        return None
    sentence = f"{harm.sentence} It is measured since version {look.state.version} took the place."
    return Finding(harm.reason, sentence, {**harm.numbers, "since": look.state.refreshed[-1]})


def check_harm(look: Look) -> Decision | None:
    """A metric that is shown to be harmed takes the version back."""
    return _roll_back(look, _find_harm(look))


def check_guarded_harm(look: Look) -> Decision | None:
    """A champion that is shown to harm a metric is taken back."""
    harm = _find_harm(look)
    if harm is None:
        return None
    sentence = f"{harm.sentence} It is measured against {_AGAINST[look.evidence.against]}."
    return look.roll_back(harm.reason, sentence, harm.numbers)


def check_history(look: Look) -> Decision | None:
    """A champion whose metric stays below the shop's own past is told of, or taken back if the policy says so."""
    breach = next((entry for entry in look.evidence.history if entry.weeks and entry.cusum >= entry.limit), None)
    if breach is None:
        return None
    numbers: dict[str, Number] = {
        "metric": breach.metric,
        "change": breach.change,
        "cusum": breach.cusum,
        "limit": breach.limit,
        "weeks": breach.weeks,
    }
    sentence = (
        f"{breach.metric} changes by {format_change(breach.change)} against the same hours of {breach.weeks} earlier "
        "weeks."
    )
    if look.policy.guard.on_breach == "rollback":
        return look.roll_back("history-breach", sentence, numbers)
    sentence += " History alone cannot tell a worse version from a worse week, so nothing was changed."
    return look.hold("history-breach", sentence, numbers)


def check_edited_share(look: Look) -> Decision | None:
    """A share that a person changed is adopted or put back."""
    actual, share = look.evidence.share, look.state.share
    if actual is None or math.isclose(actual, share, abs_tol=1e-6):
        return None
    since = look.evidence.share_since
    if since is not None and since < look.state.stepped:
        sentence = (
            f"The last step was not carried out. {format_share(share)} takes the place of {format_share(actual)}."
        )
        return look.hold("share-pending", sentence, {"found": actual, "share": share}, usual=True)
    if look.policy.hand_edited == "restore":
        sentence = f"Someone changed the share to {format_share(actual)}. It is put back to {format_share(share)}."
        return look.hold("share-restored", sentence, {"found": actual, "share": share})
    outcome = "is paused until it is resumed" if actual <= 0 else "goes on from there"
    sentence = f"Someone changed the share from {format_share(share)} to {format_share(actual)}. The rollout {outcome}."
    decision = look.hold("share-adopted", sentence, {"found": actual, "share": share})
    return replace(decision, share=actual, phase="paused" if actual <= 0 else decision.phase)


def check_switch(look: Look) -> Decision | None:
    """Nothing goes on while popularity answers everyone."""
    if not look.evidence.popularity_only:
        return None
    sentence = (
        "Popularity answers everyone, so nobody meets the version. The rollout goes on after endcap deploy "
        f"{look.state.recommender} --no-popularity."
    )
    return look.hold("popularity-only", sentence)


def check_sources(look: Look) -> Decision | None:
    """The share does not rise on half of the evidence."""
    return _hold(look, find_unread_source(look.evidence.problems))


def check_feed(look: Look) -> Decision | None:
    """Without impressions nothing is known of shoppers."""
    begun, policy = look.state.started, look.policy
    due = look.now if begun is None else begun + policy.look_every
    return _hold(look, find_feed_fault(look.evidence.impressions_until, look.now, policy.max_silence, due))


def check_crossed(look: Look) -> Decision | None:
    """Shoppers who meet both arms blur the difference."""
    return _hold(look, find_crossing(look.evidence.crossed, look.policy.max_crossed))


def check_blind_guardrails(look: Look) -> Decision | None:
    """The share does not rise before each guardrail has seen a request."""
    events = {entry.guardrail: entry.events for entry in look.evidence.guardrails}
    blind = [name for name in look.policy.guardrail_budgets if events.get(name, 0) <= 0]
    if not blind:
        return None
    names = ", ".join(blind)
    return look.hold("guardrail-blind", f"No request has been seen for: {names}.", {"guardrails": names}, usual=True)


def _hold(look: Look, finding: Finding | None) -> Decision | None:
    return None if finding is None else look.hold(*finding)


def _roll_back(look: Look, finding: Finding | None) -> Decision | None:
    return None if finding is None else look.roll_back(*finding)
