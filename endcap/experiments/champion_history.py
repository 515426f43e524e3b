"""A champion beside its shop's own past: does a metric stay below what the same hours of earlier weeks had?

Notes
-----
*Ratio.* Each three hours give the logarithm of their rate over that of the same hours of up to four earlier weeks. Of
these weeks the lower median counts, so that a sale a week or two ago does not make the hours of today look bad.

*Sum.* Page's cumulative sum (1954, "Continuous inspection schemes") adds how far each ratio falls short of an
allowance, and begins again at 0 where that would be negative. It is the logarithm of a likelihood ratio, and an
e-detector of Shin, Ramdas and Rinaldo (2024, "E-detectors"), where the noise is as assumed. It is not assumed here: how
much the shop's weeks differ is measured by the median absolute deviation of its own past ratios, and widens allowance
and limit. A small or restless shop is thus told less, and later.

*What it cannot tell.* A worse version from a worse week. So it alerts, and takes nothing back unless the policy says
so. How often it is wrong was measured by simulation (`docs/benchmarks.md`), and follows from no theorem.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from endcap.experiments.evidence import HistoryEvidence

_Floats = NDArray[np.float64]
_Ints = NDArray[np.int64]

BLOCK = 3 * 3_600_000
"""Milliseconds of the hours that are judged together."""
WEEK = 7 * 24 * 3_600_000 // BLOCK
"""Blocks of a week."""
DAY = WEEK // 7
MOST_WEEKS = 4
FEWEST_WEEKS = 2
"""With fewer earlier weeks nothing is told: a sale could be the only one."""
ALLOWANCE = 0.1
"""A metric may lie so much lower than in earlier weeks, in logarithms, without any sum."""
LIMIT = 0.2
"""The sum that is a breach."""
_ALLOWED_NOISE, _LIMIT_NOISE = 0.15, 1.2
"""What a standard deviation of the shop's own ratios adds to allowance and limit."""
_MAD = 1.4826
"""A normal distribution's standard deviation, divided by its median absolute deviation."""


class ChampionHistory:
    """The outcomes and exposures of one metric by blocks of hours, for as long as visits were read."""

    def __init__(self) -> None:
        self._blocks = np.zeros(0, np.int64)
        self._sums = np.zeros((0, 2))

    def add(self, time: _Ints, exposures: _Floats, outcome: _Floats) -> None:
        """Take visits. int64 [n]: milliseconds since 1970; float64 [n]: as in `ClosedVisits`."""
        block = time // BLOCK
        blocks = np.union1d(self._blocks, block)
        sums = np.zeros((len(blocks), 2))
        sums[np.searchsorted(blocks, self._blocks)] = self._sums
        # One by one, so that a sum does not depend on how visits were cut into batches.
        np.add.at(sums, np.searchsorted(blocks, block), np.stack([exposures, outcome], axis=1))
        self._blocks, self._sums = blocks, sums

    def judge(self, metric: str, since: int, until: int, *, better: bool = True) -> HistoryEvidence:
        """Return what the blocks tell that began after `since` and ended by `until`.

        Parameters
        ----------
        metric
            The metric's name.
        since, until
            Milliseconds since 1970: the champion's promotion, and up to when windows are over.
        better
            Whether more of the metric is better.
        """
        sign = 1.0 if better else -1.0
        rates = {
            int(block): sign * math.log(max(outcome, 0.5) / exposures)
            for block, (exposures, outcome) in zip(self._blocks.tolist(), self._sums.tolist(), strict=True)
            if exposures > 0
        }
        begin, end = -(-since // BLOCK), until // BLOCK
        noise = _measure_noise([(block, rates[block]) for block in sorted(rates) if block < begin])
        allowance, limit = ALLOWANCE + _ALLOWED_NOISE * noise, LIMIT + _LIMIT_NOISE * noise
        cusum, weeks, ratios = 0.0, 0, list[float]()
        for block in range(begin, end):
            earlier = sorted(
                rates[block - week * WEEK] for week in range(1, MOST_WEEKS + 1) if block - week * WEEK in rates
            )
            if block not in rates or len(earlier) < FEWEST_WEEKS:
                continue
            weeks = len(earlier)
            ratios.append(rates[block] - earlier[(weeks - 1) // 2])
            # It rises no higher than to twice the limit, so that a metric that is back is seen soon.
            cusum = min(max(0.0, cusum - ratios[-1] - allowance), 2 * limit)
        latest = ratios[-DAY:]
        change = math.expm1(sign * sum(latest) / len(latest)) if latest else 0.0
        return HistoryEvidence(metric, change, cusum, limit, weeks, len(ratios))


def _measure_noise(rates: list[tuple[int, float]]) -> float:
    """Return the standard deviation of the ratio between the same hours of two weeks, robustly."""
    known = dict(rates)
    ratios = [rate - known[block - WEEK] for block, rate in rates if block - WEEK in known]
    if not ratios:
        return 0.0
    return _MAD * float(np.median(np.abs(np.array(ratios) - np.median(ratios))))
