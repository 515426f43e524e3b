"""One simulated rollout: shoppers of a known shop, evidence at every look, and the decision that follows."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from endcap.experiments.closed_visits import ClosedVisits
from endcap.experiments.decision import apply_decision, decide
from endcap.experiments.effect_state import EffectState, EffectSums
from endcap.experiments.evidence import RolloutEvidence
from endcap.experiments.expected_rates import ExpectedRates
from endcap.experiments.rollout_state import begin_rollout
from endcap.experiments.shopper_history import ShopperHistory
from endcap.experiments.statistics import judge_effect
from endcap.simulation.shoppers import ShopperHabits, ShopperVisits, SimulatedShoppers
from endcap.spec.rollout import RolloutSpec

LOOKS_PER_DAY, LOOKS_IN_PASS = 144, 24
"""A pass takes several looks at once. Where the share may rise, what follows the raise is undone."""
BEGIN = datetime(2026, 11, 2, tzinfo=UTC)


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
    history: int = 0
    """How many days before the rollout say what is expected of each shopper."""
    bot_rankings: int = 0
    metrics: tuple[str, ...] = ("ctr", "conversion", "revenue")


@dataclass(frozen=True)
class RolloutResult:
    """How it ended, after how many days, and how many shoppers met the version. A promotion ends as guarding."""

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
        self.days: dict[int, ShopperVisits] = {}
        self.drawn = 0
        self.shares: list[float] = []
        rates = {"ctr": habits.click_rate, "conversion": habits.buyers_per_visit}
        rates["revenue"] = rates["conversion"] * habits.order_value
        self.units = {"revenue": habits.order_value}
        self.states = {name: EffectState() for name in case.metrics}
        self.rates = {name: ExpectedRates([rates[name]]) for name in case.metrics}
        self.edges = np.zeros(0)
        self.budgets = build_policy(case).metric_budgets
        if case.by_score:
            self._learn_from_yesterday(seed)
        self.histories = {name: ShopperHistory() for name in case.metrics if case.history}
        for day in range(-case.history, 0):
            self._learn_history(day, rates)
        self.planned = case.days * habits.visits_per_day / 4

    def _learn_history(self, day: int, rates: dict[str, float]) -> None:
        visits = self.shop.draw_day(day)
        for name, history in self.histories.items():
            outcome, exposures = read_metric(visits, name)
            expected = np.full(len(exposures), rates[name])
            if name == "ctr" and self.case.by_score:
                expected = self.shop.score(visits)
            history.learn(visits.shopper, expected * exposures, outcome[0])

    def _learn_from_yesterday(self, seed: int) -> None:
        """The classes of the champion's score, and how right it is in each, from a day before the rollout."""
        shop = SimulatedShoppers(self.case.habits, seed=seed + 1_000_000)
        day = shop.draw_day(0)
        score = shop.score(day)
        self.edges = np.unique(np.quantile(score, np.arange(1, 10) / 10))
        group = np.searchsorted(self.edges, score)
        clicks, scored = (np.bincount(group, values) for values in (day.clicks[0], day.exposures * score))
        self.rates["ctr"] = ExpectedRates(clicks / scored)

    def run(self, policy: RolloutSpec) -> RolloutResult:
        """Look and decide until the rollout is over, or its days are."""
        last, look = self.case.days * LOOKS_PER_DAY, 0
        state = begin_rollout("bench", "2", "packages/bench/2", "1", "packages/bench/1", policy, BEGIN)
        while look < last:
            # Several looks go in one pass, at the share of the first. After a raise, the rest of a pass is undone.
            may_rise = state.share < policy.share_steps[-1].share
            stop = min(last, look + (LOOKS_IN_PASS if may_rise else LOOKS_PER_DAY))
            kept = copy.deepcopy((self.states, self.rates)) if may_rise else None
            self.shares += [state.share] * (stop - look)
            steps = self.advance(look, stop)
            for number in range(stop - look):
                now = BEGIN + (look + number + 1) * policy.look_every
                evidence = self.judge({name: sums[number] for name, sums in steps.items()}, policy, now)
                decision = decide(state, evidence, policy, now)
                state = apply_decision(state, decision, policy, now)
                end = look + number + 1
                if decision.action in ("roll_back", "promote"):
                    return RolloutResult(state.phase, end / LOOKS_PER_DAY, self.count_shoppers(end), decision.sentence)
                if decision.action == "raise":
                    if end < stop:
                        assert kept is not None
                        self.states, self.rates = kept
                        del self.shares[end:]
                        self.advance(look, end)
                    stop = end
                    break
            look = stop
        return RolloutResult("open", self.case.days, self.count_shoppers(last))

    def judge(self, sums: dict[str, EffectSums], policy: RolloutSpec, now: datetime) -> RolloutEvidence:
        """The evidence of a look."""
        closed = now - self.case.delay * policy.look_every
        effects = tuple(
            judge_effect(
                entry,
                metric=name,
                budget=self.budgets[name],
                planned=self.planned,
                complete_until=closed,
            )
            for name, entry in sums.items()
        )
        return RolloutEvidence(now, "canary", "2", effects, impressions_until=now)

    def advance(self, start: int, stop: int) -> dict[str, list[EffectSums]]:
        """Take the visits that close in the looks from `start` to `stop`, and return the sums after each look."""
        for number in range(self.drawn, -(-stop // LOOKS_PER_DAY)):
            day = self.shop.draw_day(number)
            if self.case.bot_rankings:
                day = day.join(cap_rankings(self.shop.draw_bot(number, self.case.bot_rankings)))
            self.days[number], self.drawn = day, number + 1
        start, stop = start - self.case.delay, stop - self.case.delay
        steps = {name: [state.sums] * (min(stop, 0) - min(start, 0)) for name, state in self.states.items()}
        edges = [edge for edge in range(0, stop, LOOKS_PER_DAY) if edge > start]
        for first, end in pairwise([max(start, 0), *edges, max(stop, 0)]):
            if first < end:
                for name, sums in self._take(first, end).items():
                    steps[name] += sums
        return steps

    def _take(self, start: int, stop: int) -> dict[str, list[EffectSums]]:
        visits, row, ends = self._find_rows(start, stop)
        shopper = visits.shopper[row]
        probability = np.repeat(self.shares[start:stop], np.diff([row.start, *ends]))
        treated = self._find_places(shopper) < probability
        steps = {}
        for name, state in self.states.items():
            both, counted = read_metric(visits, name)
            outcome = np.where(treated, both[1, row], both[0, row]) if self.case.effect else both[0, row]
            exposures, group = counted[row], np.zeros(len(shopper), np.int64)
            score = self.histories[name].predict(shopper) if self.case.history else None
            if name == "ctr" and self.case.by_score:
                known = self.shop.score(visits)[row]
                group, score = np.searchsorted(self.edges, known), known if score is None else known * score
            expected = self.rates[name].predict(group, exposures, outcome, score)
            unit = self.units.get(name, 1.0)
            rows = ClosedVisits(shopper, treated, probability, exposures, outcome, expected, unit)
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


def read_metric(visits: ShopperVisits, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A metric's outcomes in either arm, and exposures."""
    if name == "ctr":
        return visits.clicks, visits.exposures
    return visits.buyers if name == "conversion" else visits.revenue, np.ones(len(visits.exposures))


def cap_rankings(bot: ShopperVisits, most: int = 20) -> ShopperVisits:
    """The visits of one shopper's day up to so many rankings."""
    keep = np.cumsum(bot.exposures) <= most
    return ShopperVisits(**{name: getattr(bot, name)[..., keep] for name in bot.__dataclass_fields__})


def build_policy(case: RolloutCase) -> RolloutSpec:
    """The default policy, without operational guardrails."""
    margin = {"margin": case.margin} if case.promote == "no_harm" else {}
    return RolloutSpec.model_validate({"promote": case.promote, **margin, "guardrails": [], "longest": "30d"})


def run_case(case: RolloutCase, seed: int) -> RolloutResult:
    """Run one rollout to its end, or to the last of its days."""
    return RunningRollout(case, seed).run(build_policy(case))
