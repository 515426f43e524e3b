"""One metric's windows: which visits are over at a look, and what counts for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from endcap.experiments.champion_history import ChampionHistory
from endcap.experiments.closed_visits import ClosedVisits
from endcap.experiments.effect_state import EffectState
from endcap.experiments.elsewhere import FirstElsewhere
from endcap.experiments.expected_rates import ExpectedRates, UsualOutcome
from endcap.experiments.exposures import Columns, Exposures, find_changes, hash_text
from endcap.experiments.key_index import KeyIndex
from endcap.experiments.outcomes import Outcomes
from endcap.experiments.running_sums import widen
from endcap.experiments.shopper_history import ShopperHistory
from endcap.spec.rollout_metrics import AddToCartSpec, CtrSpec, MetricSpec, RevenueSpec

_Keys = NDArray[np.uint64]
_Ints = NDArray[np.int64]
_Floats = NDArray[np.float64]
_Flags = NDArray[np.bool_]
_DAY = 86_400_000
_NEVER = -(2**62)
_TIME_BITS = 37
"""Times within a look's windows, in milliseconds: four years."""
_GROUPS = 16
"""Groups of surfaces whose rates are told apart, by the surface's hash."""
_NO_WEIGHT = 1e-9
"""Nothing is expected before the first visit: rates come from visits, of before the rollout where there are."""


@dataclass(frozen=True)
class SeenRankings(Columns):
    """Rankings that were seen, one row each, in the order of (time, ranking).

    Attributes
    ----------
    time
        int64 [n]: when the ranking was made, in milliseconds since 1970, UTC.
    ranking
        uint64 [n]: the hash of its id.
    shopper
        int64 [n]: the shopper's number.
    received
        int64 [n]: when the intake took the first report of it, as `time`.
    treated, probability
        bool and float64 [n]: as in `ClosedVisits`.
    group
        int64 [n]: the group of its surface (`group_surfaces`).
    layout
        float64 [n]: as in `ClosedVisits`.
    """

    time: _Ints
    ranking: _Keys
    shopper: _Ints
    received: _Ints
    treated: _Flags
    probability: _Floats
    group: _Ints
    layout: _Floats

    def merge(self, new: Self) -> Self:
        """Return these rankings and new ones; one that is here stays as it is."""
        if not len(new):
            return self
        # Only what is not older than the oldest new one has to be put in order again.
        cut = int(np.searchsorted(self.time, new.time[0]))
        recent = self.select(np.arange(cut, len(self)))
        recent = recent.join(new.select(~np.isin(new.ranking, recent.ranking)))
        recent = recent.select(np.lexsort((recent.ranking, recent.time)))
        return self.select(np.arange(cut)).join(recent)


class MetricJoin:
    """Joins one metric's outcomes to rankings, and keeps the sums of what is over.

    Parameters
    ----------
    metric
        The metric of the policy.
    cap
        How many rankings of a shopper and day count.
    begins
        When the rollout began, in milliseconds since 1970.
    covary
        Of the A/B test, as in `EffectState`; None: there is none.

    Notes
    -----
    *Clicks and carts* count for each ranking: an event counts for the ranking that it names, or else for the latest
    ranking before it that showed its item to its shopper. *Purchases and revenue* count for each visit, which begins
    with a ranking that lies in no earlier visit and lasts for the metric's window. Both count under the arm and the
    probability of the ranking's moment, whatever answered: nothing of what happened later chooses who is counted.

    *What is expected* is the rate of the ranking's surface, times the shopper's factor (`ShopperHistory`). Visits from
    before the rollout teach both, and tell nothing of the arm.
    """

    early: ClassVar[int] = 60_000
    """Milliseconds that a shop's clock may be behind: an event that names a ranking came after it."""

    def __init__(
        self, metric: MetricSpec, cap: int, begins: int, covary: Callable[[float, float], float] | None = None
    ) -> None:
        self.metric = metric
        self._begins = begins
        self.counts_items = isinstance(metric, CtrSpec | AddToCartSpec)
        self.window, self.settle = _measure(metric.window), _measure(metric.settles_after)
        self.effect = EffectState(better=metric.direction == "up", covary=covary)
        self._closed_until = _NEVER
        self._before = ExpectedRates([0.0] * _GROUPS, weight=_NO_WEIGHT)
        """Of visits from before the rollout: what a shopper's history is held against."""
        self._expected = ExpectedRates([0.0] * _GROUPS, weight=_NO_WEIGHT)
        self._history = ShopperHistory()
        self._usual = UsualOutcome()
        self.past = ChampionHistory()
        """Of all visits from before the rollout, and of the arm's during it."""
        self._kinds = np.array([hash_text(kind) for kind in metric.types], np.uint64)
        self._cap = cap
        self._days = np.zeros(0, np.int32)
        self._counts = np.zeros(0, np.int32)
        self._visit_ends = np.zeros(0, np.int64)

    def close(
        self,
        moment: int,
        rankings: SeenRankings,
        shown: Exposures,
        outcomes: Outcomes,
        people: KeyIndex,
        elsewhere: FirstElsewhere,
    ) -> tuple[SeenRankings, int]:
        """Add the visits whose windows end by a moment.

        Parameters
        ----------
        moment
            Milliseconds since 1970, later than at the last call.
        rankings, shown, outcomes
            All that was received by then and may still count.
        people
            The shoppers' numbers.
        elsewhere
            Who met another arm of the A/B test.

        Returns
        -------
        rankings
            Those that now count.
        over_cap
            How many of the rollout were over the cap.
        """
        ends = (self._closed_until - self.settle, moment - self.settle)
        start, stop = np.searchsorted(rankings.time, ends, side="right").tolist()
        due = rankings.select(np.arange(start, stop))
        self._closed_until = moment
        self._grow(len(people))
        due = due.select(due.received <= due.time + self.settle)
        is_within = self._find_within_cap(due)
        over_cap = int((~is_within & (due.time >= self._begins)).sum())
        closed = due.select(is_within)
        events = outcomes.select(np.isin(outcomes.kind, self._kinds))
        if self.counts_items:
            outcome = self._count_items(closed, shown, events)
        else:
            closed = closed.select(self._start_visits(closed))
            outcome = self._count_visits(closed, events, people)
        exposures = np.ones(len(closed))
        factors = self._read_history(closed, exposures, outcome)
        expected = self._expected.predict(closed.group, exposures, outcome, factors)
        unit = self._usual.predict(outcome) if isinstance(self.metric, RevenueSpec) else 1.0
        is_moved = elsewhere.is_before(closed.shopper, closed.time)
        visits = ClosedVisits(
            closed.shopper,
            closed.treated,
            closed.probability,
            exposures,
            outcome,
            expected,
            unit,
            closed.layout,
            is_moved,
        )
        self.effect.add(visits)
        counts = closed.treated | (closed.time < self._begins)
        self.past.add(closed.time[counts], exposures[counts], outcome[counts])
        return closed, over_cap

    def _read_history(self, closed: SeenRankings, exposures: _Floats, outcome: _Floats) -> _Floats:
        """Return each visit's factor by its shopper's history, and take visits from before the rollout into it."""
        # Visits are in the order of time.
        old = slice(0, int(np.searchsorted(closed.time, self._begins)))
        expected = self._before.predict(closed.group[old], exposures[old], outcome[old]) * exposures[old]
        learnt = self._history.learn(closed.shopper[old], expected, outcome[old])
        return np.concatenate([learnt, self._history.predict(closed.shopper[old.stop :])])

    def _find_within_cap(self, due: SeenRankings) -> _Flags:
        """Tell which rankings are among the first of their shopper and day, up to the cap."""
        is_within = np.ones(len(due), np.bool_)
        if not len(due):
            return is_within
        days = due.time // _DAY
        order = np.lexsort((np.arange(len(due)), days, due.shopper))
        shopper, day = due.shopper[order], days[order]
        starts = np.flatnonzero(find_changes(shopper) | find_changes(day))
        sizes = np.diff(np.append(starts, len(order)))
        first, today = shopper[starts], day[starts]
        before = np.where(self._days[first] == today, self._counts[first], 0)
        is_within[order] = np.arange(len(order)) - np.repeat(starts - before, sizes) < self._cap
        # A shopper's last day stands last, and is the one that is kept.
        self._days[first], self._counts[first] = today, before + sizes
        return is_within

    def _start_visits(self, closed: SeenRankings) -> _Flags:
        """Tell which rankings start a visit: those that lie in no visit of their shopper yet."""
        is_start = np.zeros(len(closed), np.bool_)
        rows = np.arange(len(closed))
        while len(rows):
            rows = rows[closed.time[rows] >= self._visit_ends[closed.shopper[rows]]]
            _, first = np.unique(closed.shopper[rows], return_index=True)
            starts = rows[first]
            is_start[starts] = True
            self._visit_ends[closed.shopper[starts]] = self._find_ends(closed.time[starts])
        return is_start

    def _find_ends(self, begins: _Ints) -> _Ints:
        """Return when visits end. One from before the rollout ends with its begin: what follows may be the arm's."""
        ends = begins + self.window
        return np.where(begins < self._begins, np.minimum(ends, self._begins), ends)

    def _count_visits(self, visits: SeenRankings, events: Outcomes, people: KeyIndex) -> _Floats:
        """Return each visit's outcome: 1 for a buyer, or the sum that was spent: float64 [n]."""
        outcome = np.zeros(len(visits))
        if not len(visits):
            return outcome
        base = int(visits.time.min())
        events = events.select((people.find(events.shopper) >= 0) & (events.time >= base))
        shopper = people.find(events.shopper)
        keys = _combine(visits.shopper, visits.time - base)
        order = np.argsort(keys)
        at = np.searchsorted(keys[order], _combine(shopper, events.time - base), side="right") - 1
        visit = order[np.maximum(at, 0)]
        counts = (at >= 0) & (visits.shopper[visit] == shopper)
        counts &= events.time < self._find_ends(visits.time)[visit]
        counts &= events.received <= visits.time[visit] + self.settle
        rows = np.flatnonzero(counts)
        if isinstance(self.metric, RevenueSpec):
            # In an order of their own, so that a sum does not depend on the order of files.
            rows = rows[np.lexsort((events.id[rows], events.time[rows]))]
            np.add.at(outcome, visit[rows], events.value[rows])
        else:
            outcome[visit[rows]] = 1.0
        return outcome

    def _count_items(self, closed: SeenRankings, shown: Exposures, events: Outcomes) -> _Floats:
        """Return each ranking's outcome: 1 with a click, or the number of its items in the cart: float64 [n]."""
        outcome = np.zeros(len(closed))
        if not len(closed):
            return outcome
        shown = shown.select(shown.received <= shown.time + self.settle)
        if isinstance(self.metric, CtrSpec):
            last = np.inf if self.metric.first is None else self.metric.first
            shown = shown.select((shown.position >= self.metric.after) & (shown.position < last))
        direct, indirect = events.select(events.ranking != 0), events.select(events.ranking == 0)
        ranking = np.concatenate([_match_rankings(direct, shown), _find_latest_rankings(indirect, shown)])
        events = direct.join(indirect)
        order = np.argsort(closed.ranking)
        at = np.minimum(np.searchsorted(closed.ranking[order], ranking), len(order) - 1)
        row = order[at]
        counts = (ranking != 0) & (closed.ranking[row] == ranking)
        counts &= (events.time >= closed.time[row] - self.early) & (events.time < closed.time[row] + self.window)
        counts &= events.received <= closed.time[row] + self.settle
        if isinstance(self.metric, AddToCartSpec):
            pairs = np.unique(np.stack([row[counts].astype(np.uint64), events.item[counts]], axis=1), axis=0)
            np.add.at(outcome, pairs[:, 0].astype(np.int64), 1.0)
        else:
            outcome[row[counts]] = 1.0
        return outcome

    def _grow(self, size: int) -> None:
        room = size - len(self._days)
        if room > 0:
            # A day of 0 lies before all rollouts.
            self._days, self._counts = widen(self._days, size), widen(self._counts, size)
            if not self.counts_items:
                self._visit_ends = np.append(self._visit_ends, np.full(room, _NEVER))


def group_surfaces(surface: _Keys) -> _Ints:
    """Return the group of each surface, by its hash: int64 [n]."""
    return (surface % np.uint64(_GROUPS)).astype(np.int64)


def count_milliseconds(moment: datetime) -> int:
    """Return a moment as milliseconds since 1970, UTC."""
    return round(moment.timestamp() * 1000)


def _match_rankings(events: Outcomes, shown: Exposures) -> _Keys:
    """Return the ranking that each event names, where it showed the item; 0 otherwise: uint64 [n]."""
    if not len(shown):
        return np.zeros(len(events), np.uint64)
    pairs = np.sort(_mix(shown.ranking, shown.item))
    event_pairs = _mix(events.ranking, events.item)
    at = np.minimum(np.searchsorted(pairs, event_pairs), len(pairs) - 1)
    return np.where(pairs[at] == event_pairs, events.ranking, 0)


def _find_latest_rankings(events: Outcomes, shown: Exposures) -> _Keys:
    """Return the shopper's latest ranking that showed each event's item before the event; 0 for none: uint64 [n].

    Only rankings count that were reported before the event, so the answer is final as soon as the event is known.
    """
    latest = np.zeros(len(events), np.uint64)
    if not len(events) or not len(shown):
        return latest
    pairs, numbers = np.unique(_mix(shown.shopper, shown.item), return_inverse=True)
    base = int(shown.time.min())
    keys = _combine(numbers, shown.time - base)
    order = np.lexsort((shown.ranking, keys))
    keys = keys[order]
    event_pairs = _mix(events.shopper, events.item)
    number = np.minimum(np.searchsorted(pairs, event_pairs), len(pairs) - 1)
    rows = np.flatnonzero((pairs[number] == event_pairs) & (events.time >= base))
    at = np.searchsorted(keys, _combine(number[rows], events.time[rows] - base), side="right") - 1
    while len(rows):
        ranking = order[np.maximum(at, 0)]
        is_same = (at >= 0) & (numbers[ranking] == number[rows])
        rows, at, ranking = rows[is_same], at[is_same], ranking[is_same]
        is_reported = shown.received[ranking] <= events.received[rows]
        latest[rows[is_reported]] = shown.ranking[ranking[is_reported]]
        rows, at = rows[~is_reported], at[~is_reported] - 1
    return latest


def _mix(first: _Keys, second: _Keys) -> _Keys:
    """Return one 64-bit key of two."""
    with np.errstate(over="ignore"):
        mixed = first * np.uint64(0x9E3779B97F4A7C15)
        pairs: _Keys = (mixed ^ (mixed >> np.uint64(29))) + second * np.uint64(0xC2B2AE3D27D4EB4F)
    return pairs


def _combine(number: _Ints, time: _Ints) -> _Ints:
    """Return keys that are ordered by number, then by time."""
    keys: _Ints = (number << _TIME_BITS) + np.minimum(time, 2**_TIME_BITS - 1)
    return keys


def _measure(duration: timedelta) -> int:
    return round(duration.total_seconds() * 1000)
