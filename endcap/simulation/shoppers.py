"""Shoppers who come back, click and buy by known tastes: a shop where the true effect of any ranking is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray

_Floats = NDArray[np.float64]
_Ints = NDArray[np.int64]


@dataclass(frozen=True)
class ShopperHabits:
    """How the shoppers of a simulated shop behave.

    Attributes
    ----------
    people, visits_per_day
        How many people there are, and how many of them come on a day, each once.
    rankings
        How many rankings a visit sees.
    click_rate
        The mean probability that a ranking is clicked.
    correlation
        Of the clicks of one shopper: the variance of shoppers' tastes, divided by rate (1 - rate).
    places
        How far the click rate of the two kinds of pages lies from the mean, as a part of it.
    daily_swing, weekly_swing
        How far the rates swing around their mean within a day and within a week, as a part of it.
    sales, sale_lift
        The days with a sale, and what it adds to the rates, as a part of them.
    buy_rate
        The probability that a visit buys; None: a tenth of the expected clicks of a visit. It follows the taste.
    order_value, order_spread
        Mean of an order's value, and the standard deviation of its logarithm: 1.2 is heavy-tailed.
    history_days
        The days of the same traffic that the champion has learned from.
    """

    people: int = 300_000
    visits_per_day: int = 100_000
    rankings: int = 3
    click_rate: float = 0.1
    correlation: float = 0.1
    places: float = 0.5
    daily_swing: float = 0.1
    weekly_swing: float = 0.0
    sales: Sequence[int] = ()
    sale_lift: float = 0.5
    buy_rate: float | None = None
    order_value: float = 40.0
    order_spread: float = 1.2
    history_days: int = 90

    @property
    def rankings_known(self) -> int:
        """How many rankings of each shopper the champion has learned from."""
        return self.history_days * self.visits_per_day * self.rankings // self.people

    @property
    def buyers_per_visit(self) -> float:
        """The mean probability that a visit buys."""
        return 0.1 * self.click_rate * self.rankings if self.buy_rate is None else self.buy_rate


@dataclass(frozen=True)
class ShopperVisits:
    """The visits of a day, in their order, with what happens in either arm.

    Attributes
    ----------
    shopper
        int64 [n]: the shoppers' numbers.
    time
        float64 [n]: days since the start.
    exposures
        float64 [n]: rankings that were seen.
    page
        float64 [n]: how much the pages of the visit's rankings raise its click rate, as a factor.
    clicks, buyers, revenue
        float64 [arms, n]: what happens with the champion's ranking, and with each other arm's. The same chance decides
        in all, so that equal arms have equal rows.
    """

    shopper: _Ints
    time: _Floats
    exposures: _Floats
    page: _Floats
    clicks: _Floats
    buyers: _Floats
    revenue: _Floats

    def join(self, other: Self) -> Self:
        """Return these visits and those of another table, in the order of time."""
        order = np.argsort(np.concatenate([self.time, other.time]), kind="stable")
        pairs = {name: (getattr(self, name), getattr(other, name)) for name in self.__dataclass_fields__}
        return type(self)(**{name: np.concatenate(pair, axis=-1)[..., order] for name, pair in pairs.items()})


class SimulatedShoppers:
    """The shoppers of a simulated shop.

    Parameters
    ----------
    habits
        How they behave.
    effect
        What the other arm changes, as a part of the probabilities of clicks and purchases: -0.2 is 20 % less. Several
        numbers: one for each other arm.
    seed
        The same seed gives the same shoppers and visits, whatever the effects are.

    Attributes
    ----------
    effects
        Of the other arms. New ones count from the next day that is drawn.

    Notes
    -----
    Tastes are Beta-distributed with the mean rate and the variance ``correlation * rate * (1 - rate)``. A ranking is
    clicked if a uniform number lies below taste times place times swing, times 1 + effect in another arm.
    """

    def __init__(self, habits: ShopperHabits, *, effect: float | Sequence[float] = 0.0, seed: int = 0) -> None:
        self.habits = habits
        self.effects = tuple(effect) if isinstance(effect, Sequence) else (effect,)
        self._rng = np.random.default_rng(seed)
        size = (1 - habits.correlation) / habits.correlation
        first, second = habits.click_rate * size, (1 - habits.click_rate) * size
        taste = self._rng.beta(first, second, habits.people)
        self._taste = taste.astype(np.float32)
        self._prior = (first, size)
        self._history, self._past = self._rng.spawn(2)
        self.place_on_range = self._rng.random(habits.people)
        """float64 [people]: where the hash puts each shopper, 0 to 1. A share p has those below p."""

    @cached_property
    def _known(self) -> NDArray[np.float32]:
        """The champion's opinion of each shopper's taste, from rankings before."""
        first, size = self._prior
        rankings = self.habits.rankings_known
        past = self._history.binomial(rankings, self._taste)
        return ((first + past) / (size + rankings)).astype(np.float32)

    def score(self, visits: ShopperVisits) -> _Floats:
        """Return the clicks per ranking that the champion's model expects of each visit: float64 [n]."""
        return self._known[visits.shopper] * visits.page

    def draw_day(self, day: int) -> ShopperVisits:
        """Draw the visits of the next day; `day` counts from 0 and decides about swings and sales.

        Days before 0 change nothing of the days from 0 on.
        """
        habits, rng = self.habits, self._rng if day >= 0 else self._past
        count, rankings = habits.visits_per_day, habits.rankings
        shopper = rng.permutation(habits.people)[:count]
        time = day + (np.arange(count) + 0.5) / count
        swing = (1 + habits.daily_swing * np.sin(2 * np.pi * time)) * (
            1 + habits.weekly_swing * np.sin(2 * np.pi * time / 7)
        )
        if day in habits.sales:
            swing *= 1 + habits.sale_lift
        level = swing.astype(np.float32)
        taste = self._taste[shopper]
        # A visit sees rankings on pages of two kinds: a bit for each ranking.
        pages = rng.integers(0, 2**rankings, count, dtype=np.uint8)
        factors = [np.float32(1 + effect) for effect in (0.0, *self.effects)]
        clicks = np.zeros((len(factors), count), np.float32)
        for number in range(rankings):
            page = 1 + np.float32(habits.places) * (2 * ((pages >> number) & 1).astype(np.float32) - 1)
            chance = taste * level * page
            chance_of_all = rng.random(count, dtype=np.float32)
            for row, factor in zip(clicks, factors, strict=True):
                row += chance_of_all < chance * factor
        chance = taste * level * np.float32(habits.buyers_per_visit / habits.click_rate)
        chance_of_all = rng.random(count, dtype=np.float32)
        buyers = np.array([chance_of_all < chance * factor for factor in factors], np.float64)
        orders = np.flatnonzero(buyers.any(axis=0))
        value = np.zeros(count)
        spread = habits.order_spread
        value[orders] = habits.order_value * rng.lognormal(-(spread**2) / 2, spread, len(orders))
        ones = np.bitwise_count(pages) if rankings <= 8 else pages
        return ShopperVisits(
            shopper=shopper,
            time=time,
            exposures=np.full(count, float(rankings)),
            page=1 + habits.places * (2 * ones / rankings - 1),
            clicks=clicks.astype(np.float64),
            buyers=buyers,
            revenue=buyers * value,
        )

    def draw_bot(self, day: int, rankings: int) -> ShopperVisits:
        """Draw a bot's day: one more shopper, whose number is `people`, clicks on half of so many rankings in visits
        as long as people's."""
        count = rankings // self.habits.rankings
        arms = 1 + len(self.effects)
        clicks = np.tile(self._rng.binomial(self.habits.rankings, 0.5, count).astype(np.float64), (arms, 1))
        nothing = np.zeros((arms, count))
        return ShopperVisits(
            shopper=np.full(count, self.habits.people),
            time=day + (np.arange(count) + 0.25) / count,
            exposures=np.full(count, float(self.habits.rankings)),
            page=np.ones(count),
            clicks=clicks,
            buyers=nothing,
            revenue=nothing,
        )
