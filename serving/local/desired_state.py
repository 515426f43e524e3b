"""The desired state of serving, which a supervisor reads again and again."""

from __future__ import annotations

import time

from endcap.deploy.state import Deployment, read_state
from endcap.store import Store

REMOTE_TICK = 1.0
"""Seconds between two reads of the document, if the store is not on this machine."""


class DesiredState:
    """The desired state of one recommender.

    Parameters
    ----------
    store
        The store with the document.
    recommender
        The recommender's name.

    Attributes
    ----------
    deployment
        The state that was read last.

    Raises
    ------
    NotFoundError
        Nothing is deployed.
    """

    def __init__(self, store: Store, recommender: str) -> None:
        self._store, self._recommender = store, recommender
        self._pause = 0.0 if store.root.startswith("file://") else REMOTE_TICK
        self._last_read = time.monotonic()
        self.deployment: Deployment = read_state(recommender, store)

    def refresh(self) -> None:
        """Read the document again, if it is time.

        Raises
        ------
        EndcapError
            The document cannot be read, as for `read_state`. `deployment` stays, so shoppers keep what works.
        """
        if time.monotonic() - self._last_read < self._pause:
            return
        self._last_read = time.monotonic()
        self.deployment = read_state(self._recommender, self._store)
