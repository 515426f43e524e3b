"""How far it is, how fast, and how long it takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from endcap.progress import Advance

EVERY = 5.0
"""Seconds between two lines where nothing is finished meanwhile."""


class ListProgress:
    """Tells of customers and parts that are done, as they are."""

    def __init__(
        self,
        what: str,
        sizes: Sequence[int],
        missing: Sequence[int],
        tell: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """sizes: customers of each part. missing: the numbers of those that are to be made."""
        self.tell = tell
        self._what, self._clock = what, clock
        self._all, self._parts = sum(sizes), len(sizes)
        self._left, self._parts_left = sum(sizes[number] for number in missing), len(missing)
        self._listed = 0
        self._begun = self._told = clock()

    def listed(self, customers: int) -> None:
        """So many more customers have their lists; now and then a line says so."""
        self._listed += customers
        if self._clock() - self._told >= EVERY:
            self._say()

    def whole(self, customers: int = 0) -> None:
        """One more part is kept, and with it the lists of so many customers that `listed` was not told of."""
        self._listed += customers
        self._parts_left -= 1
        self._say()

    def _say(self) -> None:
        self._told = self._clock()
        left = self._left - self._listed
        rate = self._listed / max(self._told - self._begun, 1e-9)
        shown = f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}"
        minutes, seconds = divmod(round(left / rate) if rate else 0, 60)
        line = (
            f"{self._what}: {self._all - left:,} of {self._all:,} customers, {self._parts - self._parts_left:,} of "
            f"{self._parts:,} parts, {shown} customers a second, {minutes}:{seconds:02d} left"
        )
        self.tell(Advance(line, done=self._all - left, whole=self._all))
