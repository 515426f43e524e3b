"""The weights of a blend's members: chosen by next_ndcg@20 on the validation part, over the whole catalogue."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from endcap.features.sessions import Ints
from endcap.models.base import Model
from endcap.models.opinion_pool import Floats, Scale, compute_floor, fit_scale, fit_weights
from endcap.models.pooled_ranks import PooledRanks
from endcap.models.simplex import Weights, climb, drop_idle
from endcap.models.validation import CUTOFF, Validation, rank_within

Members = Mapping[str, Model]
Scales = Mapping[str, Scale]
Pooled = Callable[[Scales, Mapping[str, float]], Model]
"""The members as one model, by their scales and weights."""
Way = Callable[[Sequence[int]], Weights]
"""Chooses weights by some halves."""
_SAMPLE, _SAMPLED_SCORES = 1000, 64_000_000
"""Predictions that scales and likelihoods are found on; fewer where all members have so many scores of them."""
_HALVES = (0, 1)


@dataclass(frozen=True)
class BlendWeights:
    """The weights of a blend's members, and what they were chosen by: next_ndcg@20 on validation.

    Attributes
    ----------
    weights
        By label; their sum is 1, and a member that is not needed has 0.
    scales
        By label.
    way
        How the weights were chosen: `searched`, `likeliest`, `equal` or `alone`.
    members
        The value of each member alone, by label.
    value
        The value of these weights.
    crossed
        The value, on each half of the sessions, of weights that were chosen on the other half; of the best member if it
        stands alone.
    """

    weights: Mapping[str, float]
    scales: Scales
    way: str
    members: Mapping[str, float]
    value: float
    crossed: float

    def to_json(self) -> dict[str, Any]:
        """Return what the choice was made by, for FitReport.settings."""
        return {"way": self.way, "next_ndcg@20": self.value, "crossed": self.crossed, "members": dict(self.members)}

    def lines(self) -> list[str]:
        """Return lines for progress."""
        weighed = ", ".join(f"{label} {weight:.3f}" for label, weight in self.weights.items())
        alone = ", ".join(f"{label} {value:.4f}" for label, value in self.members.items())
        return [f"weights ({self.way}): {weighed}", f"validation next_ndcg@20: blend {self.value:.4f}, {alone}"]


def choose_weights(members: Members, validation: Validation, seed: int, pooled: Pooled) -> BlendWeights:
    """Choose the weights under which the pool's next_ndcg@20 is largest, or the best member alone.

    Parameters
    ----------
    members
        Fitted models, by label.
    validation
        What the weights are judged on.
    seed
        Seed of the halves.
    pooled
        Makes the members one model, by scales and weights.

    Notes
    -----
    A search for the largest next_ndcg@20 begins at three kinds of weights: those under which the targets are likeliest
    (`fit_weights`), equal weights, and each member alone. It is judged by halves of the validation sessions, drawn by
    the seed: weights that are chosen on one half are measured on the other half. Its weights are taken if both this
    value and their value on the whole part reach the best member's. Otherwise the likeliest weights are judged in the
    same way, which depend less on the few targets that are listed, and then equal weights. If none passes, the best
    member stands alone.

    Scores are read in blocks. In memory are 256 MB of samples, a block of all members' scores (64 MiB, several times),
    and what `PooledRanks` keeps.
    """
    drawn = np.random.default_rng(seed)
    distinct, number = np.unique(validation.session, return_inverse=True)
    half: Ints = drawn.permutation(len(distinct))[number] % len(_HALVES)
    scales, likeliest = _fit_on_sample(members, validation, half)
    halves = [_ValidationHalf.read(members, scales, validation, half == member_logs) for member_logs in _HALVES]
    return _WeightChoice(members, scales, likeliest, halves, pooled).choose()


@dataclass
class _ValidationHalf:
    """Half the sessions.

    counts: float64 [p], what each prediction counts among those of both halves. alone: int64 [members, p], ranks by
    each member.
    """

    validation: Validation
    counts: Weights
    pooled: PooledRanks
    alone: Ints
    known: dict[tuple[float, ...], float] = field(default_factory=dict)

    @classmethod
    def read(cls, members: Members, scales: Scales, validation: Validation, kept: NDArray[np.bool_]) -> Self:
        """Let the members score the histories of some predictions."""
        own, n_items = validation.take(kept), _count_items(members)
        pooled = PooledRanks(len(members), len(own), n_items)
        alone = np.zeros((len(members), len(own)), dtype=np.int64)
        for rows, taken in own.blocks(n_items * len(members)):
            queries, logs = own.queries.take(rows), []
            for number, (label, member) in enumerate(members.items()):
                scores = member.score(queries)
                member_logs = scales[label].logs(scores)
                member_logs[~np.isfinite(scores)] = -np.inf
                own.mask(member_logs, rows)
                own.mask(scores, rows)
                alone[number, taken] = rank_within(scores, own.row[taken] - rows[0], own.targets[taken])
                logs.append(member_logs)
            # A moment may have many predictions for its one row.
            for begin in range(taken.start, taken.stop, len(rows)):
                places = np.arange(begin, min(begin + len(rows), taken.stop))
                pooled.add(
                    places, own.targets[places], _expand_logs(own, places, logs, rows[0]), compute_floor(n_items)
                )
        return cls(own, own.weights / max(float(validation.weights.sum()), 1.0), pooled, alone)

    def value(self, weights: Weights) -> float:
        """Return this half's part of next_ndcg@20; a rank that is not known counts 0."""
        key = tuple(weights.tolist())
        if key not in self.known:
            chosen = np.flatnonzero(weights)
            ranks = self.alone[chosen[0]] if len(chosen) == 1 else self.pooled.ranks(key)[0]
            self.known[key] = float(self.counts @ _compute_gains(ranks))
        return self.known[key]

    def measure_missing(self, weights: Weights, model: Callable[[], Model]) -> float:
        """Return what unknown ranks would add to the value; it scores their histories again."""
        unknown = self.pooled.ranks(weights.tolist())[1]
        if not unknown.any() or np.count_nonzero(weights) < 2:
            return 0.0
        moments = np.isin(self.validation.row, self.validation.row[unknown])
        ranks = self.validation.take(moments).ranks(model())
        return float((self.counts * unknown)[moments] @ _compute_gains(ranks))


@dataclass(frozen=True)
class _WeightChoice:
    members: Members
    scales: Scales
    likeliest: Mapping[tuple[int, ...], Weights]
    halves: Sequence[_ValidationHalf]
    pooled: Pooled

    def choose(self) -> BlendWeights:
        """Return the weights of the first way that passes, or the best member alone."""
        alone = [self._measure(member_logs, _HALVES) for member_logs in np.eye(len(self.members))]
        best = int(np.argmax(alone))
        chosen, name, value, crossed = np.eye(len(alone))[best], "alone", alone[best], alone[best]
        for label, way in {
            "searched": self._search_weights,
            "likeliest": self._get_likeliest_weights,
            "equal": self._make_equal_weights,
        }.items():
            across = sum(self._measure_exactly(self._choose_by(way, (half,)), (1 - half,)) for half in _HALVES)
            weights = self._choose_by(way, _HALVES)
            whole = self._measure_exactly(weights, _HALVES)
            if np.count_nonzero(weights) > 1 and min(whole, across) >= alone[best]:
                chosen, name, value, crossed = weights, label, whole, across
                break
        scales = {**self.scales, **({list(self.members)[best]: Scale("alone")} if name == "alone" else {})}
        return BlendWeights(self._label_values(chosen), scales, name, self._label_values(alone), value, crossed)

    def _choose_by(self, way: Way, halves: Sequence[int]) -> Weights:
        """Return the weights that a way chooses by some halves, without those that add nothing there."""
        return drop_idle(lambda weights: self._measure(weights, halves), way(halves))

    def _make_equal_weights(self, halves: Sequence[int]) -> Weights:
        return np.full(len(self.members), 1.0 / len(self.members))

    def _get_likeliest_weights(self, halves: Sequence[int]) -> Weights:
        return self.likeliest[tuple(halves)]

    def _search_weights(self, halves: Sequence[int]) -> Weights:
        starts = [self._get_likeliest_weights(halves), self._make_equal_weights(halves), *np.eye(len(self.members))]
        return climb(lambda weights: self._measure(weights, halves), starts)

    def _measure(self, weights: Weights, halves: Sequence[int]) -> float:
        return sum(self.halves[half].value(weights) for half in halves)

    def _measure_exactly(self, weights: Weights, halves: Sequence[int]) -> float:
        def model() -> Model:
            return self.pooled(self.scales, self._label_values(weights))

        return self._measure(weights, halves) + sum(
            self.halves[half].measure_missing(weights, model) for half in halves
        )

    def _label_values(self, values: Weights | Sequence[float]) -> dict[str, float]:
        return {label: float(value) for label, value in zip(self.members, values, strict=True)}


def _fit_on_sample(
    members: Members, validation: Validation, half: Ints
) -> tuple[Scales, Mapping[tuple[int, ...], Weights]]:
    """Fit the members' scales, and the likeliest weights of each half and of both, on a sample of the predictions."""
    n_items = _count_items(members)
    most = min(_SAMPLE, max(1, _SAMPLED_SCORES // (n_items * len(members))))
    sample = np.arange(0, len(validation), -(-len(validation) // most))
    targets, weights, rows = validation.targets[sample], validation.weights[sample], validation.row[sample]
    queries = validation.queries.take(rows)
    listed = np.zeros((len(sample), n_items), dtype=np.float32)
    validation.mask(listed, rows)
    barred = ~np.isfinite(listed)
    scales: dict[str, Scale] = {}
    logs: list[Floats] = []
    for label, member in members.items():
        scores = member.score(queries)
        scales[label] = fit_scale(np.where(barred, np.float32(-np.inf), scores), targets, weights)
        logs.append(scales[label].logs(scores))
    likeliest = {}
    for halves in (_HALVES, *((member_logs,) for member_logs in _HALVES)):
        kept = np.isin(half[sample], halves)
        part = logs if kept.all() else [member_logs[kept] for member_logs in logs]
        likeliest[halves] = fit_weights(part, barred[kept], targets[kept], weights[kept])
    return scales, likeliest


def _expand_logs(validation: Validation, places: Ints, logs: Sequence[Floats], first: int) -> list[Floats]:
    """Return members' logarithms for each prediction, float32 [b, items], without the other targets of its moment."""
    row = validation.row[places]
    begin, end = np.searchsorted(validation.row, row), np.searchsorted(validation.row, row, side="right")
    sizes = end - begin
    taken = (
        logs if len(row) == len(logs[0]) and (sizes == 1).all() else [member_logs[row - first] for member_logs in logs]
    )
    if (sizes > 1).any():
        owner = np.repeat(np.arange(len(places)), sizes)
        rivals = np.arange(len(owner)) - np.repeat(np.cumsum(sizes) - sizes, sizes) + begin[owner]
        barred = rivals != places[owner]
        for member_logs in taken:
            member_logs[owner[barred], validation.targets[rivals[barred]]] = -np.inf
    return list(taken)


def _compute_gains(ranks: Ints) -> Weights:
    """What each prediction adds to next_ndcg@20 before it is weighed, of ranks from 1, 0 where there is none."""
    listed = (ranks > 0) & (ranks <= CUTOFF)
    return np.where(listed, 1 / np.log2(1 + np.maximum(ranks, 1)), 0.0)


def _count_items(members: Members) -> int:
    return next(iter(members.values())).n_items
