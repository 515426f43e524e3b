"""What is kept of shoppers' visits to judge an arm's effect on one metric: sums with a variance from the design.

The only source of chance that is used is the hash that gave each shopper an arm. Its probability is known at every
moment, so nothing is assumed of clicks or revenue, and nothing is estimated from the few shoppers of a new arm.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from endcap.experiments.closed_visits import ClosedVisits
from endcap.experiments.running_sums import accumulate, add_at, widen
from endcap.experiments.sequential import HARMS, weigh_residuals

_Floats = NDArray[np.float64]
_Ints = NDArray[np.int64]
_Flags = NDArray[np.bool_]

PILOT = 1_000
"""The first so many visits tell how much outcomes vary. Before them there are no bounds."""
LAST_EVENTS = 100.0
"""After so many, the e-process for small samples takes no more shoppers: the bounds are sharper from there."""


@dataclass(frozen=True)
class EffectSums:
    """The sums of an `EffectState` at one moment: all that `judge_effect` needs.

    Attributes
    ----------
    score
        Sum of (W - p)(y - m x): W the arm, p its probability, y the outcome, x the exposures, m what was expected.
    information
        Sum of p (1 - p) x.
    variance
        The largest variance of the score so far, from the design, clustered by shopper.
    stable_outcomes, stable_exposures
        Sums of p y and p x over the stable arm: its rate at the moments that weigh in the score.
    events
        Sum of min(p, 1 - p) over visits with an outcome: how many to expect in the smaller arm.
    spike
        The largest residual in absolute value, times 2 p - 1, over visits where the arm is the more probable one.
    pilot_square, pilot_outcomes, pilot_visits
        Sums of (y - m x)^2 and of y over the first `PILOT` visits of both arms, and their number.
    shoppers, exposures, outcomes
        Distinct shoppers, and plain sums, of the stable version and of the arm.
    wealth
        The logarithms of the e-processes for small samples, one for each of `HARMS`.
    """

    score: float = 0.0
    information: float = 0.0
    variance: float = 0.0
    stable_outcomes: float = 0.0
    stable_exposures: float = 0.0
    events: float = 0.0
    spike: float = 0.0
    pilot_square: float = 0.0
    pilot_outcomes: float = 0.0
    pilot_visits: int = 0
    shoppers: tuple[int, int] = (0, 0)
    exposures: tuple[float, float] = (0.0, 0.0)
    outcomes: tuple[float, float] = (0.0, 0.0)
    wealth: tuple[float, ...] = (0.0,) * len(HARMS)


class EffectState:
    """What is kept of all closed visits, to judge an arm's effect on one metric.

    It takes each visit once, in time O(new visits) and memory O(shoppers). Sums are added in the visits' order, so
    the state does not depend on how the visits were cut into batches, to the last bit.

    Parameters
    ----------
    better
        Whether more of the metric is better.
    covary
        During an A/B test the covariance of a shopper's arms under two layouts, by their numbers (`covary_arms`). None:
        the arms grow and shrink at the ends of the hash range, so it follows from the two probabilities.

    Notes
    -----
    *Score.* ``S = sum (W - p)(y - m x)`` is a score test of "the arm has no effect". By the known probability its mean
    is ``sum p (1 - p) x`` times the difference of the rates, whatever the shares were, so a rising share causes no
    Simpson's paradox. A good m takes variance out and cannot bias: this is the augmented inverse-propensity idea
    (Robins, Rotnitzky and Zhao 1994) and CUPED's (Deng, Xu, Kohavi and Walker 2013).

    *Variance.* A shopper's place u on the hash range is uniform and stays. With ``W = 1{u < p}`` at a visit, two visits
    with residuals e, f and probabilities p, q have the covariance ``e f min(p, q) (1 - max(p, q))``. Their sum over
    each shopper's pairs is the variance of S under no effect, given all outcomes: it uses the stable version's many
    visits, and needs no noise of the arm. Residuals are summed by shopper and probability, in 4 bytes each, so shares
    may rise and fall. In an A/B test a third arm gives shoppers too, so they are summed by shopper and layout, and the
    covariance is that of the two layouts.

    *At every look.* A returning shopper keeps the arm, so the increments of S are no martingale. They are positively
    correlated where shoppers differ, and a Gaussian process with positively correlated increments exceeds a boundary
    less often than one with independent increments of the same variances (Slepian's lemma): the boundary errs on the
    safe side. The largest variance so far is used, so that a negative pair cannot tighten it again.

    *Large shares.* For a champion beside its predecessor's small arm, harm is the heavy side. There Bernstein's term
    for the largest residual widens the bound (`spike`).

    *Small shares.* Against harm, at p below 1/2, a single outcome's term has a lighter tail than the normal (Okamoto
    1958), so this side holds with few shoppers and heavy-tailed revenue too. The other side is heavy at a small share,
    hence `FEWEST_EVENTS`.
    """

    def __init__(self, *, better: bool = True, covary: Callable[[float, float], float] | None = None) -> None:
        self.better = better
        self._is_by_layout = covary is not None
        self._covary = cache(covary or _covary_nested)
        self.sums = EffectSums()
        self._variance = 0.0
        self._size = 0
        self._met = np.zeros(0, np.uint8)
        self._residuals: dict[float, NDArray[np.float32]] = {}
        self._cross_weights: tuple[float, _Floats] | None = None
        self._order = np.zeros(0, np.int32)

    def add(self, visits: ClosedVisits) -> None:
        """Take visits that closed after all earlier ones. Raises DataError for values that are not numbers."""
        self.trace(visits, [])

    def trace(self, visits: ClosedVisits, ends: Sequence[int]) -> list[EffectSums]:
        """Take visits, and return the sums after the first ``end`` of them, for each of `ends` in rising order."""
        visits.check()
        keep = (visits.probability > 0) & (visits.probability < 1)
        if not keep.all():
            before = np.concatenate([[0], np.cumsum(keep)])
            return self.trace(visits[keep], [int(before[end]) for end in ends])
        if not len(visits):
            return [self.sums] * len(ends)
        self._grow(int(visits.shopper.max()) + 1)
        residual = visits.outcome - visits.expected * visits.exposures
        paired, is_first, is_new = self._pair(visits, residual)
        return self._sum(visits, residual, paired, is_first, is_new, ends)

    def _pair(self, visits: ClosedVisits, residual: _Floats) -> tuple[_Floats, _Flags, _Flags]:
        """Return each visit's covariance with the same shopper's earlier ones, and which are a shopper's first: of
        all, unless the shopper met a third arm before, and in its arm."""
        count = len(visits)
        paired = np.empty(count)
        is_first, is_new = np.empty(count, np.bool_), np.empty(count, np.bool_)
        moments = visits.layout if self._is_by_layout else visits.probability
        moments, is_moved = np.broadcast_to(moments, count), np.broadcast_to(visits.is_moved, count)
        changes = np.flatnonzero(np.diff(moments)) + 1
        for start, stop in zip([0, *changes.tolist()], [*changes.tolist(), count], strict=True):
            moment = float(moments[start])
            own = self._residuals.get(moment)
            if own is None:
                own = self._residuals[moment] = np.zeros(len(self._met), np.float32)
            numbers = np.arange(start, stop, dtype=np.int32)
            rows: slice | NDArray[np.int32] = slice(start, stop)
            while len(numbers):
                # Of a shopper with several visits, the first one goes before the others.
                shopper = visits.shopper[rows]
                self._order[shopper[::-1]] = numbers[::-1]
                leads = self._order[shopper] == numbers
                later = numbers[:0]
                if not leads.all():
                    later, rows = numbers[~leads], numbers[leads]
                    shopper = visits.shopper[rows]
                earlier = own[shopper].astype(np.float64)
                paired[rows] = self._covary_others(moment, shopper) + self._covary(moment, moment) * earlier
                own[shopper] = earlier + residual[rows]
                met = self._met[shopper]
                bits = visits.treated[rows] + np.uint8(1)
                is_first[rows] = (met == 0) & ~is_moved[rows]
                is_new[rows] = (met & bits) == 0
                self._met[shopper] = met | bits
                numbers = rows = later
        return paired, is_first, is_new

    def _covary_others(self, moment: float, shopper: _Ints) -> _Floats:
        """Return the covariance weights of the shoppers' visits at other moments, times their residuals."""
        if len(self._residuals) == 1:
            return np.zeros(len(shopper))
        if self._cross_weights is not None and self._cross_weights[0] == moment:
            if not len(self._cross_weights[1]):
                # The second batch at this moment in a row: it pays to add up for everyone.
                self._cross_weights = (moment, self._add_others(moment, slice(None)))
            return self._cross_weights[1][shopper]
        self._cross_weights = (moment, np.zeros(0))
        return self._add_others(moment, shopper)

    def _add_others(self, moment: float, shopper: _Ints | slice) -> _Floats:
        total = np.zeros(len(self._met[shopper]))
        for other, residuals in self._residuals.items():
            if other != moment:
                total += residuals[shopper].astype(np.float64) * self._covary(moment, other)
        return total

    def _sum(
        self,
        visits: ClosedVisits,
        residual: _Floats,
        paired: _Floats,
        is_first: _Flags,
        is_new: _Flags,
        ends: Sequence[int],
    ) -> list[EffectSums]:
        sums, p = self.sums, visits.probability
        places = np.array([*ends, len(visits)])
        spread, squares = p * (1 - p), residual**2
        counted = np.flatnonzero(visits.outcome)
        arms = [np.flatnonzero(~visits.treated), np.flatnonzero(visits.treated)]
        counted_arms = [counted[~visits.treated[counted]], counted[visits.treated[counted]]]
        stable, bought = arms[0], counted_arms[0]
        pilot = np.arange(min(PILOT - sums.pilot_visits, len(visits)))
        variance = accumulate(self._variance, squares * spread + 2 * residual * paired)
        self._variance = float(variance[-1])
        largest = np.maximum(np.maximum.accumulate(variance), sums.variance)
        spikes = np.maximum.accumulate(np.append(sums.spike, np.abs(residual) * np.maximum(2 * p - 1, 0.0)))
        columns = {
            "score": accumulate(sums.score, (visits.treated - p) * residual)[places].tolist(),
            "information": accumulate(sums.information, spread * visits.exposures)[places].tolist(),
            "variance": largest[places].tolist(),
            "spike": spikes[places].tolist(),
            "stable_outcomes": add_at(sums.stable_outcomes, bought, p[bought] * visits.outcome[bought], places),
            "stable_exposures": add_at(sums.stable_exposures, stable, p[stable] * visits.exposures[stable], places),
            "events": add_at(sums.events, counted, np.minimum(p, 1 - p)[counted], places),
            "pilot_square": add_at(sums.pilot_square, pilot, squares[pilot], places),
            "pilot_outcomes": add_at(sums.pilot_outcomes, pilot, visits.outcome[pilot], places),
        }
        fresh = [rows[is_new[rows]] for rows in arms]
        pairs: dict[str, list[list[Any]]] = {
            "shoppers": [(sums.shoppers[k] + np.searchsorted(fresh[k], places)).tolist() for k in (0, 1)],
            "exposures": [add_at(sums.exposures[k], arms[k], visits.exposures[arms[k]], places) for k in (0, 1)],
            "outcomes": [
                add_at(sums.outcomes[k], counted_arms[k], visits.outcome[counted_arms[k]], places) for k in (0, 1)
            ],
        }
        wealth = self._bet(visits, residual, np.flatnonzero(is_first), counted, places)
        steps = []
        for number, place in enumerate(places.tolist()):
            values: dict[str, Any] = {name: column[number] for name, column in columns.items()}
            values |= {name: (both[0][number], both[1][number]) for name, both in pairs.items()}
            pilot_visits = min(PILOT, sums.pilot_visits + place)
            steps.append(EffectSums(**values, pilot_visits=pilot_visits, wealth=wealth[number]))
        self.sums = steps.pop()
        return steps

    def _bet(
        self, visits: ClosedVisits, residual: _Floats, first: _Ints, counted: _Ints, places: _Ints
    ) -> list[tuple[float, ...]]:
        """Return the logarithms of the e-processes at some places."""
        before = self.sums.events
        if before >= LAST_EVENTS:
            return [self.sums.wealth] * len(places)
        p = visits.probability[counted]
        events = accumulate(before, np.minimum(p, 1 - p))
        last = int(np.searchsorted(events, LAST_EVENTS))
        # `last` is the number of the outcome that is one too many; visits up to it still count.
        rows = first if last > len(counted) else first[first <= counted[last - 1]]
        weights = weigh_residuals(
            residual[rows] / (visits.unit[rows] if isinstance(visits.unit, np.ndarray) else visits.unit),
            visits.treated[rows],
            visits.probability[rows],
            -1 if self.better else 1,
        )
        columns = [add_at(start, rows, values, places) for start, values in zip(self.sums.wealth, weights, strict=True)]
        return list(zip(*columns, strict=True))

    def _grow(self, size: int) -> None:
        self._size = max(self._size, size)
        if size <= len(self._met):
            return
        self._cross_weights = None
        room = max(size, 2 * len(self._met), 1024)
        self._met = widen(self._met, room)
        self._order = np.zeros(room, np.int32)
        self._residuals = {key: widen(values, room) for key, values in self._residuals.items()}

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the state as arrays, which `from_arrays` reads without any loss."""
        sums: dict[str, Any] = {entry.name: np.array(getattr(self.sums, entry.name)) for entry in fields(EffectSums)}
        return {
            **sums,
            "variance_now": np.array(self._variance),
            "better": np.array(self.better),
            "met": self._met[: self._size].copy(),
            "moments": np.array(list(self._residuals), np.float64),
            "residuals": np.array([row[: self._size] for row in self._residuals.values()], np.float32).reshape(
                len(self._residuals), self._size
            ),
        }

    @classmethod
    def from_arrays(
        cls, arrays: Mapping[str, NDArray[Any]], covary: Callable[[float, float], float] | None = None
    ) -> Self:
        """Read what `to_arrays` returned. covary: as of the class."""
        state = cls(better=bool(arrays["better"]), covary=covary)
        sums: dict[str, Any] = {}
        for entry in fields(EffectSums):
            value = arrays[entry.name].tolist()
            sums[entry.name] = tuple(value) if isinstance(value, list) else value
        state.sums = EffectSums(**sums)
        state._variance = float(arrays["variance_now"])
        state._size = len(arrays["met"])
        state._met = np.array(arrays["met"], np.uint8)
        state._order = np.zeros(state._size, np.int32)
        rows = zip(arrays["moments"].tolist(), arrays["residuals"], strict=True)
        state._residuals = {moment: np.array(row, np.float32) for moment, row in rows}
        return state


def _covary_nested(first: float, second: float) -> float:
    """Return the covariance of one shopper's arms at two probabilities."""
    return min(first, second) * (1 - max(first, second))
