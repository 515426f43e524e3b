"""From sums to evidence: the effect of an arm on a metric, with bounds that hold at every look together.

`endcap.experiments.effect_state` makes the sums.
"""

from __future__ import annotations

import math
from datetime import datetime

from endcap.experiments.effect_state import PILOT, EffectSums
from endcap.experiments.evidence import EffectEvidence
from endcap.experiments.sequential import compute_boundary, find_crossing_variance, mix_wealth, tune_mixture

HARM_LOSS = 0.2
"""The bound against harm is tightest when it is to show that a fifth of a metric is lost."""
RISK_SHOPPERS = 1_500
"""The bound that lets shares rise is tightest when so many shoppers met the arm."""
FEWEST_EVENTS = 30.0
"""The bound on a smaller arm's gain needs so many visits with an outcome in that arm, as the probabilities say."""
SMALL_SAMPLE_PART = 0.1
"""The part of a metric's error budget that the e-process for small samples may spend."""


def judge_effect(
    sums: EffectSums,
    *,
    metric: str,
    arm: str = "canary",
    against: str = "stable",
    better: bool = True,
    budget: float,
    promotion_budget: float = 0.05,
    planned: float = 125_000.0,
    complete_until: datetime | None = None,
) -> EffectEvidence:
    """Return what the closed visits tell of an arm's effect on one metric.

    Parameters
    ----------
    sums
        The sums of an `EffectState` whose `better` is the same.
    metric, better, complete_until
        As in `EffectEvidence`.
    arm
        The arm's name.
    against
        The arm that it is compared with.
    budget
        The probability that a metric which the arm does not change is ever called harmed.
    promotion_budget
        The probability that the bound on the other side is ever wrong: that an arm which is as bad as the bound is
        called better than it.
    planned
        The visits that count at the planned end: the sum of p (1 - p) over visits. The bound is tightest there.

    Returns
    -------
    EffectEvidence
        Bounds are infinite before `PILOT` visits; the one on the smaller arm's gain before `FEWEST_EVENTS` too.

    Notes
    -----
    The bound against harm has ``budget * (1 - SMALL_SAMPLE_PART)``; the e-value is multiplied by `SMALL_SAMPLE_PART`,
    so that reaching 1 / budget spends the rest. It is tightest where `HARM_LOSS` shows, by the mean and the variance of
    the first `PILOT` visits, which tell nothing of the arms if these are equal. The other bound is the better of two
    with half of `promotion_budget` each: one is tightest at `RISK_SHOPPERS`, for the share's steps, and one at the
    planned end. Both are relative to the stable version's rate at the moments that weigh in the score. Its error is
    neglected: at a share of one half, the bounds of an effect of d are too narrow by a factor of about 1 + d / 2, which
    is too wide for a loss. Where stable has most visits there is no such factor.
    """
    arms = (against, arm)
    rate = sums.stable_outcomes / sums.stable_exposures if sums.stable_exposures else 0.0
    scale = sums.information * abs(rate)
    lower, upper = -math.inf, math.inf
    if scale > 0 and sums.pilot_visits >= PILOT and sums.pilot_square > 0:
        sign = 1.0 if better else -1.0
        square = sums.pilot_square / PILOT
        center = sign * sums.score
        harm_budget = budget * (1 - SMALL_SAMPLE_PART)
        longest = max(planned, RISK_SHOPPERS) * square
        shown = find_harm_variance(abs(sums.pilot_outcomes) / PILOT, square, harm_budget, longest)
        harm = center + _bound(sums.variance, shown, harm_budget, sums.spike / 3)
        gain = -math.inf
        if sums.events < FEWEST_EVENTS:
            # Where the arm has most shoppers, as a champion beside its predecessor, harm is the smaller arm's gain.
            harm = harm if sums.exposures[1] < sums.exposures[0] else math.inf
        else:
            times = (RISK_SHOPPERS * square, longest)
            gain = center - min(_bound(sums.variance, time, promotion_budget / 2) for time in times)
        lower, upper = (gain / scale, harm / scale) if better else (-harm / scale, -gain / scale)
    return EffectEvidence(
        metric=metric,
        effect=sums.score / scale if scale > 0 else 0.0,
        # No rate falls below nothing.
        lower=max(lower, -1.0) if lower > -math.inf else lower,
        upper=upper,
        better=better,
        stable_rate=rate,
        shoppers=dict(zip(arms, sums.shoppers, strict=True)),
        exposures={name: round(count) for name, count in zip(arms, sums.exposures, strict=True)},
        outcomes=dict(zip(arms, sums.outcomes, strict=True)),
        harm=SMALL_SAMPLE_PART * mix_wealth(sums.wealth),
        complete_until=complete_until,
    )


def invert_effect(effect: float, lower: float, upper: float) -> tuple[float, float, float]:
    """Return the stable version's lift over an arm, with its bounds, from the arm's effect: 1 / (1 + effect) - 1.

    With popularity as the arm, it is what personalisation brings.
    """

    def invert(value: float) -> float:
        return 1 / (1 + value) - 1 if value > -1 else math.inf

    return invert(effect), invert(upper), invert(lower)


def find_harm_variance(mean: float, square: float, budget: float, longest: float) -> float:
    """Return the variance at which the bound against harm is tightest.

    Parameters
    ----------
    mean, square
        Of a visit: the mean outcome, and the variance of what is not expected.
    budget
        The error of the bound.
    longest
        The variance at the planned end: no later.
    """
    loss = HARM_LOSS * mean
    return min(find_crossing_variance(loss, square, budget), longest) if loss > 0 else longest


def _bound(variance: float, time: float, budget: float, scale: float = 0.0) -> float:
    return compute_boundary(variance, tune_mixture(time, budget), budget, scale)
