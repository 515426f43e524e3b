"""Which shoppers met another arm of an A/B test than the two that are compared, and when they did first.

A shopper who comes from a third arm came to the arm that took its shoppers, whatever the probabilities of the two are.
So tests that count each shopper once, by the probability of the first visit, leave such a shopper out.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from endcap.experiments.exposures import Exposures
from endcap.experiments.key_index import KeyIndex

_Ints = NDArray[np.int64]
_NEVER = np.iinfo(np.int64).max


class FirstElsewhere:
    """When each shopper first met an arm that is not compared.

    Parameters
    ----------
    settle
        Milliseconds. A report that comes later after its ranking does not count, so that what is known at the end of a
        visit does not depend on the looks.
    """

    def __init__(self, settle: int) -> None:
        self._settle = settle
        self._times = np.zeros(0, np.int64)

    def note(self, elsewhere: Exposures, people: KeyIndex) -> None:
        """Take exposures of other arms. people: the shoppers' numbers."""
        in_time = elsewhere.select(elsewhere.received <= elsewhere.time + self._settle)
        shopper = people.number(in_time.shopper)
        self._times = np.append(self._times, np.full(len(people) - len(self._times), _NEVER))
        np.minimum.at(self._times, shopper, in_time.time)

    def is_before(self, shopper: _Ints, time: _Ints) -> NDArray[np.bool_]:
        """Tell whether each shopper met another arm before a time: bool [n]."""
        known = shopper < len(self._times)
        times = np.full(len(shopper), _NEVER)
        times[known] = self._times[shopper[known]]
        return times < time
