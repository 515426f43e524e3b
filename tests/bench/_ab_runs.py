"""One simulated A/B test: shoppers of a known shop who keep their arms, epochs, and the shares that follow."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from endcap.experiments.ab_gain import LayoutSums, estimate_gain
from endcap.experiments.allocation import allocate, estimate_arm
from endcap.experiments.closed_visits import ClosedVisits
from endcap.experiments.effect_state import EffectState, EffectSums
from endcap.experiments.expected_rates import ExpectedRates
from endcap.experiments.layout import AB_ARMS, Layout, count_movers, covary_arms, number_layout
from endcap.experiments.splits import TOTAL_WEIGHT, Arm
from endcap.experiments.statistics import judge_effect
from endcap.simulation.shoppers import ShopperHabits, SimulatedShoppers
from endcap.spec.ab import AbSpec

NORMAL = 1.959964


@dataclass(frozen=True)
class AbCase:
    """What is compared, in which shop, by which rule."""

    effects: tuple[float, ...]
    """Of the challengers."""
    habits: ShopperHabits = field(default_factory=ShopperHabits)
    days: int = 10
    later: tuple[float, ...] = ()
    """The effects from day 5 on, if they change."""
    rule: str = "endcap"
    """endcap; equal: shares never change; thompson: no test before a step, no dead band, no cap; epsilon: the best
    pooled rate gets all but the floors."""
    late: int = 0
    """How many days late outcomes are known."""
    looks: int = 12
    """How many times a day bands are looked at."""
    draws: int = 20_000


@dataclass(frozen=True)
class AbResult:
    """How a test went.

    Attributes
    ----------
    lost, equal_lost
        The part of the clicks that is lost against everybody meeting the best arm: by these shares, and by equal ones.
    moved
        The sum over epochs of the shares of shoppers who moved.
    days
        On how many days somebody moved.
    covered, pooled
        For each challenger, whether the band held the true effect at every look: the any-time band, and the usual band
        of 95 % of the pooled click rates.
    gain, gain_held
        Clicks won against an equal split as a part of the true ones, and whether the band held the true number at every
        end of a day.
    """

    lost: float
    equal_lost: float
    moved: float
    days: int
    covered: tuple[bool, ...]
    pooled: tuple[bool, ...]
    gain: float
    gain_held: bool


class RunningTest:
    """A test with its shop."""

    def __init__(self, case: AbCase, seed: int) -> None:
        self.case, self.seed = case, seed
        self.shop = SimulatedShoppers(case.habits, effect=case.effects, seed=seed)
        self.places = (self.shop.place_on_range * TOTAL_WEIGHT).astype(np.int64)
        self.arms: tuple[Arm, ...] = AB_ARMS[: 1 + len(case.effects)]
        part, rest = divmod(TOTAL_WEIGHT, len(self.arms))
        self.layout = Layout.begin({arm: part + (number < rest) for number, arm in enumerate(self.arms)})
        self.policy = AbSpec(draws=case.draws)
        self.layouts: dict[float, Layout] = {}
        self.states = [EffectState(covary=partial(self.covary, arm)) for arm in self.arms[1:]]
        self.rates = [ExpectedRates([case.habits.click_rate]) for _ in case.effects]
        self.pooled = np.zeros((2, len(self.arms)))
        self.covered, self.is_pooled_right = np.ones((2, len(case.effects)), np.bool_)
        self.sums: list[LayoutSums] = []
        self.won, self.gain_held = 0.0, True
        self.waiting: list[tuple[list[ClosedVisits], LayoutSums]] = []

    def run(self) -> AbResult:
        """Run all days."""
        case, lost, equal_lost, moved, days = self.case, 0.0, 0.0, 0.0, 0
        for day in range(case.days):
            if case.later and day == 5:
                self.shop.effects = case.later
            effects = np.array([0.0, *self.shop.effects])
            shares = np.array([self.layout.weigh(arm) for arm in self.arms]) / TOTAL_WEIGHT
            best = 1 + effects.max()
            lost += (1 - float(shares @ (1 + effects)) / best) / case.days
            equal_lost += (1 - float((1 + effects).mean()) / best) / case.days
            self.meet(day, shares)
            after = self.layout.change(self.choose(day))
            movers = count_movers(self.layout, after)
            moved, days, self.layout = moved + movers / TOTAL_WEIGHT, days + bool(movers), after
        gain = estimate_gain(self.sums).outcomes / self.won if self.won else math.nan
        covered, pooled = (tuple(map(bool, flags)) for flags in (self.covered, self.is_pooled_right))
        return AbResult(lost, equal_lost, moved, days, covered, pooled, gain, self.gain_held)

    def covary(self, arm: Arm, first: float, second: float) -> float:
        """The covariance of a shopper's arms under two layouts."""
        return covary_arms(self.layouts[first], self.layouts[second], arm, "stable")

    def meet(self, day: int, shares: NDArray[np.float64]) -> None:
        """Shoppers come for a day, and what is closed is judged."""
        visits = self.shop.draw_day(day)
        ends = np.cumsum([segment.weight for segment in self.layout.segments])
        numbers = np.array([self.arms.index(segment.arm) for segment in self.layout.segments])
        arm = numbers[np.searchsorted(ends, self.places[visits.shopper], side="right")]
        outcome = np.choose(arm, list(visits.clicks)) if len(self.arms) > 2 else visits.clicks[arm, range(len(arm))]
        clicks = visits.clicks.sum(axis=1)
        self.pooled += [np.bincount(arm, row, len(self.arms)) for row in (outcome, visits.exposures)]
        tables, moment = [], number_layout(self.layout.layout_id)
        self.layouts[moment] = self.layout
        for number in range(1, len(self.arms)):
            rows = np.flatnonzero((arm == 0) | (arm == number))
            p = shares[number] / (shares[number] + shares[0])
            exposures, own = visits.exposures[rows], outcome[rows]
            expected = self.rates[number - 1].predict(np.zeros(len(rows), np.int64), exposures, own)
            ones = np.ones(len(rows))
            is_treated = arm[rows] == number
            table = ClosedVisits(
                visits.shopper[rows], is_treated, p * ones, exposures, own, expected, layout=moment * ones
            )
            tables.append(table)
        weights = {arm: self.layout.weigh(arm) for arm in self.arms}
        won = float(shares @ clicks) - float(clicks.mean())
        self.waiting.append((tables, LayoutSums(weights, {}, {"stable": won})))
        if len(self.waiting) > self.case.late:
            self.close(*self.waiting.pop(0))

    def close(self, tables: list[ClosedVisits], day: LayoutSums) -> None:
        """Take the visits of a day into the sums, look by look."""
        scores: dict[Arm, float] = {}
        variances: dict[Arm, float] = {}
        for number, (state, table) in enumerate(zip(self.states, tables, strict=True)):
            before, arm = state.sums, self.arms[number + 1]
            ends = np.linspace(0, len(table), self.case.looks + 1).astype(int)[1:].tolist()
            for sums in state.trace(table, ends):
                self.check_effect(number, sums)
            scores[arm], variances[arm] = state.sums.score - before.score, state.sums.variance - before.variance
            self.check_pooled(number)
        self.sums.append(LayoutSums(day.weights, scores, variances))
        self.won += day.variances["stable"]
        gain = estimate_gain(self.sums, planned=self.case.days)
        # Weights are rounded, so equal shares differ by a millionth.
        self.gain_held &= gain.lower - 1e-3 <= self.won <= gain.upper + 1e-3 or abs(self.won) < 1

    def check_effect(self, number: int, sums: EffectSums) -> None:
        """Whether the two-sided band of 95 % holds the true effect."""
        habits = self.case.habits
        planned = self.case.days * habits.visits_per_day / (2 * len(self.arms))
        evidence = judge_effect(sums, metric="ctr", budget=0.025, promotion_budget=0.025, planned=planned)
        self.covered[number] &= evidence.lower <= self.shop.effects[number] <= evidence.upper

    def check_pooled(self, number: int) -> None:
        """Whether the usual band of the ratio of two pooled rates holds the true effect."""
        rate = self.pooled[0] / self.pooled[1]
        noise = (1 - rate) / self.pooled[0]
        effect = rate[number + 1] / rate[0]
        half = NORMAL * effect * math.sqrt(noise[0] + noise[number + 1])
        self.is_pooled_right[number] &= abs(effect - 1 - self.shop.effects[number]) <= half

    def choose(self, day: int) -> Mapping[Arm, int]:
        """The weights of the next day."""
        weights = {arm: self.layout.weigh(arm) for arm in self.arms}
        floor = round(self.policy.find_floor(len(self.arms)) * TOTAL_WEIGHT)
        if self.case.rule == "equal":
            return weights
        if self.case.rule == "epsilon":
            best = self.arms[int((self.pooled[0] / self.pooled[1]).argmax())]
            rest = TOTAL_WEIGHT - floor * len(self.arms)
            return {arm: floor + rest * (arm == best) for arm in self.arms}
        estimates = [estimate_arm(state.sums, arm) for state, arm in zip(self.states, self.arms[1:], strict=True)]
        allocation = allocate(weights, estimates, self.policy, self.seed * 1000 + day)
        return allocation.weights if self.case.rule == "endcap" else allocation.target


def run_ab(case: AbCase, seed: int) -> AbResult:
    """Run one test to its end."""
    return RunningTest(case, seed).run()
