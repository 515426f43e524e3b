"""Which surfaces metrics name: those of the shop's rules, and those that are often asked for. Callers name any."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

NO_SURFACE, OTHER_SURFACE = "none", "other"
MOST = 50
"""Surfaces that are named, besides those of rules."""
OFTEN = 20
"""Rankings after which a surface is named: what a caller makes up once is no surface."""
_CANDIDATES = 1000


class Surfaces:
    """Used from the event loop, but for `know`."""

    def __init__(self) -> None:
        self._known: frozenset[str] = frozenset()
        self._frequent: set[str] = set()
        self._rankings: Counter[str] = Counter()

    def add_known(self, surfaces: Iterable[str]) -> None:
        """Name these from now on, whatever callers name."""
        self._known |= frozenset(surfaces)

    def label(self, surface: str | None) -> str:
        """What a metric calls the surface of one more ranking."""
        if surface is None:
            return NO_SURFACE
        if surface in self._known or surface in self._frequent:
            return surface
        if len(self._frequent) < MOST:
            if len(self._rankings) >= _CANDIDATES and surface not in self._rankings:
                # Those that come often come again.
                self._rankings = Counter(dict(self._rankings.most_common(_CANDIDATES // 10)))
            self._rankings[surface] += 1
            if self._rankings[surface] >= OFTEN:
                del self._rankings[surface]
                self._frequent.add(surface)
        return OTHER_SURFACE
