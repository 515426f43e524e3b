"""Bounds and e-values that hold at every look together: formulas over numbers, without any data of a shop.

An *e-value* is a number whose expectation is at most 1 while the hypothesis holds. By Ville's inequality it reaches
1 / a at any look with a probability of at most a. An *e-process* gives one at each look.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

_Floats = NDArray[np.float64]
HARMS = (0.1, 0.2, 0.4, 0.7, 1.4)
"""The strengths over which `weigh_residuals` mixes: with 0.7, half of all outcomes are lost (log 2)."""
ODDS = tuple(sign * 0.01 * 2.0**power for power in range(8) for sign in (-1, 1))
"""The logarithms of the odds ratios over which `compute_sample_ratio` mixes: 1 % to 3.6 times, both ways."""


def tune_mixture(variance: float, budget: float) -> float:
    """Return the parameter r with which a one-sided boundary is tightest at a variance.

    Parameters
    ----------
    variance
        The variance of the score at which the boundary shall be tightest; in the score's unit, squared.
    budget
        The probability of error, 0 to 0.5.

    Returns
    -------
    float
        r, in the unit of the variance.

    Notes
    -----
    ``r = variance / (2 L + log(1 + 2 L))`` with ``L = log(1 / (2 budget))``: Howard, Ramdas, McAuliffe and Sekhon,
    "Time-uniform, nonparametric, nonasymptotic confidence sequences", Annals of Statistics 49 (2021), section 3.5.
    The boundary is valid for every r that does not depend on who met which arm.
    """
    length = math.log(1 / (2 * budget))
    return variance / (2 * length + math.log1p(2 * length))


def find_crossing_variance(loss: float, square: float, budget: float) -> float:
    """Return the variance at which a score with a drift meets the boundary that is tightest there.

    Parameters
    ----------
    loss
        What each visit adds to the score in the mean; above 0.
    square
        The variance that each visit adds.
    budget
        The probability of error, 0 to 0.5.

    Returns
    -------
    float
        The variance, in the score's unit, squared. `square` divides it to give the number of visits.

    Notes
    -----
    At the variance v, the boundary that `tune_mixture` makes tightest is ``z sqrt(v)`` with the same z everywhere. So
    n visits meet it where ``n loss = z sqrt(n square)``.
    """
    z = compute_boundary(1.0, tune_mixture(1.0, budget), budget)
    return (z * square / loss) ** 2


def compute_boundary(variance: float, r: float, budget: float, scale: float = 0.0) -> float:
    """Return what a score exceeds at any look with a probability of at most `budget`, if its mean is 0 or less.

    Parameters
    ----------
    variance
        The score's variance so far.
    r
        The mixture's parameter (`tune_mixture`), above 0.
    budget
        The probability of error, 0 to 0.5.
    scale
        For a score with a heavy tail: the scale c of a sub-gamma tail, which is a third of the largest increment.

    Returns
    -------
    float
        In the unit of the score.

    Notes
    -----
    ``u(v) = sqrt(2 (v + r) log(sqrt((v + r) / r) / (2 budget) + 1))``: the closed bound of Robbins' one-sided normal
    mixture (Robbins, "Statistical methods related to the law of the iterated logarithm", 1970; Howard et al. 2021,
    equation 3.7). It needs a score that is sub-Gaussian with this variance. With the logarithm L of the formula and a
    scale c, ``c L`` is added, as in Bernstein's inequality for sub-gamma tails, ``sqrt(2 v L) + c L``.
    """
    whole = variance + r
    logarithm = math.log(math.sqrt(whole / r) / (2 * budget) + 1)
    return math.sqrt(2 * whole * logarithm) + scale * logarithm


def weigh_residuals(residuals: _Floats, treated: NDArray[np.bool_], probability: _Floats, harm: int) -> _Floats:
    """Return what each shopper adds to the logarithms of an e-process against "the arm harms nobody".

    Parameters
    ----------
    residuals
        float64 [n]: each shopper's outcome less what was expected of it, in units of one usual outcome.
    treated
        bool [n]: whether the shopper met the arm.
    probability
        float64 [n]: how probable that was.
    harm
        -1 if fewer outcomes are harm, 1 if more are.

    Returns
    -------
    ndarray
        float64 [len(HARMS), n]. Sum over shoppers; `mix_wealth` makes the e-value of the sums.

    Notes
    -----
    With ``l = harm * HARMS[k]``, residual e, arm W and probability p, the factor is
    ``exp(l e W) / (1 - p + p exp(l e))``. If the arm changes nobody's outcome, e is the same in either arm and the
    factor's mean over W is exactly 1, for clicks, buyers, errors, and revenue of any tail, at any number of shoppers.
    If the arm changes outcomes only for the better, the mean is below 1. No factor exceeds 1 / p. It is a betting
    martingale as in Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", JRSS B 86
    (2024), with the known coin in the place of a bound on outcomes.
    """
    exponents = harm * np.array(HARMS)[:, None] * residuals
    # The factor of the arm that was met alone: p is at most 1, so neither logarithm overflows for exponents below 700.
    bounded = np.clip(exponents, -600.0, 600.0)
    weights: _Floats = np.where(treated, bounded, 0.0) - np.log1p(probability * np.expm1(bounded))
    return weights


def mix_wealth(logarithms: Sequence[float]) -> float:
    """Return the e-value of several e-processes with equal weights, from their logarithms."""
    highest = max(logarithms)
    # A number this large is beyond any budget; more would overflow.
    return math.exp(min(highest, 700.0)) * sum(math.exp(value - highest) for value in logarithms) / len(logarithms)


def compute_sample_ratio(counts: Mapping[float, tuple[int, int]]) -> float:
    """Return the e-value against "shoppers came to the arm as its probability says".

    Parameters
    ----------
    counts
        By the probability of the moment: how many shoppers were counted, each once, and how many of them met the arm.

    Returns
    -------
    float
        At least 1000 is a sample ratio mismatch with an error of 0.001 over all looks.

    Notes
    -----
    ``mean_k prod_p exp(o_k c) / (1 - p + p exp(o_k))^n`` with the log odds ratios ``o_k`` of `ODDS`. Lindon and Malek,
    "Anytime-valid inference for multinomial count data" (NeurIPS 2022), mix over probabilities by a Dirichlet
    distribution around one known allocation. A rising share has many allocations, and a fault, such as an arm whose
    answers get lost, changes the odds by the same factor in all of them; so this mixes over that factor. Exact for any
    path of shares.
    """
    logarithms = np.zeros(len(ODDS))
    odds = np.array(ODDS)
    for probability, (shoppers, treated) in sorted(counts.items()):
        logarithms += odds * treated - shoppers * np.log1p(probability * np.expm1(odds))
    return mix_wealth(logarithms.tolist())
