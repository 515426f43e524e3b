"""The desired state, read again and again: what is to be served at this moment."""

from __future__ import annotations

import time

from endcap.deploy.state import Deployment, read_state
from endcap.store import Store

REMOTE_TICK = 1.0
"""Seconds between two looks at the document where the store is not on this machine."""


class DesiredState:
    """`wanted` is what was read last. Raises NotFoundError where nothing is deployed, as `read_state` does."""

    def __init__(self, store: Store, recommender: str) -> None:
        self._store, self._recommender = store, recommender
        self._pause = 0.0 if store.root.startswith("file://") else REMOTE_TICK
        self._last_read = time.monotonic()
        self.deployment: Deployment = read_state(recommender, store)

    def refresh(self) -> None:
        """Raises what `read_state` raises, and leaves `wanted`: shoppers had better keep what works."""
        if time.monotonic() - self._last_read < self._pause:
            return
        self._last_read = time.monotonic()
        self.deployment = read_state(self._recommender, self._store)
