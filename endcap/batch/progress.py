"""Progress of the lists: how many are done, how fast, and how long the rest takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from endcap.progress import Advance

EVERY = 5.0
"""Seconds between two lines if no part is finished meanwhile."""


class ListProgress:
    """Reports customers and parts as they are done."""

    def __init__(
        self,
        what: str,
        sizes: Sequence[int],
        missing: Sequence[int],
        tell: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin to count. `sizes` are the customers of each part, and `missing` the numbers of the parts to make."""
        self.tell = tell
        self._what, self._clock = what, clock
        self._all, self._parts = sum(sizes), len(sizes)
        self._left, self._parts_left = sum(sizes[number] for number in missing), len(missing)
        self._listed = 0
        self._begun = self._reported = clock()

    def count_listed(self, customers: int) -> None:
        """Count customers whose lists are made; now and then a line says so."""
        self._listed += customers
        if self._clock() - self._reported >= EVERY:
            self._say()

    def count_part(self, customers: int = 0) -> None:
        """Count a stored part, with customers that `count_listed` was not told of."""
        self._listed += customers
        self._parts_left -= 1
        self._say()

    def _say(self) -> None:
        self._reported = self._clock()
        left = self._left - self._listed
        rate = self._listed / max(self._reported - self._begun, 1e-9)
        shown = f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}"
        minutes, seconds = divmod(round(left / rate) if rate else 0, 60)
        line = (
            f"{self._what}: {self._all - left:,} of {self._all:,} customers, {self._parts - self._parts_left:,} of "
            f"{self._parts:,} parts, {shown} customers a second, {minutes}:{seconds:02d} left"
        )
        self.tell(Advance(line, done=self._all - left, whole=self._all))
