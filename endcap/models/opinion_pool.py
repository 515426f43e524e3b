"""Scores as probabilities, and the scales and weights of a pool under which the targets are likeliest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
FLOOR = 0.1
"""Of 1 / items: what a member counts for an item that it has no opinion on."""
_TEMPERATURES = 2.0 ** np.arange(-6, 6.5, 0.5)
_VOTE_TEMPERATURES = _TEMPERATURES[(_TEMPERATURES >= 0.25) & (_TEMPERATURES <= 4.0)]
_STRIDES = (4, 2, 1)
_SLOPE = 1e-6
"""Of the likelihood: a step that gains a smaller part of it is the last."""
_SCORES_AT_ONCE = 1_000_000
"""What is worked on at a time stays near the processor."""


def compute_floor(n_items: int) -> np.float32:
    """Return the logarithm of a member's probability for an item that the member has no opinion on."""
    return np.float32(np.log(np.float32(FLOOR / max(1, n_items))))


@dataclass(frozen=True)
class Scale:
    """How a member's scores become probabilities p.

    Attributes
    ----------
    kind
        `logits`: scores of any sign whose differences matter; p(i) is proportional to exp(temperature * score).
        `votes`: scores above 0 whose ratios matter; p(i) is proportional to score ** temperature. `alone`: no other
        member is pooled with this one, and its scores stay as they are, since tiny probabilities could not be told
        apart any more.
    temperature
        See kind.
    """

    kind: Literal["logits", "votes", "alone"] = "logits"
    temperature: float = 1.0

    def compute_probabilities(self, scores: Floats) -> Floats:
        """Return rows of [n, items] with sum 1; 0 where there is no opinion, and everywhere in a row without any."""
        shares, sums = self._compute_shares(scores)
        shares /= sums
        return shares

    def _compute_shares(self, scores: Floats) -> tuple[Floats, Floats]:
        """Return probabilities before their division, and what to divide them by: [n, 1]."""
        with np.errstate(divide="ignore", invalid="ignore"):
            logits = np.float32(self.temperature) * (np.log(scores) if self.kind == "votes" else scores)
        logits[~np.isfinite(logits)] = -np.inf
        logits -= np.maximum(logits.max(axis=1, keepdims=True, initial=-np.inf), np.finfo(np.float32).min)
        shares: Floats = np.exp(logits, out=logits)
        return shares, np.maximum(shares.sum(axis=1, keepdims=True), np.finfo(np.float32).tiny)

    def logs(self, scores: Floats) -> Floats:
        """Return log(p + floor) of every item: [n, items]."""
        shares = self.compute_probabilities(scores)
        shares += np.float32(FLOOR / max(1, scores.shape[1]))
        return np.log(shares, out=shares)

    def add_log(self, total: Floats, opinion: NDArray[np.bool_], scores: Floats, weight: float) -> None:
        """Add weight * log(p + floor) to `total` in place, and mark in `opinion` the items with an opinion.

        Parameters
        ----------
        total
            float32 [n, items].
        opinion
            bool [n, items].
        scores
            float32 [n, items].
        weight
            The member's weight.
        """
        opinion |= np.isfinite(scores)
        total += np.float32(weight) * self.logs(scores)

    def compute_some_logs(self, scores: Floats, items: Sequence[NDArray[np.int32]]) -> list[Floats]:
        """Return log(p + floor) of items[i] in row i of scores [n, items]: float32 [len(items[i])] each."""
        shares, sums = self._compute_shares(scores)
        floor = np.float32(FLOOR / max(1, scores.shape[1]))
        return [np.log(row[indices] / total + floor) for row, total, indices in zip(shares, sums, items, strict=True)]


def fit_scale(scores: Floats, targets: NDArray[np.int32], weights: NDArray[np.float64]) -> Scale:
    """Find the scale of a member under which the targets are likeliest.

    Parameters
    ----------
    scores
        float32 [n, items].
    targets
        int32 [n], the items that came next.
    weights
        float64 [n], what each row counts.
    """
    finite = scores[np.isfinite(scores)]
    spread = max(float(np.std(finite, dtype=np.float64)), 1e-6) if len(finite) else 1.0
    best = [_find_likeliest([Scale("logits", float(t / spread)) for t in _TEMPERATURES], scores, targets, weights)]
    if (finite > 0).all():
        best.append(_find_likeliest([Scale("votes", float(t)) for t in _VOTE_TEMPERATURES], scores, targets, weights))
    return max(best, key=lambda option: option[0])[1]


def _find_likeliest(
    options: Sequence[Scale], scores: Floats, targets: NDArray[np.int32], weights: NDArray[np.float64]
) -> tuple[float, Scale]:
    """Return the likeliest scale and its likelihood; in the order of temperatures likelihoods rise to it and fall after
    it.
    """
    known: dict[int, float] = {}
    places = range(0, len(options), _STRIDES[0])
    for stride in _STRIDES:
        if known:
            top = max(known, key=lambda place: known[place])
            places = range(max(0, top - stride), min(len(options), top + stride + 1), stride)
        for place in places:
            if place not in known:
                known[place] = _compute_likelihood(options[place], scores, targets, weights)
    top = max(known, key=lambda place: known[place])
    return known[top], options[top]


def _compute_likelihood(
    scale: Scale, scores: Floats, targets: NDArray[np.int32], weights: NDArray[np.float64]
) -> float:
    floor, total = FLOOR / scores.shape[1], 0.0
    for part in _split_rows(len(targets), scores.shape[1]):
        shares = scale.compute_probabilities(scores[part])[np.arange(len(targets[part])), targets[part]]
        total += float((weights[part] * np.log((shares + floor) / (1 + FLOOR))).sum())
    return total


def fit_weights(
    logs: Sequence[Floats],
    barred: NDArray[np.bool_],
    targets: NDArray[np.int32],
    weights: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Find the members' weights under which the targets are likeliest among all items.

    Parameters
    ----------
    logs
        log(p + floor) of each member, float32 [n, items].
    barred
        bool [n, items], items that may not be listed.
    targets
        int32 [n], the items that came next.
    weights
        float64 [n], what each row counts.

    Returns
    -------
    numpy.ndarray
        float64 [members], their sum 1.

    Notes
    -----
    The negative log-likelihood is convex in the weights.
    """
    from scipy.optimize import minimize

    members, rows = len(logs), np.arange(len(targets))
    counted = np.where(barred[rows, targets], 0.0, weights)
    start = np.full(members, 1.0 / members)
    if counted.sum() <= 0:
        return start
    counted /= counted.sum()
    own = np.stack([each[rows, targets].astype(np.float64) for each in logs])

    def loss(tried: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        value, slope = -float(counted @ (tried @ own)), -(own @ counted)
        for part in _split_rows(len(targets), barred.shape[1]):
            sums = np.zeros(barred[part].shape, dtype=np.float32)
            for weight, each in zip(tried, logs, strict=True):
                sums += np.float32(weight) * each[part]
            sums[barred[part]] = -np.inf
            most = np.maximum(sums.max(axis=1, keepdims=True), np.finfo(np.float32).min)
            shares = np.exp(sums - most)
            whole = np.maximum(shares.sum(axis=1, keepdims=True), np.finfo(np.float32).tiny)
            value += float(counted[part] @ (np.log(whole) + most)[:, 0].astype(np.float64))
            shares *= (counted[part, None] / whole).astype(np.float32)
            slope += [float(np.vdot(shares, each[part])) for each in logs]
        return value, slope

    bounds = [(0.0, None)] * members
    result = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"ftol": _SLOPE})
    weights_found: NDArray[np.float64] = result.x
    return weights_found / weights_found.sum() if weights_found.sum() > 0 else start


def _split_rows(rows: int, width: int) -> Iterator[slice]:
    size = max(1, _SCORES_AT_ONCE // max(1, width))
    for begin in range(0, rows, size):
        yield slice(begin, begin + size)
