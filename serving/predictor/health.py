"""What probes learn: whether this process is live, and whether it is ready for requests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from endcap_serving.predictor.batcher import Batcher

STUCK = 60.0
"""Seconds after which a batch counts as stuck."""


class Health:
    """The health of a predictor.

    It is live until a ranking thread ends or hangs, and ready from the end of the warm-up until it is asked to end.

    Attributes
    ----------
    warm
        Whether the warm-up is over.
    draining
        Whether the process was asked to end.
    """

    def __init__(self) -> None:
        self._batchers: list[Batcher[Any, Any]] = []
        self.warm = False
        self.draining = False

    def watch(self, batchers: Iterable[Batcher[Any, Any]]) -> None:
        """Count the threads of these batchers too."""
        self._batchers += batchers

    @property
    def live(self) -> bool:
        """Whether all ranking threads run and none hangs."""
        return all(batcher.is_alive and batcher.busy_seconds < STUCK for batcher in self._batchers)

    @property
    def ready(self) -> bool:
        """Whether the process is ready for requests."""
        return self.warm and not self.draining and self.live
