"""How many shoppers each arm of an A/B test gets in the next epoch: the more, the more probably it is the best.

Thompson, "On the likelihood that one unknown probability exceeds another in view of the evidence of two samples",
Biometrika 25 (1933); Russo, Van Roy, Kazerouni, Osband and Wen, "A tutorial on Thompson sampling", Foundations and
Trends in Machine Learning 11 (2018).
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
from endcap.experiments.sequential import compute_boundary, find_crossing_variance, tune_mixture
from endcap.experiments.splits import Arm
from endcap.experiments.statistics import FEWEST_EVENTS
from endcap.spec.ab import AbSpec

AllocationReason = Literal["moved", "capped", "dead-band", "unsure", "no-evidence"]
MOVE_GAIN = 0.05
"""A move is soonest sure of itself if what it moves gains so much, relative to the stable version's rate."""
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

    @property
    def gain(self) -> float:
        """The effect, above 0 if the challenger is better."""
        return self.effect if self.better else -self.effect


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
        moved: the arms get their targets; capped: they go as far towards these as `max_moved` allows; dead-band: too
        few would move; unsure: the targets are not shown to be better than the present weights; no-evidence: too little
        was seen of an arm. With the last three nobody moves. What lifts an arm to the floor moves in any case.
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
    ``effect = S / (I r)`` and ``variance = V / (I r)^2``, as in `judge_effect`: an effect within epochs, clustered by
    shopper. With N shoppers of noise s^2, weights w and ``p = w / (w + w_stable)``, the score has the variance ``s^2 N
    w_stable p``, and ``s^2 N w_stable p^2`` of it comes from stable's shoppers. So their part is p. Over several epochs
    it is the mean of p over stable's exposures: ``I`` over their number, because I counts ``p`` for each of them.
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
        Floor, dead band, cap, error and draws.
    seed
        Of the draws. The same arguments give the same allocation.

    Raises
    ------
    DataError
        The floor leaves no room for so many arms, or an arm has two estimates.

    Notes
    -----
    *Targets.* An arm gets the floor, and of the rest its probability of being the best (Thompson sampling, in epochs).
    The effects' joint posterior is normal with a flat prior. Two challengers' effects have the covariance ``sqrt(s_1
    v_1 s_2 v_2)`` of their variances v and the parts s of them that come from stable's shoppers: exact while the
    challengers' shares keep their ratio, and from above where they do not.

    *Nothing for nothing.* If all arms are equal, the probability of being the best never settles, so plain Thompson
    sampling moves shoppers for ever. Here they move only if the step is shown to gain. Its gain per shopper moved is a
    contrast of the effects, with an information t (1 / variance); gain times t must exceed the boundary of
    `compute_boundary` at t, with the error `move_error` over the number of challengers. That boundary holds at all
    epochs together for one contrast. The step is chosen by the data, so the division by the challengers stands for the
    directions it can take: this is measured (docs/benchmarks.md), and not proven.
    """
    arms = [arm for arm, weight in weights.items() if weight > 0]
    total = sum(weights.values())
    floor = policy.find_floor(len(arms))
    if len(arms) > policy.most_arms:
        raise DataError(
            f"ab.floor: found {floor} with {len(arms)} arms; allowed: at most {1 / len(arms):.4g}. "
            "Lower the floor, or compare fewer versions.",
            code="experiments.ab-floor-too-high",
            found=floor,
            most=1 / len(arms),
        )
    by_arm = {estimate.arm: estimate for estimate in estimates}
    if len(by_arm) < len(estimates):
        raise DataError("estimates: found two of one arm; allowed: one", code="experiments.ab-estimate-repeated")
    order: list[Arm] = ["stable", *(arm for arm in arms if arm != "stable")]
    # The champion is held against itself: no effect, and no variance.
    used = [ArmEstimate("stable", 0.0, 0.0), *(by_arm.get(arm, ArmEstimate(arm, 0.0, math.inf)) for arm in order[1:])]
    start = _lift({arm: weights[arm] for arm in order}, math.ceil(floor * total - 1e-6))
    target, chances = start, np.full(len(order), 1 / len(order))
    reason: AllocationReason = "no-evidence"
    if len(used) > 1 and all(math.isfinite(estimate.variance) for estimate in used):
        chances = _find_best(used, policy.draws, seed)
        room = 1 - len(order) * floor
        target = _round([(floor + room * chance) * total for chance in chances.tolist()], order, total)
        change = np.array([target[arm] - start[arm] for arm in order]) / total
        share = float(np.abs(change).sum()) / 2
        if not share or share < policy.dead_band:
            reason = "dead-band"
        else:
            reason = "moved" if _is_sure(change / share, used, policy.move_error) else "unsure"
    present = {arm: weights[arm] for arm in order}
    end = target if reason == "moved" else start
    movers, most = _count_movers(present, end), policy.max_moved * total
    if movers > most:
        # Rounding may move one more for each arm.
        part, reason = (most - len(order)) / movers, "capped"
        end = _round([present[arm] + part * (end[arm] - present[arm]) for arm in order], order, total)
    elif movers:
        reason = "moved"
    best = dict(zip(order, chances.tolist(), strict=True))
    return Allocation(
        weights={arm: end.get(arm, 0) for arm in weights},
        target={arm: target.get(arm, 0) for arm in weights},
        best={arm: best.get(arm, 0.0) for arm in weights},
        moved=_count_movers(present, end) / total,
        reason=reason,
    )


def _find_best(estimates: Sequence[ArmEstimate], draws: int, seed: int) -> _Floats:
    """Return how probable it is that each arm is the best: float64 [arms]."""
    gain, own, common = _split_noise(estimates)
    rng = np.random.default_rng(seed)
    stable, noise = rng.standard_normal((draws, 1)), rng.standard_normal((draws, len(gain)))
    winner = (gain + own * noise - common * stable).argmax(axis=1)
    chances: _Floats = np.bincount(winner, minlength=len(gain)) / draws
    return chances


def _is_sure(change: _Floats, estimates: Sequence[ArmEstimate], error: float) -> bool:
    """Tell whether a change of shares, of which all gains sum to 1, is shown to gain."""
    gain, own, common = _split_noise(estimates)
    variance = float(((change * own) ** 2).sum() + (change @ common) ** 2)
    if variance <= 0:
        return False
    budget = error / (len(estimates) - 1)
    information = 1 / variance
    r = tune_mixture(find_crossing_variance(MOVE_GAIN, 1.0, budget), budget)
    return float(change @ gain) * information > compute_boundary(information, r, budget)


def _split_noise(estimates: Sequence[ArmEstimate]) -> tuple[_Floats, _Floats, _Floats]:
    """Return each arm's gain, and the deviations of its own noise and of stable's shoppers: float64 [arms] each."""
    gain = np.array([estimate.gain for estimate in estimates])
    variance = np.array([estimate.variance for estimate in estimates])
    shared = np.array([estimate.shared for estimate in estimates])
    return gain, np.sqrt(variance * (1 - shared)), np.sqrt(variance * shared)


def _lift(weights: Mapping[Arm, int], least: int) -> dict[Arm, int]:
    """Return weights of which none lies below the least; the others give in proportion to what they have above it."""
    lacking = sum(max(0, least - weight) for weight in weights.values())
    spare = sum(max(0, weight - least) for weight in weights.values())
    if not lacking or not spare:
        return dict(weights)
    part = 1 - lacking / spare
    values = [least + part * max(0, weight - least) for weight in weights.values()]
    return _round(values, list(weights), sum(weights.values()))


def _round(values: Sequence[float], arms: Sequence[Arm], total: int) -> dict[Arm, int]:
    """Round to whole weights of the sum `total`: what is left over goes to the largest remainders."""
    rounded = [math.floor(value + 1e-6) for value in values]
    order = sorted(range(len(values)), key=lambda place: rounded[place] - values[place])
    for place in order[: total - sum(rounded)]:
        rounded[place] += 1
    return dict(zip(arms, rounded, strict=True))


def _count_movers(before: Mapping[Arm, int], after: Mapping[Arm, int]) -> int:
    return sum(max(0, after[arm] - before[arm]) for arm in before)
