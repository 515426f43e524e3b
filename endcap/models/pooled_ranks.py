"""Members' scores of predictions, kept so that the ranks of a pool are found quickly for any weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from endcap.features.sessions import Ints
from endcap.models.topk import NONE, find_best
from endcap.models.validation import CUTOFF

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
_BEST, _KEPT_BYTES = 100, 256 * 2**20
_MARGIN = np.float32(1e-3)
"""A logarithm that is larger by this stays larger in a weighed sum, whichever way floats are rounded."""


@dataclass(frozen=True)
class _RankBlock:
    """Some predictions whose targets some weights may list, with `c` candidates in all.

    place: int64 [a], among all predictions. own: float32 [members, a], of the targets; own_known: whether it was an
    opinion. bound: float32 [members, a], which no other item reaches. row: int64 [c], the prediction of each candidate,
    ascending; logs, known: [members, c]; before: whether it goes first if both are equal.
    """

    place: Ints
    own: Floats
    own_known: Bools
    bound: Floats
    row: Ints
    logs: Floats
    known: Bools
    before: Bools


class PooledRanks:
    """Members' logarithms of probabilities for the items that can stand before a prediction's target.

    Parameters
    ----------
    members
        Number of members.
    predictions
        Number of predictions.
    n_items
        Items of the vocabulary.

    Notes
    -----
    An item that every member puts below the target never stands before it. A target with `CUTOFF` items that every
    member puts above it is never listed. Neither is kept. Of all others each member's best items are kept, as many as
    fit into 256 MiB for all predictions (20 at least). An item that is not kept is not among any member's best. So a
    rank is exact if the target is above the weighted sum of the members' last kept items, or has `CUTOFF` items above
    it. Otherwise the rank is not known.
    """

    def __init__(self, members: int, predictions: int, n_items: int) -> None:
        self.predictions, self.n_items = predictions, n_items
        bytes_each = 5 * members + 9
        self.best = min(n_items, _BEST, max(CUTOFF, _KEPT_BYTES // max(1, predictions * members * bytes_each)))
        self._blocks: list[_RankBlock] = []

    def add(self, place: Ints, targets: NDArray[np.int32], logs: Sequence[Floats], floor: np.float32) -> None:
        """Keep what some predictions need.

        Parameters
        ----------
        place
            int64 [b], their positions among all predictions.
        targets
            int32 [b].
        logs
            float32 [b, items] of each member; -inf if it has no opinion or the item may not be listed.
        floor
            What counts in place of -inf.
        """
        rows = np.arange(len(targets))
        own = np.stack([each[rows, targets] for each in logs])
        live = np.isfinite(own).any(axis=0) & (self._count_always_above(targets, logs, own) < CUTOFF)
        if not live.any():
            return
        targets, own = targets[live], own[:, live]
        taken = [each[live] for each in logs]
        candidates, bound = self._find_candidates(taken, floor)
        row, item = np.nonzero(self._mark_distinct(candidates, targets))
        item = candidates[row, item]
        kept_logs = np.stack([each[row, item] for each in taken])
        before = item < targets[row]
        allowance = np.where(before, _MARGIN, np.float32(0))
        kept = ~(kept_logs <= own[:, row] - allowance).all(axis=0)
        row, before, kept_logs = row[kept], before[kept], kept_logs[:, kept]
        block = _RankBlock(
            place[live],
            np.maximum(own, floor),
            np.isfinite(own),
            bound,
            row,
            np.maximum(kept_logs, floor),
            np.isfinite(kept_logs),
            before,
        )
        self._blocks.append(block)

    def _count_always_above(self, targets: NDArray[np.int32], logs: Sequence[Floats], own: Floats) -> Ints:
        """Return how many items stand before the target by whatever weights: int64 [b]."""
        equal_too = np.ones(logs[0].shape, dtype=np.bool_)
        clearly = np.ones(logs[0].shape, dtype=np.bool_)
        for each, threshold in zip(logs, own, strict=True):
            equal_too &= each >= threshold[:, None]
            clearly &= each >= threshold[:, None] + _MARGIN
        equal_too &= np.arange(logs[0].shape[1]) < targets[:, None]
        counts: Ints = np.count_nonzero(equal_too | clearly, axis=1)
        return counts

    def _find_candidates(self, logs: Sequence[Floats], floor: np.float32) -> tuple[Ints, Floats]:
        """Return each member's best items of each row, -1 for none: int64 [b, c]; and a bound of all others, [members,
        b].
        """
        listed, bounds = [], []
        for each in logs:
            places = find_best(each, self.best)
            last = places[:, -1]
            bounds.append(np.where(last == NONE, floor, each[np.arange(len(each)), last]))
            listed.append(places)
        bound = np.stack(bounds)
        return np.concatenate(listed, axis=1), np.full_like(bound, -np.inf) if self.best == self.n_items else bound

    @staticmethod
    def _mark_distinct(candidates: Ints, targets: NDArray[np.int32]) -> Bools:
        """Mark which candidates to take, and sort them in place: each item once, and never the target."""
        candidates.sort(axis=1)
        taken: Bools = (candidates != NONE) & (candidates != targets[:, None])
        taken[:, 1:] &= candidates[:, 1:] != candidates[:, :-1]
        return taken

    def ranks(self, weights: Sequence[float]) -> tuple[Ints, Bools]:
        """Return the rank of each target under weights, and whether it is unknown.

        The sums are made as `Blend.score` makes them, float by float.

        Returns
        -------
        tuple of numpy.ndarray
            int64 [p], 0 if the target is not among the first `CUTOFF`, or its rank is unknown; and bool [p].
        """
        ranks, unknown = np.zeros(self.predictions, dtype=np.int64), np.zeros(self.predictions, dtype=np.bool_)
        counted = [(number, np.float32(weight)) for number, weight in enumerate(weights) if weight > 0]
        numbers = [number for number, _ in counted]
        for block in self._blocks:
            own, bound = np.zeros(len(block.place), np.float32), np.zeros(len(block.place), np.float32)
            sums = np.zeros(len(block.row), np.float32)
            for number, weight in counted:
                own += weight * block.own[number]
                bound += weight * block.bound[number]
                sums += weight * block.logs[number]
            rivals = own[block.row]
            above = (sums > rivals) | ((sums == rivals) & block.before)
            above &= block.known[numbers].any(axis=0)
            count = np.bincount(block.row[above], minlength=len(own))
            listed = block.own_known[numbers].any(axis=0) & (count < CUTOFF)
            sure = own > bound
            ranks[block.place] = np.where(listed & sure, count + 1, 0)
            unknown[block.place] = listed & ~sure
        return ranks, unknown
