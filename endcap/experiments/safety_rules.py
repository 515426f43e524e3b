"""Rules of a rollout that take a version back, or hold since something cannot be trusted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from endcap.experiments.decision_parts import (
    Decision,
    Look,
    Number,
    find_best,
    format_change,
    format_level,
    format_seconds,
    format_share,
    list_numbers,
)
from endcap.experiments.evidence import Comparator, EffectEvidence
from endcap.experiments.refresh_check import find_budget_parts
from endcap.spec.base import format_duration

SAMPLE_RATIO_BUDGET = 0.001
"""How often shoppers who come to the arms as the split says may look as if they did not."""
_CLOCK_TOLERANCE = timedelta(minutes=1)
"""Two machines' clocks may differ by this."""
_AGAINST: dict[Comparator, str] = {
    "stable": "the stable version",
    "previous": "the previous version",
    "baseline": "the most popular items",
}


def check_clock(look: Look) -> Decision | None:
    """A clock that was set back, or one ahead of it, decides nothing."""
    state, evidence, now = look.state, look.evidence, look.now
    latest = max(time for time in (state.created, state.stepped, state.looked) if time is not None)
    if latest - now > _CLOCK_TOLERANCE:
        seconds = (latest - now).total_seconds()
        sentence = f"The clock stands {seconds:.0f} s before the last look. The rollout waits until it has caught up."
        return look.hold("clock-back", sentence, {"seconds": seconds})
    if evidence.until - now > _CLOCK_TOLERANCE:
        seconds = (evidence.until - now).total_seconds()
        sentence = f"The evidence is {seconds:.0f} s ahead of the clock. Check the clocks of the machines."
        return look.hold("evidence-ahead", sentence, {"seconds": seconds})
    return None


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
    budgets = look.policy.guardrail_budgets
    for guardrail in look.evidence.guardrails:
        budget = budgets.get(guardrail.guardrail)
        if budget is None or guardrail.events <= 0 or not guardrail.e_value >= 1 / budget:
            continue
        observed, reference = (
            format_level(look.policy, guardrail.guardrail, value) for value in (guardrail.observed, guardrail.reference)
        )
        sentence = (
            f"The guardrail {guardrail.guardrail} is broken: {observed} was observed, at most {reference} is allowed. "
            f"By chance this happens in at most {format_share(budget)} of the rollouts."
        )
        numbers: dict[str, Number] = {
            "guardrail": guardrail.guardrail,
            "observed": guardrail.observed,
            "reference": guardrail.reference,
            "e_value": guardrail.e_value,
            "needed": 1 / budget,
            "events": guardrail.events,
        }
        return look.roll_back("guardrail-broken", sentence, numbers)
    return None


def check_audit(look: Look) -> Decision | None:
    """Where arms or their sizes are wrong, no metric counts."""
    evidence = look.evidence
    if evidence.mismatches > 0:
        sentence = (
            f"{evidence.mismatches} exposures name an arm that does not follow from salt and shopper. What shoppers "
            "did cannot be trusted until the cause is known."
        )
        return look.hold("audit-mismatch", sentence, {"mismatches": evidence.mismatches})
    needed = 1 / SAMPLE_RATIO_BUDGET
    if evidence.sample_ratio >= needed:
        sentence = (
            f"Shoppers do not come to the arms as the split says (e-value {evidence.sample_ratio:.4g}, at least "
            f"{needed:.0f}). Impressions of one arm are lost, or counted twice."
        )
        return look.hold("sample-ratio", sentence, {"e_value": evidence.sample_ratio, "needed": needed})
    return None


def _find_harm(look: Look) -> tuple[str, str, dict[str, Number]] | None:
    """Return reason, sentence and numbers of the first metric that is shown to be harmed."""
    kept, fresh = find_budget_parts(look.policy, look.state)
    harm = _find_harmed(look, look.evidence.effects, kept)
    if harm is not None or not fresh:
        return harm
    harm = _find_harmed(look, look.evidence.fresh, fresh)
    if harm is None:
        return None
    reason, sentence, numbers = harm
    numbers["since"] = look.state.refreshed[-1]
    return reason, f"{sentence} It is measured since version {look.state.version} took the place.", numbers


def _find_harmed(
    look: Look, effects: Sequence[EffectEvidence], part: float
) -> tuple[str, str, dict[str, Number]] | None:
    """Look for harm in some effects, which have a part of each metric's error budget."""
    budgets = look.policy.metric_budgets
    for effect in effects:
        if effect.metric not in budgets:
            continue
        budget = part * budgets[effect.metric]
        numbers = list_numbers(effect)
        chance = f"By chance this happens in at most {format_share(budget)} of the rollouts."
        if find_best(effect) < 0:
            bound = effect.upper if effect.better else effect.lower
            side = "at best" if effect.better else "at least"
            sentence = (
                f"{effect.metric} changes by {format_change(effect.effect)}, {side} {format_change(bound)}. {chance}"
            )
            return "metric-harmed", sentence, numbers
        needed = 1 / budget
        if effect.harm >= needed:
            sentence = (
                f"{effect.metric} is harmed: few shoppers suffice to exclude chance (e-value {effect.harm:.4g}, at "
                f"least {needed:.0f}). {chance}"
            )
            return "metric-harmed-early", sentence, {**numbers, "e_value": effect.harm, "needed": needed}
    return None


def check_harm(look: Look) -> Decision | None:
    """A metric that is shown to be harmed takes the version back."""
    harm = _find_harm(look)
    return None if harm is None else look.roll_back(harm[0], harm[1], harm[2])


def check_guarded_harm(look: Look) -> Decision | None:
    """A champion that is shown to harm a metric is taken back."""
    harm = _find_harm(look)
    if harm is None:
        return None
    reason, sentence, numbers = harm
    sentence = f"{sentence} It is measured against {_AGAINST[look.evidence.against]}."
    return look.roll_back(reason, sentence, numbers)


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
    problems = look.evidence.problems
    if not problems:
        return None
    words = "; ".join(f"{source}: {reason}" for source, reason in sorted(problems.items()))
    return look.hold("source-unreadable", f"A source cannot be read. {words}", dict(problems))


def check_feed(look: Look) -> Decision | None:
    """Without impressions nothing is known of shoppers."""
    newest, silence = look.evidence.impressions_until, look.policy.max_silence
    if newest is None:
        sentence = (
            "No impression of the rollout has been seen. Send impressions with their ranking_id to the intake; until "
            "then the share does not rise."
        )
        return look.hold("no-feed", sentence)
    if look.now - newest > silence:
        age = (look.now - newest).total_seconds()
        sentence = (
            f"The newest impression is {format_seconds(age)} old, more than {format_duration(silence)}. The feed "
            "stands still."
        )
        return look.hold("feed-silent", sentence, {"seconds": age, "allowed": silence.total_seconds()})
    return None


def check_crossed(look: Look) -> Decision | None:
    """Shoppers who meet both arms blur the difference."""
    crossed, most = look.evidence.crossed, look.policy.max_crossed
    if crossed <= most:
        return None
    sentence = (
        f"{format_share(crossed)} of the shoppers were seen in both arms, more than {format_share(most)}. Their id "
        "changes, as after a login, and the difference between the arms is blurred."
    )
    return look.hold("crossed-shoppers", sentence, {"crossed": crossed, "allowed": most})


def check_blind_guardrails(look: Look) -> Decision | None:
    """The share does not rise before each guardrail has seen a request."""
    events = {entry.guardrail: entry.events for entry in look.evidence.guardrails}
    blind = [name for name in look.policy.guardrail_budgets if events.get(name, 0) <= 0]
    if not blind:
        return None
    names = ", ".join(blind)
    return look.hold("guardrail-blind", f"No request has been seen for: {names}.", {"guardrails": names}, usual=True)
