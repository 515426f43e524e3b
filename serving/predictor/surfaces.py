"""The surfaces that metrics name: those of the shop's rules, and frequent ones. Callers may send any text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

NO_SURFACE, OTHER_SURFACE = "none", "other"
MOST = 50
"""Surfaces that metrics name besides those of rules."""
OFTEN = 20
"""Rankings after which metrics name a surface."""
_CANDIDATES = 1000


class Surfaces:
    """Bounds the number of surfaces in metrics. Only `add_known` may be called off the event loop."""

    def __init__(self) -> None:
        self._known: frozenset[str] = frozenset()
        self._frequent: set[str] = set()
        self._rankings: Counter[str] = Counter()

    def add_known(self, surfaces: Iterable[str]) -> None:
        """Always name these surfaces from now on."""
        self._known |= frozenset(surfaces)

    def label(self, surface: str | None) -> str:
        """Count one more ranking of a surface, and return the surface's name in metrics."""
        if surface is None:
            return NO_SURFACE
        if surface in self._known or surface in self._frequent:
            return surface
        if len(self._frequent) < MOST:
            if len(self._rankings) >= _CANDIDATES and surface not in self._rankings:
                # Frequent surfaces soon come again, so the others can be forgotten.
                self._rankings = Counter(dict(self._rankings.most_common(_CANDIDATES // 10)))
            self._rankings[surface] += 1
            if self._rankings[surface] >= OFTEN:
                del self._rankings[surface]
                self._frequent.add(surface)
        return OTHER_SURFACE
