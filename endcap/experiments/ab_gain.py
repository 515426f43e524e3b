"""What an A/B test won by moving shoppers: outcomes beyond those of an equal split of the same arms."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from endcap.experiments.sequential import compute_boundary, tune_mixture
from endcap.experiments.splits import Arm


@dataclass(frozen=True)
class LayoutSums:
    """What the visits of one layout of an A/B test add to the sums.

    These are the visits that began while the layout was served. The evidence holds all of them from the first look on
    whose `EffectEvidence.complete_until` is not before the layout's end: later than that by the metric's window.

    Attributes
    ----------
    weights
        By arm, those of the layout: of stable and of the challengers that took part.
    scores, variances
        By challenger: what these visits added to `EffectSums.score` and `EffectSums.variance`. A challenger without
        sums counts as equal to stable.
    """

    weights: Mapping[Arm, int]
    scores: Mapping[Arm, float]
    variances: Mapping[Arm, float]


@dataclass(frozen=True)
class SplitGain:
    """What moving shoppers won against an equal split.

    Attributes
    ----------
    outcomes
        Outcomes of the metric, such as clicks: above 0 if moving was good.
    lower, upper
        The band. Infinite as long as nothing is known of the noise; equal to `outcomes` while all shares are equal.
    """

    outcomes: float
    lower: float
    upper: float


def estimate_gain(
    layouts: Sequence[LayoutSums], *, better: bool = True, planned: int = 14, error: float = 0.05
) -> SplitGain:
    """Return how many outcomes the shares won against equal shares of the same arms.

    Parameters
    ----------
    layouts
        In the order of time.
    better
        Whether more of the metric is better. If not, outcomes that were avoided count.
    planned
        How many layouts are expected in all: the band is tightest then.
    error
        How often the band misses the truth, over all looks together, half on each side.

    Notes
    -----
    *Estimate.* For each layout, ``sum over challengers of (w - 1/K) (1/w_stable + 1/w) S``, with the shares w of the K
    arms and the challenger's score S. ``(1/w_stable + 1/w) S`` estimates effect times exposures times stable's rate of
    the layout's visits from the logged probabilities alone (Horvitz and Thompson 1952), so this is the share less the
    equal share, times the effect within the layout, times exposures and rate. Shares follow from earlier layouts.

    *Band.* With the sum Q of the squared residuals of a layout's visits, its part of the gain has the variance ``Q A``,
    where A is the sum of ``(w - 1/K)^2 / w`` over all arms, if the arms are equal. A challenger's score has the
    variance ``Q / (1/w_stable + 1/w)``, so its sums give Q; the mean over challengers is taken. A shopper's visits
    of several layouts are positively correlated, and the sums' variances have that. As the layouts' parts of the gain
    weigh unequally, the largest A so far is taken for each, which errs on the safe side. The band is that of
    `compute_boundary` on either side. It is for the visits of this test: what other shoppers would have brought is
    not in it, and the noise of the last days' returning shoppers is.
    """
    gain = variance = largest = first = 0.0
    for layout in layouts:
        whole = sum(layout.weights.values())
        shares = {arm: weight / whole for arm, weight in layout.weights.items() if weight > 0}
        equal = 1 / len(shares)
        largest = max(largest, sum((share - equal) ** 2 / share for share in shares.values()))
        factors = {
            arm: 1 / shares["stable"] + 1 / share
            for arm, share in shares.items()
            if arm != "stable" and arm in layout.scores
        }
        if not factors:
            continue
        gain += sum((shares[arm] - equal) * factor * layout.scores[arm] for arm, factor in factors.items())
        squares = [factor * layout.variances[arm] for arm, factor in factors.items()]
        added = largest * sum(squares) / len(squares)
        variance += added
        first = first or added
    if not better:
        gain = -gain
    if not variance:
        moved = largest > 1e-9
        return SplitGain(gain, -math.inf if moved else gain, math.inf if moved else gain)
    half = compute_boundary(variance, tune_mixture(first * planned, error / 2), error / 2)
    return SplitGain(gain, gain - half, gain + half)
