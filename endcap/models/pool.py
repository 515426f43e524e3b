"""Scores made into probabilities, and the weights of a log-linear pool of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
FLOOR = 0.1
"""Of 1 / items: what a member counts for an item that it has no opinion on."""
_SAMPLE, _SAMPLED_SCORES = 2000, 40_000_000
"""Predictions that a member's scale is found on; fewer where there are very many items."""
_BEST = 100
"""Of each member, for each prediction: the items that the weights are found on."""
_TEMPERATURES = 2.0 ** np.arange(-6, 6.5, 0.5)


@dataclass(frozen=True)
class Scale:
    """p(i) is proportional to exp(temperature * score), or, for a model that votes, to score ** temperature.

    logits: scores of any sign whose differences matter; votes: scores above 0 whose ratios matter.
    """

    kind: Literal["logits", "votes"] = "logits"
    temperature: float = 1.0

    def probabilities(self, scores: Floats) -> Floats:
        """Rows of [n, items] that add up to 1; 0 where there is no opinion, in a row without any everywhere."""
        shares, sums = self._shares(scores)
        shares /= sums
        return shares

    def _shares(self, scores: Floats) -> tuple[Floats, Floats]:
        """What probabilities are before they are made to add up to 1, and what to divide them by: [n, 1]."""
        with np.errstate(divide="ignore", invalid="ignore"):
            logits = np.float32(self.temperature) * (np.log(scores) if self.kind == "votes" else scores)
        logits[~np.isfinite(logits)] = -np.inf
        logits -= np.maximum(logits.max(axis=1, keepdims=True, initial=-np.inf), np.finfo(np.float32).min)
        shares: Floats = np.exp(logits, out=logits)
        return shares, np.maximum(shares.sum(axis=1, keepdims=True), np.finfo(np.float32).tiny)

    def add_log(self, total: Floats, opinion: NDArray[np.bool_], scores: Floats, weight: float) -> None:
        """Add weight * log(p + floor) to `total` in place, and mark in `opinion` what there is one on."""
        known = np.isfinite(scores)
        opinion |= known
        shares = self.probabilities(scores)
        shares += np.float32(FLOOR / max(1, total.shape[1]))
        total += np.float32(weight) * np.log(shares, out=shares)

    def log_of_some(self, scores: Floats, items: Sequence[NDArray[np.int32]]) -> list[Floats]:
        """log(p + floor) of items[i] in row i of scores [n, items]: float32 [len(items[i])] each."""
        shares, sums = self._shares(scores)
        floor = np.float32(FLOOR / max(1, scores.shape[1]))
        return [np.log(row[asked] / total + floor) for row, total, asked in zip(shares, sums, items, strict=True)]


class Votes:
    """What the members said about validation: gathered in blocks, for bounded memory.

    wanted: int32 [p], what came next in each prediction.
    """

    def __init__(self, wanted: NDArray[np.int32], n_items: int) -> None:
        self.wanted, self.n_items = wanted, n_items
        self._every = max(1, len(wanted) // max(1, min(_SAMPLE, _SAMPLED_SCORES // n_items)))
        self._sampled: dict[str, list[tuple[NDArray[np.int64], Floats]]] = {}
        self.features: list[Floats] = []
        """For each block: log(p + floor) of candidates, [b, candidates, members]; the first candidate came next."""

    def sample(self, label: str, rows: NDArray[np.int64], scores: Floats) -> None:
        """Keep every so many rows of a member's scores [b, items] to find its scale on."""
        kept = rows % self._every == 0
        self._sampled.setdefault(label, []).append((rows[kept], scores[kept]))

    def scale(self, label: str) -> Scale:
        """The scale of a member under which what came next is likeliest; its sample is let go of."""
        blocks = self._sampled.pop(label)
        finite = [scores[np.isfinite(scores)] for _, scores in blocks]
        positive = all((one > 0).all() for one in finite)
        spread = float(np.std(np.concatenate(finite))) if any(len(one) for one in finite) else 1.0
        options = [Scale("logits", float(t / max(spread, 1e-6))) for t in _TEMPERATURES]
        if positive:
            options += [Scale("votes", float(t)) for t in _TEMPERATURES if 0.25 <= t <= 4.0]
        return max(options, key=lambda scale: self._likelihood(scale, blocks))

    def _likelihood(self, scale: Scale, blocks: list[tuple[NDArray[np.int64], Floats]]) -> float:
        floor, total = FLOOR / self.n_items, 0.0
        for rows, scores in blocks:
            shares = scale.probabilities(scores.copy())[np.arange(len(rows)), self.wanted[rows]]
            total += float(np.log((shares + floor) / (1 + FLOOR)).sum())
        return total

    def add(self, rows: NDArray[np.int64], shares: Mapping[str, Floats]) -> None:
        """Keep the candidates of a block: what came next, and the items that members find likeliest."""
        wanted = self.wanted[rows].astype(np.int64)
        best = min(_BEST, self.n_items)
        listed = [np.argpartition(-one, best - 1, axis=1)[:, :best] for one in shares.values()]
        candidates = np.sort(np.concatenate(listed, axis=1), axis=1)
        again = np.zeros(candidates.shape, dtype=np.bool_)
        again[:, 1:] = candidates[:, 1:] == candidates[:, :-1]
        again |= candidates == wanted[:, None]
        candidates = np.concatenate([wanted[:, None], candidates], axis=1)
        features = np.stack([np.take_along_axis(one, candidates, axis=1) for one in shares.values()], axis=2)
        features = np.log(features + np.float32(FLOOR / self.n_items))
        features[:, 1:][again] = -np.inf
        self.features.append(features)


def weights_of(votes: Votes) -> NDArray[np.float64]:
    """The weights, at least 0, under which what came next is likeliest among the candidates: float64 [members].

    The negative log-likelihood is convex in the weights.
    """
    from scipy.optimize import minimize

    members = votes.features[0].shape[2]

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        value, slope, count = 0.0, np.zeros(members), 0
        for features in votes.features:
            usable = np.isfinite(features[:, :, 0])
            finite = np.where(usable[:, :, None], features, 0)
            logits = np.where(usable, finite @ weights.astype(np.float32), -np.inf)
            logits -= logits.max(axis=1, keepdims=True)
            shares = np.exp(logits)
            sums = shares.sum(axis=1, keepdims=True)
            value += float((np.log(sums[:, 0]) - logits[:, 0]).sum())
            slope += np.einsum("bc,bcm->m", shares / sums, finite) - finite[:, 0].sum(axis=0)
            count += len(features)
        return value / count, slope / count

    start = np.full(members, 1.0 / members)
    result = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(0.0, None)] * members)
    found: NDArray[np.float64] = result.x
    return found if found.sum() > 0 else start
