"""How far a distribution of scores moved from another: the population stability index, and an e-value for it."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import wrightomega, xlogy

from endcap.experiments.operational_counts import Histogram

_Floats = NDArray[np.float64]
BINS = 10
_SMOOTH = 0.5
"""Added to the count of each bin, so that an empty one has a logarithm."""
_PENALTIES = 10.0 ** np.linspace(-3.0, 2.0, 26)
"""The penalties that `weigh_drift` tries, per score."""


def choose_edges(reference: Histogram) -> list[float]:
    """Return the upper edges of at most `BINS` bins that hold about equal parts of a histogram; the last is inf."""
    total = sum(reference.values())
    edges: list[float] = []
    cumulated = 0
    for edge, count in sorted(reference.items()):
        cumulated += count
        if cumulated >= (len(edges) + 1) * total / BINS and cumulated < total:
            edges.append(edge)
    return [*edges, math.inf]


def bin_scores(histogram: Histogram, edges: list[float]) -> _Floats:
    """Count a histogram's scores by the bins of `choose_edges`, float64 [bins]."""
    counts = np.zeros(len(edges))
    places = np.searchsorted(edges, sorted(histogram))
    np.add.at(counts, places, [histogram[edge] for edge in sorted(histogram)])
    return counts


def smooth_shares(counts: _Floats) -> _Floats:
    """Return the share of each bin, none of them 0."""
    shares: _Floats = (counts + _SMOOTH) / (counts.sum() + _SMOOTH * len(counts))
    return shares


def compute_psi(shares: _Floats, reference: _Floats) -> float:
    """Return the population stability index ``sum (q - p) log(q / p)`` of two distributions without empty bins."""
    return float(np.sum((shares - reference) * np.log(shares / reference)))


def weigh_drift(counts: _Floats, forecast: _Floats, reference: _Floats, limit: float) -> float:
    """Return the logarithm of an e-value against "the index is at most `limit`".

    Parameters
    ----------
    counts
        float64 [bins]: the window's scores.
    forecast
        float64 [bins]: the shares that were expected of it, from earlier windows alone.
    reference
        float64 [bins]: the shares that the index compares with.
    limit
        The index that is allowed.

    Returns
    -------
    float
        Its expectation is at most 1.

    Notes
    -----
    The likelihood of the forecast, over the largest likelihood that a distribution within the limit can give
    (Wasserman, Ramdas and Balakrishnan, "Universal inference", PNAS 117, 2020). For any penalty m >= 0, the largest
    likelihood is at most ``max_q sum n log q - m (PSI(q, p) - limit)`` over all distributions q (weak duality), and
    this in turn, for any v, at most the same with ``- v (sum q - 1)`` over all positive q. So the result errs, if at
    all, on the side of no alarm, whatever the accuracy of the search for m and v.
    """
    total = counts.sum()
    observed = smooth_shares(counts)
    if compute_psi(observed, reference) <= limit:
        # The sample itself lies within the limit: no distribution beyond it is likelier by much.
        return float(np.sum(counts * np.log(forecast)) - np.sum(xlogy(counts, counts / total)))
    bound = min(_bound_likelihood(counts, reference, limit, penalty * total) for penalty in _PENALTIES)
    return float(np.sum(counts * np.log(forecast))) - bound


def _bound_likelihood(counts: _Floats, reference: _Floats, limit: float, penalty: float) -> float:
    """Return the dual bound for a penalty, at the multiplier of ``sum q = 1`` that bisection finds."""
    low, high = -20.0 * penalty, float(counts.sum()) + 20.0 * penalty
    for _ in range(50):
        multiplier = (low + high) / 2
        shares = _maximise(counts, reference, penalty, multiplier)
        low, high = (multiplier, high) if shares.sum() > 1 else (low, multiplier)
    shares = _maximise(counts, reference, penalty, high)
    likelihood = np.sum(counts * np.log(shares))
    return float(likelihood - penalty * (compute_psi(shares, reference) - limit) - high * (shares.sum() - 1))


def _maximise(counts: _Floats, reference: _Floats, penalty: float, multiplier: float) -> _Floats:
    """Return the positive q at which ``n log q - m (q - p) log(q / p) - v q`` is largest, bin by bin.

    The derivative is 0 where ``y + log y = log(K / p) + a``, with ``K = n / m + p``, ``a = 1 + v / m`` and
    ``q = K / y``: y is Wright's omega function of the right side.
    """
    weight = counts / penalty + reference
    shares: _Floats = weight / wrightomega(np.log(weight / reference) + 1 + multiplier / penalty)
    return shares
