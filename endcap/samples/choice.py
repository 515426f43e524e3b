"""Which rankings are sampled: a share by a hash of their ids, and so many a second at most."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable

_RANGE = 2**64


class SampleChoice:
    """Chooses rankings. The same ids are chosen in each process and on each machine, before the bound of a second.

    Parameters
    ----------
    share
        The share of all rankings, 0 to 1.
    most_per_second
        How many rankings this process samples in a second at most.
    seed
        Another seed chooses other rankings.
    clock
        The time in seconds, for tests.
    """

    def __init__(
        self, share: float, most_per_second: int, seed: int = 0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limit = int(share * _RANGE)
        self._key = seed.to_bytes(8, "big", signed=True)
        self._most, self._clock = most_per_second, clock
        self._second, self._count = 0, 0

    def is_chosen(self, ranking_id: str) -> bool:
        """Return whether a ranking belongs to the share."""
        digest = hashlib.blake2b(ranking_id.encode(), digest_size=8, key=self._key).digest()
        return int.from_bytes(digest, "big") < self._limit

    def admit(self) -> bool:
        """Take one of the current second's places. Returns whether there was one."""
        second = int(self._clock())
        if second != self._second:
            self._second, self._count = second, 0
        self._count += 1
        return self._count <= self._most
