"""One simulated rollout: shoppers of a known shop, evidence at every look, and the decision that follows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from endcap.experiments.evidence import EffectEvidence
from endcap.experiments.statistics import ClosedVisits, EffectState, EffectSums, ExpectedRates, judge_effect
from endcap.simulation.shoppers import ShopperHabits, ShopperVisits, SimulatedShoppers

LOOKS_PER_DAY, LOOKS_IN_PASS = 144, 24
BUDGETS = {"ctr": 0.025, "conversion": 0.0125, "revenue": 0.0125}
STEPS = ((0.05, -0.5), (0.1, -0.35), (0.25, -0.25), (0.5, -0.15))
FIRST_SHARE = 0.01


@dataclass(frozen=True)
class RolloutCase:
    """What is rolled out, in which shop, by which policy."""

    habits: ShopperHabits = field(default_factory=ShopperHabits)
    effect: float = 0.0
    days: int = 5
    promote: str = "superior"
    margin: float = 0.03
    delay: int = 0
    """How many looks late outcomes are known."""
    by_score: bool = False
    """Whether the champion's score says what is expected."""
    bot_rankings: int = 0
    metrics: tuple[str, ...] = ("ctr", "conversion", "revenue")


@dataclass(frozen=True)
class RolloutResult:
    """How it ended (promoted, rolled-back, open), after how many days, and how many shoppers met the version."""

    end: str
    days: float
    shoppers: int
    reason: str = ""


class RunningRollout:
    """A rollout with its shop, until it is decided."""

    def __init__(self, case: RolloutCase, seed: int) -> None:
        habits = case.habits
        self.case = case
        self.shop = SimulatedShoppers(habits, effect=case.effect, seed=seed)
        self.days: list[ShopperVisits] = []
        self.treated: list[NDArray[np.bool_]] = []
        self.shares: list[float] = []
        rates = {"ctr": habits.click_rate, "conversion": habits.buyers_per_visit}
        rates["revenue"] = rates["conversion"] * habits.order_value
        units = {"revenue": habits.order_value}
        self.states = {name: EffectState(unit=units.get(name, 1.0)) for name in case.metrics}
        self.rates = {name: ExpectedRates([rates[name]]) for name in case.metrics}
        self.edges = np.zeros(0)
        if case.by_score:
            self._learn_from_yesterday(seed)
        self.planned = case.days * habits.visits_per_day / 4

    def _learn_from_yesterday(self, seed: int) -> None:
        """The classes of the champion's score, and their rates, from a day before the rollout."""
        day = SimulatedShoppers(self.case.habits, seed=seed + 1_000_000).draw_day(0)
        self.edges = np.unique(np.quantile(day.score, np.arange(1, 20) / 20))
        group = np.searchsorted(self.edges, day.score)
        clicks, shown = (np.bincount(group, values) for values in (day.clicks[0], day.exposures))
        self.rates["ctr"] = ExpectedRates(clicks / shown)

    def run(self, decide: Callable[[float, list[EffectEvidence]], str | float]) -> RolloutResult:
        """Look until something is decided. `decide` returns an end, a larger share, or an empty text."""
        share, last, look = FIRST_SHARE, self.case.days * LOOKS_PER_DAY, 0
        while look < last:
            # At the last share nothing but an end can follow: several looks go in one pass.
            stop = look + 1
            if share >= STEPS[-1][0]:
                stop = min(last, (look // LOOKS_IN_PASS + 1) * LOOKS_IN_PASS)
            self.shares += [share] * (stop - look)
            steps = self.advance(look, stop)
            for number in range(stop - look):
                effects = [
                    judge_effect(sums[number], metric=name, budget=BUDGETS[name], planned=self.planned)
                    for name, sums in steps.items()
                ]
                outcome = decide(share, effects)
                if isinstance(outcome, str) and outcome:
                    end = look + number + 1
                    reasons = [f"{e.metric} {e.effect:+.3f} {e.lower:.3f} {e.upper:.3f} {e.harm:.1f}" for e in effects]
                    return RolloutResult(outcome, end / LOOKS_PER_DAY, self.count_shoppers(end), "; ".join(reasons))
                if isinstance(outcome, float):
                    share = outcome
            look = stop
        return RolloutResult("open", self.case.days, self.count_shoppers(last))

    def advance(self, start: int, stop: int) -> dict[str, list[EffectSums]]:
        """Take the visits that close in the looks from `start` to `stop`, which lie in one day."""
        while len(self.days) * LOOKS_PER_DAY < stop:
            day = self.shop.draw_day(len(self.days))
            if self.case.bot_rankings:
                day = day.join(cap_rankings(self.shop.draw_bot(len(self.days), self.case.bot_rankings)))
            self.days.append(day)
        start, stop = max(0, start - self.case.delay), max(0, stop - self.case.delay)
        if stop <= start:
            return {name: [state.sums] for name, state in self.states.items()}
        visits, row, ends = self._find_rows(start, stop)
        shopper = visits.shopper[row]
        probability = np.repeat(self.shares[start:stop], np.diff([row.start, *ends]))
        treated = self._find_places(shopper) < probability
        steps = {}
        for name, state in self.states.items():
            both = {"ctr": visits.clicks, "conversion": visits.buyers, "revenue": visits.revenue}[name][:, row]
            outcome = np.where(treated, both[1], both[0]) if self.case.effect else both[0]
            exposures = visits.exposures[row] if name == "ctr" else np.ones(len(shopper))
            by_score = name == "ctr" and len(self.edges)
            score = visits.score[row]
            group = np.searchsorted(self.edges, score) if by_score else np.zeros(len(shopper), np.int64)
            expected = self.rates[name].predict(group, exposures, outcome)
            rows = ClosedVisits(shopper, treated, probability, exposures, outcome, expected)
            steps[name] = state.trace(rows, [end - row.start for end in ends])
        return steps

    def _find_rows(self, start: int, stop: int) -> tuple[ShopperVisits, slice, list[int]]:
        day = start // LOOKS_PER_DAY
        visits = self.days[day]
        looks = day + (np.arange(start, stop + 1) - day * LOOKS_PER_DAY) / LOOKS_PER_DAY
        edges = np.searchsorted(visits.time, looks).tolist()
        return visits, slice(edges[0], edges[-1]), edges[1:]

    def _find_places(self, shopper: NDArray[np.int64]) -> NDArray[np.float64]:
        places = self.shop.place_on_range
        if not self.case.bot_rankings:
            return places[shopper]
        # The bot is one more shopper, with a place of its own.
        return np.append(places, places[0])[shopper]

    def count_shoppers(self, looks: int) -> int:
        """How many people met the version up to the end of so many looks."""
        met = np.zeros(self.case.habits.people + 1, np.bool_)
        for start in range(0, looks, LOOKS_PER_DAY):
            visits, row, ends = self._find_rows(start, min(looks, start + LOOKS_PER_DAY))
            shopper = visits.shopper[row]
            shares = np.repeat(self.shares[start : start + len(ends)], np.diff([row.start, *ends]))
            met[shopper[self._find_places(shopper) < shares]] = True
        return int(met.sum())


def cap_rankings(bot: ShopperVisits, most: int = 20) -> ShopperVisits:
    """The visits of one shopper's day up to so many rankings."""
    keep = np.cumsum(bot.exposures) <= most
    return ShopperVisits(**{name: getattr(bot, name)[..., keep] for name in bot.__dataclass_fields__})


def run_case(case: RolloutCase, seed: int) -> RolloutResult:
    """Run one rollout to its end, or to the last of its days."""
    return RunningRollout(case, seed).run(decide_simply(case))


def decide_simply(case: RolloutCase) -> Callable[[float, list[EffectEvidence]], str | float]:
    """The rule of shares and bounds alone."""

    def decide(share: float, effects: list[EffectEvidence]) -> str | float:
        if any(effect.upper < 0 or effect.harm >= 1 / BUDGETS[effect.metric] for effect in effects):
            return "rolled-back"
        lower = effects[0].lower
        if lower > (0.0 if case.promote == "superior" else -case.margin):
            return "promoted"
        for larger, worst in STEPS:
            if larger > share:
                return larger if lower > worst else ""
        return ""

    return decide
