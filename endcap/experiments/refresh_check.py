"""A version of the same recipe on newer data, in the running one's place, and what it must show by itself first.

The rollout keeps its shoppers and its evidence, and the new version begins at the first share. On the exposures since
then it must exclude a large loss: that of the first step, `RolloutSpec.refresh_risk`. Then the share returns to where
it was, and the evidence of the whole rollout decides again.

Harm is looked for twice: in all exposures of the rollout, and in those since the newest refresh. In the first, the good
days of an older version would hide a bad newer one for long. Each has half of a metric's error budget. The k-th refresh
spends 1 / (k (k + 1)) of its half, and these add up to at most 1: so by the union bound all refreshes together, with
the rollout's own evidence, take back a version that changes nothing in at most `error_budget`.
"""

from __future__ import annotations

from datetime import datetime

from endcap.experiments.decision_parts import (
    Decision,
    Look,
    Number,
    clean_numbers,
    find_worst,
    format_change,
    format_share,
    list_numbers,
)
from endcap.experiments.rollout_state import GUARDED, RolloutState
from endcap.spec.rollout import RolloutSpec

WHOLE_PART = 0.5
"""Of a metric's error budget, for the evidence of the whole rollout; the rest is for that since a refresh."""


def find_budget_parts(policy: RolloutSpec, state: RolloutState) -> tuple[float, float]:
    """Return the parts of each metric's error budget for the whole rollout's evidence, and for that since the refresh.

    They are 0 to 1, and add up to at most 1 over all refreshes of a rollout.
    """
    if policy.while_running != "refresh" or state.phase in GUARDED:
        return 1.0, 0.0
    count = len(state.refreshed)
    return WHOLE_PART, (1 - WHOLE_PART) / (count * (count + 1)) if count else 0.0


def may_refresh(state: RolloutState, now: datetime) -> bool:
    """Tell whether a newer version may take the running one's place now.

    Not while the last one is being checked, and then not for as long as the check took: or a shop whose check takes
    longer than a day would stay at the first share for ever.
    """
    if state.refreshed_at is None or state.started is None:
        return True
    return state.checked_at is not None and now - state.checked_at >= state.checked_at - state.refreshed_at


def check_refresh(look: Look) -> Decision | None:
    """The share returns once the newer version has excluded a large loss on its own exposures."""
    state, policy = look.state, look.policy
    if not state.is_checking:
        return None
    name, needed = policy.deciding_metric.name, policy.refresh_risk
    effect = next((entry for entry in look.evidence.fresh if entry.metric == name), None)
    if effect is None or not find_worst(effect) > needed:
        worst = "any amount" if effect is None else format_change(find_worst(effect))
        sentence = (
            f"Version {state.version} took the place of version {state.refreshed[-1]}. On its own exposures {name} may "
            f"still change by {worst}. The share returns to {format_share(state.returns_to)} above "
            f"{format_change(needed)}."
        )
        numbers: dict[str, Number] = {"needed": needed, **({} if effect is None else list_numbers(effect))}
        return look.hold("refresh-checking", sentence, numbers, usual=True)
    share = max(state.returns_to, state.share)
    sentence = (
        f"On the exposures of version {state.version} alone {name} changes by {format_change(find_worst(effect))} at "
        f"worst, which is above {format_change(needed)}. The share returns to {format_share(share)}, and the evidence "
        "of the whole rollout decides."
    )
    numbers = {**list_numbers(effect), "needed": needed, "share": share}
    return Decision("raise", "rising", share, "refresh-checked", clean_numbers(numbers), sentence)
