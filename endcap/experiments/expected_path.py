"""The expected path of a rollout, look by look: shares, shoppers, sums of the statistics, and what is probable by then.

The formulas follow `endcap.experiments.statistics`, with expectations in the place of what shoppers did.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from endcap.experiments.effect_state import PILOT
from endcap.experiments.sequential import compute_boundary, tune_mixture
from endcap.experiments.statistics import FEWEST_EVENTS, RISK_SHOPPERS, SMALL_SAMPLE_PART, find_harm_variance
from endcap.experiments.traffic import MetricTraffic, ShopTraffic
from endcap.spec.rollout import RolloutSpec

PLANNED = 125_000.0
"""The visits that count at the planned end, as `judge_effect` has them where nobody says."""
DAY = timedelta(days=1)
_MOST_LOOKS = 3_000


@dataclass(frozen=True)
class PathStep:
    """The expected rollout at one look, and what is probable by then."""

    days: float
    share: float
    met: float
    promoted: float
    reached: tuple[float, ...]


@dataclass(frozen=True)
class ExpectedSums:
    """Expected sums of one metric over closed visits, as `EffectSums` has them."""

    information: float = 0.0
    variance: float = 0.0
    events: float = 0.0
    visits: float = 0.0


def follow_path(policy: RolloutSpec, traffic: ShopTraffic, effect: float, *, mean: bool = False) -> list[PathStep]:
    """Follow the rollout of a version with an effect on the deciding metric to the longest duration.

    Parameters
    ----------
    policy, traffic
        The policy and the shop.
    effect
        The effect on the deciding metric.
    mean
        False: the share is the one that half of the rollouts have reached, which tells times well. True: it is the
        mean share, which tells shoppers well: a few rollouts with a large share meet many.
    """
    metric = policy.deciding_metric
    of_metric = traffic.metrics[metric.name]
    length = max(policy.look_every, policy.longest / _MOST_LOOKS) / DAY
    lag = math.ceil(metric.settles_after / DAY / length)
    bound = _bound_gain(of_metric)
    adder = ExpectedSumAdder(traffic, of_metric, length)
    widths = [later - earlier for earlier, later in pairwise(policy.shares)]
    reached = [0.0] * len(widths)
    shares, path = [], []
    looks = math.floor(policy.longest / DAY / length)
    met = _MetShoppers(traffic, looks)
    promoted = 0.0
    for number in range(1, looks + 1):
        parts = reached if mean else [round(part) for part in reached]
        share = policy.first_share + sum(width * part for width, part in zip(widths, parts, strict=True))
        shares.append(share)
        met.add(share, number * length, length)
        if number > lag:
            adder.add(shares[number - 1 - lag])
        scale = adder.sums.information * of_metric.rate

        def cross(loss: float, scale: float = scale) -> float:
            return compute_crossing(adder.sums, (effect - loss) * scale, bound, policy.promotion_error)

        promoted = max(promoted, cross(policy.allowed_loss))
        path.append(PathStep(number * length, share, met.count, promoted, tuple(reached)))
        before = [1.0, *reached]
        # A share is reached a look after the one before it at the earliest.
        reached = [
            max(part, min(cross(step.worst), earlier))
            for step, part, earlier in zip(policy.share_steps, reached, before, strict=False)
        ]
    return path


class ExpectedSumAdder:
    """Adds up the expected sums of a metric, visit by visit of a share that never falls.

    Notes
    -----
    Two visits of one shopper at the shares p and q, p earlier, covary by ``c p (1 - q)``: see `EffectState`. Nobody is
    counted twice on a day.
    """

    def __init__(self, traffic: ShopTraffic, metric: MetricTraffic, length: float) -> None:
        self.sums = ExpectedSums()
        self._traffic, self._metric, self._length = traffic, metric, length
        self._earlier = self._today = self._days = 0.0

    def add(self, share: float) -> None:
        metric, sums = self._metric, self.sums
        visits = self._traffic.shoppers * self._length
        if math.floor(self._days + 1e-9) < math.floor(self._days + self._length + 1e-9):
            self._earlier, self._today = self._earlier + self._today, 0.0
        spread = share * (1 - share)
        pairs = 2 * visits / self._traffic.people * metric.covariance * (1 - share) * self._earlier
        self.sums = ExpectedSums(
            information=sums.information + visits * spread * metric.exposures,
            variance=sums.variance + visits * spread * metric.variance + pairs,
            events=sums.events + visits * share * metric.active,
            visits=sums.visits + visits,
        )
        self._today += visits * share
        self._days += self._length


class _MetShoppers:
    """Counts distinct shoppers who met an arm whose share never falls, over a number of looks at most."""

    def __init__(self, traffic: ShopTraffic, looks: int) -> None:
        self._traffic = traffic
        # Each rise of the share: the part of the shoppers that it brings, and the day on which it begins.
        self._parts, self._begins, self._rises = np.zeros(looks), np.zeros(looks), 0
        self._widest = self.count = 0.0

    def add(self, share: float, until: float, length: float) -> None:
        if share > self._widest:
            self._parts[self._rises], self._begins[self._rises] = share - self._widest, until - length
            self._widest, self._rises = share, self._rises + 1
        people, often = self._traffic.people, min(1.0, self._traffic.shoppers / self._traffic.people)
        days = until - self._begins[: self._rises]
        self.count = people * float(self._parts[: self._rises] @ (1 - _stay_away(often, days)))


def _stay_away(often: float, days: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the probability that a shopper who comes on a share `often` of the days does not come for so long."""
    whole = np.floor(days)
    away: NDArray[np.float64] = (1 - often) ** whole * (1 - often * (days - whole))
    return away


_Bound = Callable[[float, float], float]
"""From a variance and a budget to the boundary of a score."""


def _bound_gain(metric: MetricTraffic) -> _Bound:
    """The bound of `judge_effect` that lets shares rise and promotes: the better of two."""

    def bound(variance: float, budget: float) -> float:
        times = (RISK_SHOPPERS * metric.variance, PLANNED * metric.variance)
        return min(compute_boundary(variance, tune_mixture(time, budget / 2), budget / 2) for time in times)

    return bound


def bound_harm(metric: MetricTraffic) -> _Bound:
    """The bound of `judge_effect` that takes a version back."""

    def bound(variance: float, budget: float) -> float:
        spent = budget * (1 - SMALL_SAMPLE_PART)
        mean, longest = metric.rate * metric.exposures, PLANNED * metric.variance
        shown = find_harm_variance(mean, metric.variance, spent, longest)
        return compute_boundary(variance, tune_mixture(shown, spent), spent)

    return bound


def compute_crossing(sums: ExpectedSums, mean: float, bound: _Bound, budget: float) -> float:
    """Return the probability that a score has crossed its boundary by now.

    Parameters
    ----------
    sums
        Expected sums; below `PILOT` visits and `FEWEST_EVENTS` there is no bound.
    mean
        The score's expected distance from what is to be excluded.
    bound, budget
        The boundary.

    Notes
    -----
    Bachelier and Lévy: a Brownian motion with the drift m crosses the line a > 0 by time v with the probability
    ``1 - Phi((a - m v) / sqrt(v)) + exp(2 a m) Phi((-a - m v) / sqrt(v))``. Time is the variance, and the line is the
    boundary's tangent at v, which lies above the boundary: the probability is a little too low.
    """
    variance = sums.variance
    if sums.visits < PILOT or sums.events < FEWEST_EVENTS or variance <= 0:
        return 0.0
    height = bound(variance, budget)
    slope = (bound(variance * 1.001, budget) - height) / (variance * 0.001)
    line, drift = height - slope * variance, mean / variance - slope
    root = math.sqrt(variance)
    later = math.exp(min(2 * line * drift, 700.0)) * float(ndtr((-line - drift * variance) / root))
    return min(1.0, float(ndtr((drift * variance - line) / root)) + later)
