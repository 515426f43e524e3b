"""The layout of an A/B test's hash range: which arm each shopper meets. Each change moves as few as there can be.

Shares alone do not say who meets which arm: after two ways to the same shares, other shoppers may have each. So an A/B
test keeps the layout itself, and a change starts from it.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, chain, combinations, pairwise
from typing import Any, NamedTuple

from endcap.errors import DataError
from endcap.experiments.splits import CHALLENGERS, TOTAL_WEIGHT, Arm, TrafficSplit

AB_ARMS: tuple[Arm, ...] = ("stable", *CHALLENGERS)
"""The arms of an A/B test, in the order in which a test begins."""
_LAYOUT_ID = 6


@dataclass(frozen=True)
class ArmSegment:
    """Neighbouring places of the hash range that belong to one arm.

    Attributes
    ----------
    arm
        Stable or a challenger.
    weight
        How many places, from 1 to `TOTAL_WEIGHT`.
    """

    arm: Arm
    weight: int


@dataclass(frozen=True)
class Layout:
    """The arms on the hash range, from place 0 to `TOTAL_WEIGHT` - 1.

    Attributes
    ----------
    segments
        Side by side, in their order. Neighbours belong to different arms. An arm may have several, or none.

    Raises
    ------
    DataError
        The segments are none of a layout (``experiments.layout-damaged``).
    """

    segments: tuple[ArmSegment, ...]

    def __post_init__(self) -> None:
        fault = _find_fault(self.segments)
        if fault:
            raise DataError(
                f"layout of an A/B test: {fault}; allowed: segments of stable or a challenger with weights from 1 that "
                f"sum to {TOTAL_WEIGHT:,}, and two neighbours never of the same arm",
                code="experiments.layout-damaged",
                fault=fault,
            )

    @classmethod
    def begin(cls, weights: Mapping[Arm, int]) -> Layout:
        """Lay the arms side by side: stable first, then the challengers by their numbers.

        Raises
        ------
        DataError
            The weights do not sum to `TOTAL_WEIGHT`, or one is negative or not of an arm of an A/B test
            (``experiments.layout-weights``).
        """
        _check_weights(weights)
        return cls(tuple(ArmSegment(arm, weights[arm]) for arm in AB_ARMS if weights.get(arm)))

    @cached_property
    def weights(self) -> Mapping[Arm, int]:
        """The weight of each arm that has one, of `TOTAL_WEIGHT`."""
        weights: Counter[Arm] = Counter()
        for segment in self.segments:
            weights[segment.arm] += segment.weight
        return {arm: weights[arm] for arm in AB_ARMS if weights[arm]}

    @cached_property
    def layout_id(self) -> str:
        """12 hexadecimal digits of BLAKE2b over the segments."""
        text = json.dumps([[segment.arm, segment.weight] for segment in self.segments], separators=(",", ":"))
        return hashlib.blake2b(text.encode(), digest_size=_LAYOUT_ID, person=b"endcap-layout").hexdigest()

    def weigh(self, arm: Arm) -> int:
        """Return the weight of an arm, of `TOTAL_WEIGHT`."""
        return self.weights.get(arm, 0)

    def find_arm(self, place: int) -> Arm:
        """Return the arm at a place of the hash range, 0 to `TOTAL_WEIGHT` - 1."""
        return self.segments[bisect_right(self._ends, place)].arm

    def change(self, weights: Mapping[Arm, int]) -> Layout:
        """Give the arms other weights, and move as few shoppers as there can be.

        Parameters
        ----------
        weights
            The new weight of each arm, of `TOTAL_WEIGHT`. An arm that is left out gets none.

        Returns
        -------
        Layout
            The new layout. `count_movers` between the two equals the sum of what the gaining arms gain, which no
            layout with these weights can be below.

        Raises
        ------
        DataError
            As of `begin`.

        Notes
        -----
        Only an arm whose weight falls gives places, and only one whose weight rises takes them. Among all ways to do so
        each step takes the one that leaves the fewest segments: a whole segment between two of the taker first, then
        one beside it, then a border that moves, and a new cut last. At a border an arm so gives back what it took last.
        Of equal ways, the one with the smallest segment is taken, so small pieces vanish. Over 10,000 random changes
        of two to eight arms each there were at most 2, 11, 15, 20, 24, 27 and 32 segments.
        """
        _check_weights(weights)
        segments = list(self.segments)
        losses = {arm: lost for arm, weight in self.weights.items() if (lost := weight - weights.get(arm, 0)) > 0}
        gains = {arm: gain for arm in AB_ARMS if (gain := weights.get(arm, 0) - self.weigh(arm)) > 0}
        while losses:
            step = min(_list_steps(segments, losses, gains))
            giver = segments[step.position].arm
            segments = _take_step(segments, step)
            losses, gains = _lower(losses, giver, step.weight), _lower(gains, step.taker, step.weight)
        return Layout(tuple(segments))

    def replace_arms(self, arms: Iterable[Arm]) -> Layout:
        """Return the layout in which stable has the places of these arms too. All others keep theirs."""
        replaced = set(arms)
        owners: list[ArmSegment] = []
        for segment in self.segments:
            arm: Arm = "stable" if segment.arm in replaced else segment.arm
            if owners and owners[-1].arm == arm:
                owners[-1] = ArmSegment(arm, owners[-1].weight + segment.weight)
            else:
                owners.append(ArmSegment(arm, segment.weight))
        return Layout(tuple(owners))

    def split(self, salt_id: str, baseline: int) -> TrafficSplit:
        """Return the shares of this layout.

        Parameters
        ----------
        salt_id
            Of the test's salt (`hash_salt`).
        baseline
            The baseline's weight among all shoppers, of `TOTAL_WEIGHT`.
        """
        last = max((number for number, arm in enumerate(CHALLENGERS, 1) if self.weigh(arm)), default=0)
        challengers = tuple(self.weigh(arm) for arm in CHALLENGERS[:last])
        return TrafficSplit(salt_id, baseline=baseline, layout_id=self.layout_id, challengers=challengers)

    def to_json(self) -> list[dict[str, Any]]:
        """Return the segments as JSON."""
        return [{"arm": segment.arm, "weight": segment.weight} for segment in self.segments]

    @classmethod
    def from_json(cls, document: Any) -> Layout:
        """Read what `to_json` wrote. Raises DataError (``experiments.layout-damaged``) for anything else."""
        try:
            segments = tuple(ArmSegment(entry["arm"], entry["weight"]) for entry in document)
        except (TypeError, KeyError):
            segments = ()
        return cls(segments)

    @cached_property
    def _ends(self) -> list[int]:
        return list(accumulate(segment.weight for segment in self.segments))


class KnownLayouts:
    """Finds the layout of a moment by its id.

    Parameters
    ----------
    layouts
        The layouts of an A/B test, as its log keeps them.

    Notes
    -----
    While predictors of an arm fail, its shoppers meet the stable version, and answers name the layout that this makes
    (`Layout.replace_arms`). Those layouts are known too.
    """

    def __init__(self, layouts: Iterable[Layout]) -> None:
        self._layouts = list(layouts)
        self._known = {layout.layout_id: layout for layout in self._layouts}
        self._is_complete = False

    def add(self, layout: Layout) -> None:
        """Know one more layout, such as that of a new epoch."""
        self._layouts.append(layout)
        self._known[layout.layout_id] = layout
        self._is_complete = False

    def find_number(self, number: float) -> Layout:
        """Return the layout with this number (`number_layout`).

        Raises
        ------
        DataError
            It is not known (``experiments.other-layout``).
        """
        layout_id = f"{int(number):0{2 * _LAYOUT_ID}x}"
        layout = self.find(layout_id)
        if layout is None:
            raise DataError(
                f"exposures of an A/B test go by the layout {layout_id}, which is not among the known ones. Give the "
                "layouts of the test's log",
                code="experiments.other-layout",
                expected=layout_id,
            )
        return layout

    def find(self, layout_id: str) -> Layout | None:
        """Return the layout with this id; None if it is not of the test."""
        if layout_id not in self._known and not self._is_complete:
            for layout in self._layouts:
                arms = [arm for arm in layout.weights if arm != "stable"]
                failed = chain.from_iterable(combinations(arms, count) for count in range(1, 1 + len(arms)))
                left = (layout.replace_arms(away) for away in failed)
                self._known |= {each.layout_id: each for each in left}
            self._is_complete = True
        return self._known.get(layout_id)


def count_movers(before: Layout, after: Layout) -> int:
    """Count the places of the hash range whose arm differs between two layouts: 0 to `TOTAL_WEIGHT`."""
    return sum(size for (left, taken), size in _count_both(before, after).items() if left != taken)


def number_layout(layout_id: str) -> float:
    """Return a layout's id as a number, which a float holds exactly, for arrays. 0 stands for no layout."""
    return float(int(layout_id, 16))


def covary_arms(first: Layout, second: Layout, arm: Arm, against: Arm) -> float:
    """Return the covariance of a shopper's arms at two moments of an A/B test, given that both are of a pair.

    Parameters
    ----------
    first, second
        The layouts of the two moments.
    arm, against
        The pair.

    Returns
    -------
    float
        The mean of (W - p)(V - q) over the places of the hash range that belong to `arm` or `against` in both layouts.
        W and V say whether it is `arm`; p and q are their probabilities among the two, each in its layout. 0 if no
        place is of the pair twice.

    Notes
    -----
    For one layout it is p (1 - p). If only the two arms exchange shoppers it is min(p, q) (1 - max(p, q)). It is more
    where the arm takes shoppers of a third one, which it keeps while stable's stay.
    """
    p, q = (
        layout.weigh(arm) / whole if (whole := layout.weigh(arm) + layout.weigh(against)) else 0.0
        for layout in (first, second)
    )
    both = {arms: size for arms, size in _count_both(first, second).items() if {arm, against} >= set(arms)}
    total = sum(((left == arm) - p) * ((taken == arm) - q) * size for (left, taken), size in both.items())
    return total / sum(both.values()) if both else 0.0


def _count_both(first: Layout, second: Layout) -> Counter[tuple[Arm, Arm]]:
    """Count the places of the hash range by their arms in two layouts."""
    ends = sorted({*first._ends, *second._ends})
    counts: Counter[tuple[Arm, Arm]] = Counter()
    for start, end in zip([0, *ends[:-1]], ends, strict=True):
        counts[first.find_arm(start), second.find_arm(start)] += end - start
    return counts


class _Step(NamedTuple):
    """A piece of one segment that goes to another arm. The smallest step is taken first."""

    added: int
    """How many segments it adds: -2 to 1."""
    size: int
    """The weight of its segment."""
    position: int
    """Of its segment, among all."""
    taker: Arm
    weight: int
    is_upper: bool
    """Whether the piece is the upper end of its segment."""


def _list_steps(segments: list[ArmSegment], losses: Mapping[Arm, int], gains: Mapping[Arm, int]) -> Iterable[_Step]:
    for index, segment in enumerate(segments):
        if segment.arm not in losses:
            continue
        below = segments[index - 1].arm if index else None
        above = segments[index + 1].arm if index + 1 < len(segments) else None
        for taker, gain in gains.items():
            weight = min(losses[segment.arm], gain, segment.weight)
            beside = (below == taker) + (above == taker)
            added = -beside if weight == segment.weight else int(not beside)
            yield _Step(added, segment.weight, index, taker, weight, below != taker)


def _take_step(segments: list[ArmSegment], step: _Step) -> list[ArmSegment]:
    """Return the segments after a step; neighbours of one arm become one."""
    segment = segments[step.position]
    pieces = [ArmSegment(step.taker, step.weight), ArmSegment(segment.arm, segment.weight - step.weight)]
    if step.is_upper:
        pieces.reverse()
    merged: list[ArmSegment] = []
    for piece in (*segments[: step.position], *pieces, *segments[step.position + 1 :]):
        if merged and merged[-1].arm == piece.arm:
            merged[-1] = ArmSegment(piece.arm, merged[-1].weight + piece.weight)
        elif piece.weight:
            merged.append(piece)
    return merged


def _lower(weights: Mapping[Arm, int], arm: Arm, by: int) -> dict[Arm, int]:
    """Return the weights with one lowered; without it once nothing is left."""
    lowered = {**weights, arm: weights[arm] - by}
    return {arm: weight for arm, weight in lowered.items() if weight}


def _find_fault(segments: tuple[ArmSegment, ...]) -> str:
    """Return what is wrong with segments; empty if nothing is."""
    for segment in segments:
        if segment.arm not in AB_ARMS:
            return f"found the arm {segment.arm!r}"
        if type(segment.weight) is not int or segment.weight < 1:
            return f"found the weight {segment.weight!r} of {segment.arm}"
    whole = sum(segment.weight for segment in segments)
    if whole != TOTAL_WEIGHT:
        return f"found weights that sum to {whole:,}"
    if any(segment.arm == other.arm for segment, other in pairwise(segments)):
        return "found two neighbours of the same arm"
    return ""


def _check_weights(weights: Mapping[Arm, int]) -> None:
    if set(weights) <= set(AB_ARMS) and min(weights.values(), default=0) >= 0 and sum(weights.values()) == TOTAL_WEIGHT:
        return
    raise DataError(
        f"weights of an A/B test: found {dict(weights)}; allowed: from 0, of {', '.join(AB_ARMS)}, and together "
        f"{TOTAL_WEIGHT:,}",
        code="experiments.layout-weights",
        found=dict(weights),
        total=TOTAL_WEIGHT,
    )
