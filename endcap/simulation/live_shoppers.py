"""Shoppers who look at rankings, click by their known tastes, buy, leave and return: their behaviour alone, no HTTP.

What a shopper wants to see next follows the truth behind the shop's log, whatever she is shown. A ranking decides only
whether she finds it there. So visits go through the same items under any two versions, and the true effect of a
version can be computed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from endcap.simulation.live_habits import LiveHabits
from endcap.simulation.market import Floats
from endcap.simulation.simulate import SimulatedLog

_DAY = 86_400_000
_MOST_VIEWS = 60
"""The views after which a visit ends in any case."""


@dataclass(frozen=True)
class LiveShopper:
    """A shopper.

    Attributes
    ----------
    id
        Her id. It is also the customer's id in the log.
    interest
        The probability that she takes what she wants from a ranking.
    is_signed_in
        Whether the shop knows her as a customer.
    entries
        The items at which her visits begin: those of her visits in the log.
    """

    id: str
    interest: float
    is_signed_in: bool
    entries: tuple[str, ...]


@dataclass
class LiveVisit:
    """A visit that goes on.

    Attributes
    ----------
    number
        The visit's number in the shop.
    shopper
        Whose it is.
    views
        The items that she has viewed so far, at least one.
    rng
        Draws what she does.
    """

    number: int
    shopper: LiveShopper
    views: list[str]
    rng: np.random.Generator


@dataclass(frozen=True)
class ListReaction:
    """What a shopper did with a ranking.

    Attributes
    ----------
    places_seen
        How many places she looked at, from the top.
    clicked
        The place of the item that she clicked, counted from 0; None: no click.
    next_view
        The item that she viewed next: the clicked one, or what she found elsewhere in the shop.
    carts, buys
        Whether she put the clicked item into the cart, and bought it.
    stays
        Whether she asks for another ranking.
    pause
        How long she looked, as a multiple of the mean: exponentially distributed.
    expected_clicks
        The probability of a click on this ranking, before she looked.
    """

    places_seen: int
    clicked: int | None
    next_view: str
    carts: bool
    buys: bool
    stays: bool
    pause: float
    expected_clicks: float


Ranker = Callable[[LiveVisit], Sequence[str]]
"""What ranks items for a visit."""


class LiveShoppers:
    """The shoppers of a simulated log, who go on to visit the shop after its end.

    Parameters
    ----------
    log
        The log that the shop's models were trained on. Shoppers are customers of it, with the tastes that they have
        there.
    habits
        How they behave.
    day
        The day of the visits, counted from the log's first, which decides on demand. None: the log's last.
    seed
        The same seed gives the same shoppers and the same visits.

    Notes
    -----
    At each ranking a shopper wants an item, drawn from `Truth.next_probabilities`. She is interested in the ranking
    with her own probability, and looks at place p (from 0) with probability patience^p: a position-based model
    (Craswell et al., "An experimental comparison of click position-bias models", WSDM 2008). She clicks the item if she
    is interested and sees it. A ranking has at most one click, with probability interest * sum of patience^p * P(item).
    """

    def __init__(
        self, log: SimulatedLog, habits: LiveHabits | None = None, *, day: int | None = None, seed: int = 0
    ) -> None:
        self.habits = habits or LiveHabits()
        self._truth, self._seed = log.truth, seed
        self._numbers = {item: number for number, item in enumerate(log.truth.items)}
        views = log.events.filter(pc.equal(log.events["type"], "view"))
        if day is None:
            last = views["time"][-1].as_py().timestamp()
            day = int((last - log.start.timestamp()) * 1000 // _DAY)
        self.day = day
        self.people = self._choose_people(views, np.random.default_rng([seed, 0]))
        self.prices: dict[str, float] = dict(
            zip(log.items["item"].to_pylist(), log.items["price"].to_pylist(), strict=True)
        )

    def start_visit(self, number: int) -> LiveVisit:
        """Start the visit of this number: its shopper and all that she wants depend on the seed and the number only."""
        rng = np.random.default_rng([self._seed, 1, number])
        shopper = self.people[int(rng.integers(len(self.people)))]
        entry = shopper.entries[int(rng.integers(len(shopper.entries)))]
        return LiveVisit(number, shopper, [entry], rng)

    def compute_expected_clicks(self, items: Sequence[str], visit: LiveVisit) -> float:
        """Compute the probability that a ranking is clicked now.

        Parameters
        ----------
        items
            The ranking's items, best first. Unknown items are never clicked.
        visit
            The visit that it is shown in, with its views so far.

        Returns
        -------
        float
            From 0 to 1. A ranking has at most one click, so that this is the expected number too.
        """
        return self._expect(items, self._compute_chances(visit), visit)

    def react(self, items: Sequence[str], visit: LiveVisit) -> ListReaction:
        """Show a ranking, and draw what the shopper does. What she views next is added to the visit's views."""
        habits, shopper = self.habits, visit.shopper
        chances = self._compute_chances(visit)
        # Always as many random numbers: a visit's next steps do not depend on what it is shown.
        want, interest, patience, cart, buy, stay, pause = visit.rng.random(7).tolist()
        reach = np.cumsum(chances)
        next_view = self._truth.items[min(int(np.searchsorted(reach, want * reach[-1], side="right")), len(reach) - 1)]
        places_seen = min(1 + int(math.log(1.0 - patience) / math.log(habits.patience)), len(items))
        clicked = None
        takes = shopper.interest * (habits.repeats if next_view in visit.views else 1.0)
        if interest < takes and next_view in items[:places_seen]:
            clicked = list(items).index(next_view)
        carts = clicked is not None and cart < habits.carts
        expected = self._expect(items, chances, visit)
        visit.views.append(next_view)
        return ListReaction(
            places_seen=places_seen,
            clicked=clicked,
            next_view=next_view,
            carts=carts,
            buys=carts and buy < habits.buys,
            stays=stay < habits.stays and len(visit.views) < _MOST_VIEWS,
            pause=-math.log(1.0 - pause),
            expected_clicks=expected,
        )

    def compute_effect(self, ranker: Ranker, other: Ranker, *, visits: int = 1_000) -> float:
        """Compute the true effect of a ranker on clicks, over the first visits of the shop.

        Parameters
        ----------
        ranker
            What is compared with: the champion's rankings.
        other
            What is judged: the challenger's rankings.
        visits
            How many visits are gone through.

        Returns
        -------
        float
            Expected clicks of `other` over those of `ranker`, minus 1: -0.2 is 20 % fewer.
        """
        return self.compute_click_rate(other, visits=visits) / self.compute_click_rate(ranker, visits=visits) - 1.0

    def compute_click_rate(self, ranker: Ranker, *, visits: int = 1_000) -> float:
        """Compute the true probability that a ranking of a ranker is clicked, over the first visits of the shop.

        Visits go through the same items whatever they are shown, so that the rates of two rankers can be compared.
        """
        clicks, rankings = 0.0, 0
        for number in range(visits):
            visit, stays = self.start_visit(number), True
            while stays:
                reaction = self.react(ranker(visit), visit)
                clicks, rankings, stays = clicks + reaction.expected_clicks, rankings + 1, reaction.stays
        return clicks / rankings

    def _choose_people(self, views: pa.Table, rng: np.random.Generator) -> list[LiveShopper]:
        """Choose the shoppers among the customers whom the log names."""
        frame = views.to_pandas()
        starts = frame.drop_duplicates("session").dropna(subset=["customer"])
        entries = starts.groupby("customer", sort=True)["item"].agg(tuple)
        if not len(entries):
            raise ValueError("the log names no customer")
        people = entries.iloc[rng.permutation(len(entries))[: self.habits.people]]
        interest, correlation = self.habits.interest, self.habits.correlation
        interests = np.full(len(people), interest)
        if correlation:
            size = (1 - correlation) / correlation
            interests = rng.beta(interest * size, (1 - interest) * size, len(people))
        signed_in = rng.random(len(people)) < self.habits.signed_in
        rows = zip(people.index, interests.tolist(), signed_in.tolist(), people, strict=True)
        return [LiveShopper(*row) for row in rows]

    def _compute_chances(self, visit: LiveVisit) -> Floats:
        """Return the probability that each item is wanted next: float64 [n]."""
        return self._truth.next_probabilities(visit.views, day=self.day, customer=visit.shopper.id)

    def _expect(self, items: Sequence[str], chances: Floats, visit: LiveVisit) -> float:
        expected, weight, known = 0.0, 1.0, set[str]()
        for item in items:
            number = self._numbers.get(item)
            if number is not None and item not in known:
                taken = self.habits.repeats if item in visit.views else 1.0
                expected += weight * taken * float(chances[number])
                known.add(item)
            weight *= self.habits.patience
        return visit.shopper.interest * expected
