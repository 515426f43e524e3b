"""The demand at a simulated shop on a given day: the probabilities from which its log is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from endcap.simulation.products import LEVELS, ProductRange

REPEAT, RELATED, INTENT = 0.12, 0.42, 0.33
"""The probabilities that the next view repeats an earlier one of the session, is related to the last one, or is of the
session's intent (the kind of its first product). Otherwise it strays anywhere in the shop."""
NEUTRAL = LEVELS
"""The taste without a price level, which strays follow."""
_CLOSENESS = 1.0
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Trends:
    """The waves of demand over weeks: period (days) and phase of each product and of each kind."""

    item_period: Floats
    item_phase: Floats
    kind_period: Floats
    kind_phase: Floats

    @classmethod
    def make(cls, rng: np.random.Generator, items: int, kinds: int) -> Trends:
        return cls(
            rng.uniform(30, 90, items),
            rng.uniform(0, 2 * np.pi, items),
            rng.uniform(21, 70, kinds),
            rng.uniform(0, 2 * np.pi, kinds),
        )


class Market:
    """The demand of one day. Products are indices into the range of products."""

    def __init__(self, catalogue: ProductRange, trends: Trends, day: int) -> None:
        self.catalogue = catalogue
        item = 0.5 * np.sin(2 * np.pi * day / trends.item_period + trends.item_phase)
        kind = 0.7 * np.sin(2 * np.pi * day / trends.kind_period + trends.kind_phase)
        age = day - catalogue.launch
        novelty = np.where(catalogue.launch > 0, 1 + 2 * np.exp(-np.maximum(age, 0) / 7), 1.0)
        exists = age >= 0
        weight = np.where(exists, catalogue.appeal * np.exp(item + kind[catalogue.kind]) * novelty, 0.0)
        closeness = np.exp(-_CLOSENESS * np.abs(np.arange(LEVELS)[:, None] - catalogue.level[None, :]))
        self.weights = np.vstack([weight * closeness, weight])
        """float64 [LEVELS + 1, n]: demand by the shopper's price level. The last row is the demand without a level."""
        self._reach = np.concatenate([[0.0], np.cumsum(self.weights)])
        self._leading = np.cumsum(catalogue.affinity * exists[catalogue.related], axis=1)
        totals = np.diff(np.concatenate([[0.0], np.cumsum(weight)])[catalogue.category_start])
        self.category_weight = totals
        """float64 [categories]."""

    def draw(self, rng: np.random.Generator, start: Ints, stop: Ints, level: Ints) -> Ints:
        """Draw a product from start:stop for each row, by the demand of its price level: int64 [rows]."""
        row = level * len(self.catalogue)
        low, high = self._reach[row + start], self._reach[row + stop]
        drawn = np.searchsorted(self._reach, low + rng.random(len(row)) * (high - low), side="right") - 1
        # Rounding may reach one place too far, onto a product that is not on sale yet.
        drawn = np.clip(drawn, row + start, row + stop - 1) - row
        return np.where(self.weights[level, drawn] > 0, drawn, start)

    def draw_of_kind(self, rng: np.random.Generator, kind: Ints, level: Ints) -> Ints:
        """Draw a product of this kind for each row."""
        starts = self.catalogue.kind_start
        return self.draw(rng, starts[kind], starts[kind + 1], level)

    def draw_next(self, rng: np.random.Generator, viewed: Ints, kind: Ints, level: Ints) -> Ints:
        """Draw the next view of each session. viewed: int64 [sessions, views so far]; kind: the intents."""
        choice = rng.random(len(viewed))
        last = viewed[:, -1]
        again = viewed[np.arange(len(viewed)), rng.integers(viewed.shape[1], size=len(viewed))]
        reach = self._leading[last]
        position = (reach <= (rng.random(len(viewed)) * reach[:, -1])[:, None]).sum(axis=1)
        leads = self.catalogue.related[last, np.minimum(position, reach.shape[1] - 1)]
        related = (choice >= REPEAT) & (choice < REPEAT + RELATED) & (reach[:, -1] > 0)
        stray = choice >= REPEAT + RELATED + INTENT
        everywhere = np.full(len(viewed), len(self.catalogue))
        within = self.draw_of_kind(rng, kind, level)
        strays = self.draw(rng, np.zeros_like(everywhere), everywhere, np.full(len(viewed), NEUTRAL))
        return np.select([choice < REPEAT, related, stray], [again, leads, strays], within)

    def compute_next(self, viewed: Sequence[int], level: int) -> Floats:
        """Return the distribution from which `draw_next` draws, for one session: float64 [n] with the sum 1."""
        catalogue, last = self.catalogue, viewed[-1]
        chances = np.zeros(len(catalogue))
        np.add.at(chances, np.asarray(viewed), REPEAT / len(viewed))
        steps = np.diff(self._leading[last], prepend=0.0)
        leads = steps.sum() > 0
        if leads:
            np.add.at(chances, catalogue.related[last], RELATED * steps / steps.sum())
        kind = catalogue.kind[viewed[0]]
        within = slice(catalogue.kind_start[kind], catalogue.kind_start[kind + 1])
        demand = self.weights[level, within]
        chances[within] += (INTENT if leads else INTENT + RELATED) * demand / demand.sum()
        chances += (1 - REPEAT - RELATED - INTENT) * self.weights[NEUTRAL] / self.weights[NEUTRAL].sum()
        return chances


class Truth:
    """The probabilities behind a simulated log, which the best possible model would know.

    A session's state is its day and its views so far. The first view shows the intent, which lasts. The price level of
    an unknown customer is inferred from the views.
    """

    def __init__(self, catalogue: ProductRange, trends: Trends, levels: dict[str, int]) -> None:
        self.items: list[str] = catalogue.ids.tolist()
        """Item ids, in the order of the probabilities."""
        self._catalogue = catalogue
        self._trends = trends
        self._levels = levels
        self._index = {item: number for number, item in enumerate(self.items)}
        counts = np.bincount(list(levels.values()), minlength=LEVELS)
        self._prior = counts / counts.sum()
        self._market = lru_cache(maxsize=64)(lambda day: Market(catalogue, trends, day))

    def next_probabilities(self, views: Sequence[str], *, day: int, customer: str | None = None) -> Floats:
        """Return the probability that each item is viewed next, given that there is a next view.

        Parameters
        ----------
        views
            Ids of the items viewed in the session so far, at least one.
        day
            The day, counted from the log's first.
        customer
            The customer's id. None: unknown.

        Returns
        -------
        ndarray
            float64 [n_items], in the order of `items`.
        """
        viewed = [self._index[item] for item in views]
        market: Market = self._market(day)
        if customer is not None:
            return market.compute_next(viewed, self._levels[customer])
        belief = self._belief(market, viewed)
        chances: Floats = belief @ np.array([market.compute_next(viewed, level) for level in range(LEVELS)])
        return chances

    def _belief(self, market: Market, viewed: list[int]) -> Floats:
        """Return the probability of each price level after the views: float64 [LEVELS]."""
        kind = self._catalogue.kind[viewed[0]]
        within = slice(self._catalogue.kind_start[kind], self._catalogue.kind_start[kind + 1])
        demand = market.weights[:LEVELS, within].sum(axis=1)
        belief: Floats = self._prior * market.weights[:LEVELS, viewed[0]] / demand
        for count in range(1, len(viewed)):
            belief *= [market.compute_next(viewed[:count], level)[viewed[count]] for level in range(LEVELS)]
            belief /= belief.sum()
        belief /= belief.sum()
        return belief
