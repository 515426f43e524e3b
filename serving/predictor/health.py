"""What the probes are told: whether this process lives, and whether it wants requests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from endcap_serving.predictor.batcher import Batcher

STUCK = 60.0
"""Seconds after which a batch that is still being ranked will not end."""


class Health:
    """Live until a ranking thread has ended or hangs; ready from the end of the warm-up to the beginning of the end."""

    def __init__(self) -> None:
        self._batchers: list[Batcher[Any, Any]] = []
        self.warm = False
        self.draining = False

    def watch(self, batchers: Iterable[Batcher[Any, Any]]) -> None:
        self._batchers += batchers

    @property
    def live(self) -> bool:
        return all(batcher.is_alive and batcher.busy_seconds < STUCK for batcher in self._batchers)

    @property
    def ready(self) -> bool:
        return self.warm and not self.draining and self.live
