"""From what shoppers did to evidence: the effect of an arm on a metric, with bounds that hold at every look together.

The only source of chance that is used is the hash that gave each shopper an arm. Its probability is known at every
moment, so nothing is assumed of clicks or revenue, and nothing is estimated from the few shoppers of a new arm.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from endcap.errors import DataError
from endcap.experiments.evidence import EffectEvidence
from endcap.experiments.sequential import (
    HARMS,
    compute_boundary,
    compute_sample_ratio,
    mix_wealth,
    tune_mixture,
    weigh_residuals,
)

_Floats = NDArray[np.float64]
_Ints = NDArray[np.int64]
_Flags = NDArray[np.bool_]

HARM_SHOPPERS = 1_500
"""The bound against harm is tightest when so many shoppers met the arm."""
PILOT = 1_000
"""The first so many visits tell how much outcomes vary. Before them there are no bounds."""
FEWEST_EVENTS = 30.0
"""The bound on a smaller arm's gain needs so many visits with an outcome in that arm, as the probabilities say."""
LAST_EVENTS = 100.0
"""After so many, the e-process for small samples takes no more shoppers: the bounds are sharper from there."""
SMALL_SAMPLE_PART = 0.1
"""The part of a metric's error budget that the e-process for small samples may spend."""


@dataclass(frozen=True)
class ClosedVisits:
    """Visits whose attribution windows are over, of two arms alone, in the order in which they closed.

    Attributes
    ----------
    shopper
        int64 [n]: the shoppers' numbers, from 0 on.
    treated
        bool [n]: whether the visit met the arm that is judged, and not the stable version.
    probability
        float64 [n]: the probability of that at the visit's moment, among the two arms (`TrafficSplit.probability`).
        A visit with 0 or 1 tells nothing and is passed over.
    exposures
        float64 [n]: what the metric is counted by, such as rankings that were seen; 1 for a metric per visit.
    outcome
        float64 [n]: clicks, 1 for a buyer, revenue.
    expected
        float64 [n]: the outcomes per exposure that were expected before the visit (`ExpectedRates`, or any other
        prediction that does not use which arm this shopper met).
    """

    shopper: _Ints
    treated: _Flags
    probability: _Floats
    exposures: _Floats
    outcome: _Floats
    expected: _Floats

    def __len__(self) -> int:
        return len(self.shopper)

    def __getitem__(self, rows: slice | NDArray[Any]) -> Self:
        """Return some of the visits."""
        return replace(self, **{entry.name: getattr(self, entry.name)[rows] for entry in fields(self)})


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
    pilot_square, pilot_visits
        Sum of (y - m x)^2 over the first `PILOT` visits, and their number.
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
    unit
        One usual outcome: 1 for clicks and buyers, an average order for revenue.
    better
        Whether more of the metric is better.

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
    may rise and fall.

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

    def __init__(self, *, unit: float = 1.0, better: bool = True) -> None:
        self.unit = unit
        self.better = better
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
        _check(visits)
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
        all, and in its arm."""
        count = len(visits)
        paired = np.empty(count)
        is_first, is_new = np.empty(count, np.bool_), np.empty(count, np.bool_)
        changes = np.flatnonzero(np.diff(visits.probability)) + 1
        for start, stop in zip([0, *changes.tolist()], [*changes.tolist(), count], strict=True):
            probability = float(visits.probability[start])
            own = self._residuals.get(probability)
            if own is None:
                own = self._residuals[probability] = np.zeros(len(self._met), np.float32)
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
                paired[rows] = self._covary_others(probability, shopper) + _covary(probability, probability) * earlier
                own[shopper] = earlier + residual[rows]
                met = self._met[shopper]
                bits = visits.treated[rows] + np.uint8(1)
                is_first[rows] = met == 0
                is_new[rows] = (met & bits) == 0
                self._met[shopper] = met | bits
                numbers = rows = later
        return paired, is_first, is_new

    def _covary_others(self, probability: float, shopper: _Ints) -> _Floats:
        """Return the covariance weights of the shoppers' visits at other probabilities, times their residuals."""
        if len(self._residuals) == 1:
            return np.zeros(len(shopper))
        if self._cross_weights is not None and self._cross_weights[0] == probability:
            if not len(self._cross_weights[1]):
                # The second batch at this probability in a row: it pays to add up for everyone.
                self._cross_weights = (probability, self._add_others(probability, slice(None)))
            return self._cross_weights[1][shopper]
        self._cross_weights = (probability, np.zeros(0))
        return self._add_others(probability, shopper)

    def _add_others(self, probability: float, shopper: _Ints | slice) -> _Floats:
        total = np.zeros(len(self._met[shopper]))
        for other, residuals in self._residuals.items():
            if other != probability:
                total += residuals[shopper].astype(np.float64) * _covary(probability, other)
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
        variance = _accumulate(self._variance, squares * spread + 2 * residual * paired)
        self._variance = float(variance[-1])
        largest = np.maximum(np.maximum.accumulate(variance), sums.variance)
        spikes = np.maximum.accumulate(np.append(sums.spike, np.abs(residual) * np.maximum(2 * p - 1, 0.0)))
        columns = {
            "score": _accumulate(sums.score, (visits.treated - p) * residual)[places].tolist(),
            "information": _accumulate(sums.information, spread * visits.exposures)[places].tolist(),
            "variance": largest[places].tolist(),
            "spike": spikes[places].tolist(),
            "stable_outcomes": _add_rows(sums.stable_outcomes, bought, p[bought] * visits.outcome[bought], places),
            "stable_exposures": _add_rows(sums.stable_exposures, stable, p[stable] * visits.exposures[stable], places),
            "events": _add_rows(sums.events, counted, np.minimum(p, 1 - p)[counted], places),
            "pilot_square": _add_rows(sums.pilot_square, pilot, squares[pilot], places),
        }
        fresh = [rows[is_new[rows]] for rows in arms]
        pairs: dict[str, list[list[Any]]] = {
            "shoppers": [(sums.shoppers[k] + np.searchsorted(fresh[k], places)).tolist() for k in (0, 1)],
            "exposures": [_add_rows(sums.exposures[k], arms[k], visits.exposures[arms[k]], places) for k in (0, 1)],
            "outcomes": [
                _add_rows(sums.outcomes[k], counted_arms[k], visits.outcome[counted_arms[k]], places) for k in (0, 1)
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
        events = _accumulate(before, np.minimum(p, 1 - p))
        last = int(np.searchsorted(events, LAST_EVENTS))
        # `last` is the number of the outcome that is one too many; visits up to it still count.
        rows = first if last > len(counted) else first[first <= counted[last - 1]]
        weights = weigh_residuals(
            residual[rows] / self.unit,
            visits.treated[rows],
            visits.probability[rows],
            -1 if self.better else 1,
        )
        columns = [
            _add_rows(start, rows, values, places) for start, values in zip(self.sums.wealth, weights, strict=True)
        ]
        return list(zip(*columns, strict=True))

    def _grow(self, size: int) -> None:
        self._size = max(self._size, size)
        if size <= len(self._met):
            return
        self._cross_weights = None
        room = max(size, 2 * len(self._met), 1024)
        self._met = _widen(self._met, room)
        self._order = np.zeros(room, np.int32)
        self._residuals = {key: _widen(values, room) for key, values in self._residuals.items()}

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the state as arrays, which `from_arrays` reads without any loss."""
        sums: dict[str, Any] = {entry.name: np.array(getattr(self.sums, entry.name)) for entry in fields(EffectSums)}
        return {
            **sums,
            "variance_now": np.array(self._variance),
            "unit": np.array(self.unit),
            "better": np.array(self.better),
            "met": self._met[: self._size].copy(),
            "probabilities": np.array(list(self._residuals), np.float64),
            "residuals": np.array([row[: self._size] for row in self._residuals.values()], np.float32).reshape(
                len(self._residuals), self._size
            ),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Read what `to_arrays` returned."""
        state = cls(unit=float(arrays["unit"]), better=bool(arrays["better"]))
        sums: dict[str, Any] = {}
        for entry in fields(EffectSums):
            value = arrays[entry.name].tolist()
            sums[entry.name] = tuple(value) if isinstance(value, list) else value
        state.sums = EffectSums(**sums)
        state._variance = float(arrays["variance_now"])
        state._size = len(arrays["met"])
        state._met = np.array(arrays["met"], np.uint8)
        state._order = np.zeros(state._size, np.int32)
        rows = zip(arrays["probabilities"].tolist(), arrays["residuals"], strict=True)
        state._residuals = {probability: np.array(row, np.float32) for probability, row in rows}
        return state


def judge_effect(
    sums: EffectSums,
    *,
    metric: str,
    arm: str = "canary",
    against: str = "stable",
    better: bool = True,
    budget: float,
    promotion_budget: float = 0.05,
    planned: float = 125_000.0,
    complete_until: datetime | None = None,
) -> EffectEvidence:
    """Return what the closed visits tell of an arm's effect on one metric.

    Parameters
    ----------
    sums
        The sums of an `EffectState` whose `better` is the same.
    metric, better, complete_until
        As in `EffectEvidence`.
    arm
        The arm's name.
    against
        The arm that it is compared with.
    budget
        The probability that a metric which the arm does not change is ever called harmed.
    promotion_budget
        The probability that the bound on the other side is ever wrong: that an arm which is as bad as the bound is
        called better than it.
    planned
        The visits that count at the planned end: the sum of p (1 - p) over visits. The bound is tightest there.

    Returns
    -------
    EffectEvidence
        Bounds are infinite before `PILOT` visits; the one on the smaller arm's gain before `FEWEST_EVENTS` too.

    Notes
    -----
    The bound against harm has ``budget * (1 - SMALL_SAMPLE_PART)``; the e-value is multiplied by `SMALL_SAMPLE_PART`,
    so that reaching 1 / budget spends the rest. The other bound is the better of two with half of `promotion_budget`
    each: one is tightest at `HARM_SHOPPERS`, for the share's steps, and one at the planned end. Both are relative to
    the stable version's rate at the moments that weigh in the score. Its error is neglected: at a share of one half,
    the bounds of an effect of d are too narrow by a factor of about 1 + d / 2, which is too wide for a loss. Where
    stable has most visits there is no such factor.
    """
    arms = (against, arm)
    rate = sums.stable_outcomes / sums.stable_exposures if sums.stable_exposures else 0.0
    scale = sums.information * abs(rate)
    lower, upper = -math.inf, math.inf
    if scale > 0 and sums.pilot_visits >= PILOT and sums.pilot_square > 0:
        sign = 1.0 if better else -1.0
        square = sums.pilot_square / PILOT
        center = sign * sums.score
        harm_budget = budget * (1 - SMALL_SAMPLE_PART)
        harm = center + _bound(sums.variance, HARM_SHOPPERS * square, harm_budget, sums.spike / 3)
        gain = -math.inf
        if sums.events < FEWEST_EVENTS:
            # Where the arm has most shoppers, as a champion beside its predecessor, harm is the smaller arm's gain.
            harm = harm if sums.exposures[1] < sums.exposures[0] else math.inf
        else:
            times = (HARM_SHOPPERS * square, max(planned, HARM_SHOPPERS) * square)
            gain = center - min(_bound(sums.variance, time, promotion_budget / 2) for time in times)
        lower, upper = (gain / scale, harm / scale) if better else (-harm / scale, -gain / scale)
    return EffectEvidence(
        metric=metric,
        effect=sums.score / scale if scale > 0 else 0.0,
        # No rate falls below nothing.
        lower=max(lower, -1.0) if lower > -math.inf else lower,
        upper=upper,
        better=better,
        stable_rate=rate,
        shoppers=dict(zip(arms, sums.shoppers, strict=True)),
        exposures={name: round(count) for name, count in zip(arms, sums.exposures, strict=True)},
        outcomes=dict(zip(arms, sums.outcomes, strict=True)),
        harm=SMALL_SAMPLE_PART * mix_wealth(sums.wealth),
        complete_until=complete_until,
    )


def invert_effect(effect: float, lower: float, upper: float) -> tuple[float, float, float]:
    """Return the stable version's lift over an arm, with its bounds, from the arm's effect: 1 / (1 + effect) - 1.

    With popularity as the arm, it is what personalisation brings.
    """

    def invert(value: float) -> float:
        return 1 / (1 + value) - 1 if value > -1 else math.inf

    return invert(effect), invert(upper), invert(lower)


class ExpectedRates:
    """Running rates by group, which predict a visit's outcomes from earlier visits alone: the `expected` of the score.

    Groups are places, hours, or classes of the champion's own score for the ranking (`np.searchsorted` over fixed
    edges). What a group explains of the outcomes leaves the variance.

    Parameters
    ----------
    rates
        float64 [groups]: the rate before any visit, such as that of the weeks before.
    weight
        How many exposures that rate is worth.

    Notes
    -----
    ``m = (weight * rate + sum of earlier outcomes) / (weight + sum of earlier exposures)`` within the group. Under no
    effect m depends on outcomes and not on arms, so the score's design stays exact. A rate by shopper must come from
    before the rollout: one that learns from visits to the arm takes a part of the effect away.
    """

    def __init__(self, rates: Sequence[float] | _Floats, weight: float = 1_000.0) -> None:
        prior = np.array(rates, np.float64)
        self._outcomes, self._exposures = prior * weight, np.full(len(prior), float(weight))

    def predict(self, group: _Ints, exposures: _Floats, outcome: _Floats, score: _Floats | None = None) -> _Floats:
        """Return each visit's expected rate, from the visits before it, and then take the visits: float64 [n].

        With a `score`, such as the clicks per ranking that the champion's model expects, the group's rate is what
        the score must be multiplied by: 1 if the model is right.
        """
        if score is not None:
            return score * self.predict(group, exposures * score, outcome)
        expected = np.empty(len(group))
        several = len(self._outcomes) > 1
        for number in np.flatnonzero(np.bincount(group)).tolist() if several else [0]:
            rows = np.flatnonzero(group == number) if several else slice(None)
            outcomes = _accumulate(self._outcomes[number], outcome[rows])
            total = _accumulate(self._exposures[number], exposures[rows])
            expected[rows] = outcomes[:-1] / total[:-1]
            self._outcomes[number], self._exposures[number] = outcomes[-1], total[-1]
        return expected

    def to_arrays(self) -> dict[str, _Floats]:
        """Return the sums, which `from_arrays` reads without any loss."""
        return {"outcomes": self._outcomes.copy(), "exposures": self._exposures.copy()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, _Floats]) -> Self:
        """Read what `to_arrays` returned."""
        rates = cls([])
        rates._outcomes, rates._exposures = arrays["outcomes"].copy(), arrays["exposures"].copy()
        return rates


class SampleRatioState:
    """Counts each shopper once, by the probability of the moment: do shoppers come to the arm as the split says?"""

    def __init__(self) -> None:
        self.counts: dict[float, tuple[int, int]] = {}
        self._counted = np.zeros(0, np.bool_)

    def add(self, shopper: _Ints, treated: _Flags, probability: _Floats) -> None:
        """Take exposures in their order. int64, bool and float64 [n], as in `ClosedVisits`."""
        if not len(shopper):
            return
        if int(shopper.max()) >= len(self._counted):
            self._counted = _widen(self._counted, max(int(shopper.max()) + 1, 2 * len(self._counted)))
        numbers, rows = np.unique(shopper, return_index=True)
        rows = rows[~self._counted[numbers]]
        self._counted[numbers] = True
        for value in np.unique(probability[rows]).tolist():
            at = probability[rows] == value
            shoppers, arm = self.counts.get(value, (0, 0))
            self.counts[value] = (shoppers + int(at.sum()), arm + int(treated[rows][at].sum()))

    @property
    def e_value(self) -> float:
        """The e-value against "as the split says" (`compute_sample_ratio`)."""
        return compute_sample_ratio(self.counts)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the state as arrays, which `from_arrays` reads."""
        ordered = sorted(self.counts.items())
        return {
            "probabilities": np.array([key for key, _ in ordered], np.float64),
            "counts": np.array([count for _, count in ordered], np.int64).reshape(-1, 2),
            "shoppers": np.flatnonzero(self._counted),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Read what `to_arrays` returned."""
        state = cls()
        pairs = zip(arrays["probabilities"].tolist(), arrays["counts"].tolist(), strict=True)
        state.counts = {probability: (shoppers, treated) for probability, (shoppers, treated) in pairs}
        numbers = arrays["shoppers"]
        state._counted = np.zeros(int(numbers.max()) + 1 if len(numbers) else 0, np.bool_)
        state._counted[numbers] = True
        return state


def _covary(first: float, second: float) -> float:
    """Return the covariance of one shopper's arms at two probabilities."""
    return min(first, second) * (1 - max(first, second))


def _bound(variance: float, time: float, budget: float, scale: float = 0.0) -> float:
    return compute_boundary(variance, tune_mixture(time, budget), budget, scale)


def _accumulate(start: float, values: NDArray[Any]) -> _Floats:
    """Return the running sums from `start` on, added one by one: float64 [n + 1]."""
    sums = np.empty(len(values) + 1)
    sums[0] = start
    sums[1:] = values
    return np.cumsum(sums, out=sums)


def _add_rows(start: float, rows: _Ints, values: _Floats, places: _Ints) -> list[float]:
    """Return the running sums at some places, of values in rising rows. Rows without a value would add nothing."""
    sums: list[float] = _accumulate(start, values)[np.searchsorted(rows, places)].tolist()
    return sums


def _widen(values: NDArray[Any], size: int) -> NDArray[Any]:
    wider = np.zeros(size, values.dtype)
    wider[: len(values)] = values
    return wider


def _check(visits: ClosedVisits) -> None:
    numbers = (visits.probability, visits.exposures, visits.outcome, visits.expected)
    if not all(np.isfinite(values).all() for values in numbers):
        raise DataError(
            "closed visits: found a value that is no finite number; allowed: finite numbers",
            code="experiments.visits-not-finite",
        )
