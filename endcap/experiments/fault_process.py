"""E-processes against faults that begin at any time: formulas over counts, without any source of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from endcap.experiments.sequential import mix_wealth

RATIOS = (2.0, 4.0, 12.0)
"""By so many times a bet on a rate multiplies the wealth at each event; about the odds ratio that it looks for."""
_DAY = 86_400.0
_AT_ONCE = 0.5
"""The part of the wealth that is bet on a fault from the first request on."""


@dataclass
class FaultProcess:
    """An e-process against "no fault", for a fault that begins at any time.

    Attributes
    ----------
    age
        Seconds that were observed.
    wealth
        The logarithm of what each bet has won, over all beginnings; None before the first window.

    Notes
    -----
    A plain product of factors falls while all is well, so that a fault that begins after a day would not be seen for
    another day. This is a mixture over beginnings: a part of the wealth is put into play at each moment, and the
    e-value is all that is in play and the rest. Half is put into play at once, because a new version's faults are
    mostly there from the start. Of the rest, day d gets ``1 / (d (d + 1))``, evenly over its seconds. The parts are
    fixed before any data and add up to 1, so the expectation is at most 1 at every look, however long it lasts. A fault
    on day d costs the logarithm of about ``20,000 d (d + 1)`` more than one from the start, at windows of 10 s, less
    the logarithm of 30, as beginnings close to the fault's bet on it as well. No other parts would do much better: they
    add up to 1, and a test that knows the beginning takes most of that time too (docs/benchmarks.md). The sum
    over beginnings without weights is the Shiryaev-Roberts statistic, whose average run length is bounded, but not its
    probability of a false alarm (Shin, Ramdas and Rinaldo, "E-detectors", New England Journal of Statistics in Data
    Science, 2024).
    """

    age: float = 0.0
    wealth: list[float] | None = None

    def advance(self, factors: Sequence[float], seconds: float) -> None:
        """Take a window's evidence.

        Parameters
        ----------
        factors
            Of each bet, the logarithm of an e-value for this window alone, given all before it. The number of bets
            never changes.
        seconds
            The window's length.
        """
        spent = _sum_parts(self.age)
        self.age += seconds
        part = _sum_parts(self.age) - spent
        if self.wealth is None:
            part += _AT_ONCE
            self.wealth = [-math.inf] * len(factors)
        entry = math.log(part) if part > 0 else -math.inf
        self.wealth = [_add_logs(value, entry) + factor for value, factor in zip(self.wealth, factors, strict=True)]

    @property
    def e_value(self) -> float:
        """The e-value against "no fault until now"."""
        if self.wealth is None:
            return 1.0
        rest = 1.0 - _AT_ONCE - _sum_parts(self.age)
        return mix_wealth(self.wealth) + rest


def _sum_parts(age: float) -> float:
    days = math.floor(age / _DAY)
    within = age / _DAY - days
    return (1 - _AT_ONCE) * (1 - 1 / (days + 1) + within / ((days + 1) * (days + 2)))


def _add_logs(first: float, second: float) -> float:
    high, low = max(first, second), min(first, second)
    return high if low == -math.inf else high + math.log1p(math.exp(low - high))


def compare_rates(
    events: int, requests: int, limit: float, times: float, stable_events: int, stable_requests: int
) -> list[float]:
    """Return the logarithms of e-values against "the arm's rate is allowed", one for each of `RATIOS`.

    Parameters
    ----------
    events, requests
        Of the arm, in one window.
    limit
        A rate that is allowed in any case, above 0 and below 1.
    times
        So many times the stable version's rate of the window is allowed too.
    stable_events, stable_requests
        Of the stable version, in the same window. Without a request of it there is no evidence.

    Returns
    -------
    list of float
        Their expectation is at most 1, whatever the stable version's rate is.

    Notes
    -----
    The hypothesis is p <= max(limit, times * q) with both rates p and q unknown. With the ratio r:

    - If p <= limit, ``r^events / (1 + limit (r - 1))^requests`` has an expectation of at most 1 (a binomial's).
    - If p <= times * q, so has ``r^events / (1 + s (r - 1))^(all events)`` with ``s = times n / (times n + m)``, where
      n and m are the requests of the arm and of the stable version. Given all events, each is the arm's with a
      probability of at most s. As ``log(1 + x) <= x`` for each request, the logarithm of the expectation is at most
      ``q (r - 1) / D * (times n (1 - s) - m s) = 0`` with ``D = 1 + s (r - 1)``, exactly, at any rate.

    The smaller of the two is an e-value in either case. A burst that both arms share enters both counts of the second.
    """
    part = times * requests / (times * requests + stable_requests) if requests else 0.0
    everything = events + stable_events
    return [
        events * math.log(ratio)
        - max(requests * math.log1p(limit * (ratio - 1)), everything * math.log1p(part * (ratio - 1)))
        for ratio in RATIOS
    ]


def compare_to_limit(events: int, requests: int, limit: float) -> list[float]:
    """Return the logarithms of e-values against "the rate is at most `limit`", one for each of `RATIOS`."""
    return [events * math.log(ratio) - requests * math.log1p(limit * (ratio - 1)) for ratio in RATIOS]
