"""How many shoppers each arm of an A/B test gets next, by how probable it is that the arm is the best.

Thompson, "On the likelihood that one unknown probability exceeds another in view of the evidence of two samples",
Biometrika 25 (1933).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from endcap.errors import DataError
from endcap.experiments.effect_state import PILOT, EffectSums
from endcap.experiments.splits import Arm
from endcap.experiments.statistics import FEWEST_EVENTS
from endcap.spec.ab import AbSpec

AllocationReason = Literal["moved", "capped", "dead-band", "no-evidence"]
_Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ArmEstimate:
    """What is known of a challenger beside the stable version.

    Attributes
    ----------
    arm
        The challenger.
    effect
        Relative to the stable version's rate: 0.03 is 3 % more of the metric.
    variance
        Of the effect; infinite as long as too little was seen.
    shared
        The part of the variance that comes from stable's shoppers, 0 to 1. All challengers have these shoppers in
        common.
    better
        Whether more of the metric is better.
    """

    arm: Arm
    effect: float
    variance: float
    shared: float = 0.0
    better: bool = True


@dataclass(frozen=True)
class Allocation:
    """The arms' weights of the next epoch.

    Attributes
    ----------
    weights
        By arm, of the same sum as before.
    target
        The weights before dead band and cap.
    best
        By arm: how probable it is that no other arm is better.
    moved
        The share of the shoppers who move: the sum of all gains.
    reason
        moved: the arms get what is wanted; capped: as much of it as `max_moved` allows; dead-band: too few would move;
        no-evidence: too little was seen of an arm. With the last two, weights stay as they are.
    """

    weights: Mapping[Arm, int]
    target: Mapping[Arm, int]
    best: Mapping[Arm, float]
    moved: float
    reason: AllocationReason


def estimate_arm(sums: EffectSums, arm: Arm, *, better: bool = True) -> ArmEstimate:
    """Return what closed visits of a challenger and of the stable version tell.

    Parameters
    ----------
    sums
        Of the `EffectState` of the challenger against stable.
    arm
        The challenger.
    better
        Whether more of the metric is better.

    Notes
    -----
    ``effect = S / (I r)`` and ``variance = V / (I r)^2``, as in `judge_effect`.
    """
    rate = sums.stable_outcomes / sums.stable_exposures if sums.stable_exposures else 0.0
    scale = sums.information * abs(rate)
    if scale <= 0 or sums.variance <= 0 or sums.pilot_visits < PILOT or sums.events < FEWEST_EVENTS:
        return ArmEstimate(arm, 0.0, math.inf, better=better)
    shared = min(1.0, sums.information / sums.exposures[0]) if sums.exposures[0] else 0.0
    return ArmEstimate(arm, sums.score / scale, sums.variance / scale**2, shared, better)


def allocate(weights: Mapping[Arm, int], estimates: Sequence[ArmEstimate], policy: AbSpec, seed: int) -> Allocation:
    """Return the arms' weights of the next epoch.

    Parameters
    ----------
    weights
        The present ones, by arm, of which "stable" is one. An arm with the weight 0 stays without shoppers.
    estimates
        One for each challenger. Those of arms without a weight are passed over.
    policy
        Floor, dead band, cap and draws.
    seed
        Of the draws. The same arguments give the same allocation.

    Raises
    ------
    DataError
        The floor leaves no room for so many arms, or an arm has two estimates.
    """
    arms = [arm for arm, weight in weights.items() if weight > 0]
    total = sum(weights.values())
    if len(arms) > policy.most_arms:
        raise DataError(
            f"ab.floor: found {policy.floor} with {len(arms)} arms; allowed: at most {1 / len(arms):.4g}. "
            "Lower the floor, or compare fewer versions.",
            code="experiments.ab-floor-too-high",
            found=policy.floor,
            most=1 / len(arms),
        )
    known = {estimate.arm: estimate for estimate in estimates}
    if len(known) < len(estimates):
        raise DataError("estimates: found two of one arm; allowed: one", code="experiments.ab-estimate-repeated")
    challengers = [arm for arm in arms if arm != "stable"]
    used = [known.get(arm, ArmEstimate(arm, 0.0, math.inf)) for arm in challengers]
    if not used or not all(math.isfinite(estimate.variance) for estimate in used):
        best = {arm: (1 / len(arms) if arm in arms else 0.0) for arm in weights}
        return Allocation(dict(weights), dict(weights), best, 0.0, "no-evidence")
    chances = dict(zip(["stable", *challengers], _find_best(used, policy.draws, seed).tolist(), strict=True))
    best = {arm: chances.get(arm, 0.0) for arm in weights}
    room = 1 - len(arms) * policy.floor
    target = _round({arm: (policy.floor + room * best[arm] if arm in arms else 0.0) * total for arm in weights}, total)
    moved = _count_movers(weights, target) / total
    if moved < policy.dead_band or not moved:
        return Allocation(dict(weights), target, best, 0.0, "dead-band")
    if moved <= policy.max_moved:
        return Allocation(target, target, best, moved, "moved")
    part = policy.max_moved / moved
    capped = _round({arm: weights[arm] + part * (target[arm] - weights[arm]) for arm in weights}, total)
    return Allocation(capped, target, best, _count_movers(weights, capped) / total, "capped")


def _find_best(estimates: Sequence[ArmEstimate], draws: int, seed: int) -> _Floats:
    """Return how probable it is that stable, or each challenger, is the best: float64 [1 + challengers]."""
    gain = np.array([estimate.effect if estimate.better else -estimate.effect for estimate in estimates])
    variance = np.array([estimate.variance for estimate in estimates])
    shared = np.array([estimate.shared for estimate in estimates])
    rng = np.random.default_rng(seed)
    stable, own = rng.standard_normal((draws, 1)), rng.standard_normal((draws, len(gain)))
    drawn = gain + np.sqrt(variance * (1 - shared)) * own - np.sqrt(variance * shared) * stable
    winner = np.where(drawn.max(axis=1) > 0, 1 + drawn.argmax(axis=1), 0)
    return np.bincount(winner, minlength=1 + len(gain)) / draws


def _round(values: Mapping[Arm, float], total: int) -> dict[Arm, int]:
    """Round to whole weights of the sum `total`: what is left over goes to the largest remainders."""
    rounded = {arm: math.floor(value + 1e-6) for arm, value in values.items()}
    order = sorted(values, key=lambda arm: rounded[arm] - values[arm])
    for arm in order[: total - sum(rounded.values())]:
        rounded[arm] += 1
    return rounded


def _count_movers(before: Mapping[Arm, int], after: Mapping[Arm, int]) -> int:
    return sum(max(0, after[arm] - before[arm]) for arm in before)
