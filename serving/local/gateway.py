"""The gateway in front of this machine's predictors: one Envoy that gets each split, and is replaced if it fails."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from endcap.errors import EndcapError
from endcap_serving.gateway.routes import Split, Upstream
from endcap_serving.local.envoy_process import EnvoyProcess
from endcap_serving.local.events import GatewayFailed, Listener
from endcap_serving.local.predictors import PROVEN

LONGEST_WAIT = 10.0
"""Seconds between two starts of an Envoy that ends as soon as it runs."""


class LocalGateway:
    """Keeps one Envoy running, always at the same port.

    Parameters
    ----------
    port
        Envoy's port. 0: any free one.
    start
        Starts an Envoy at a port with a split.
    listener
        Gets an event if Envoy fails.

    Attributes
    ----------
    envoy
        The Envoy that runs; None if there is none.
    split
        The split that Envoy took last.
    """

    def __init__(self, port: int, start: Callable[[int, Split], EnvoyProcess], listener: Listener) -> None:
        self._port = port
        self._start = start
        self._listener = listener
        self._failures = 0
        self._started = self._retry_at = 0.0
        self.envoy: EnvoyProcess | None = None
        self.split: Split | None = None

    def reconcile(self, split: Split) -> bool:
        """Start an Envoy if none runs and it is time.

        Parameters
        ----------
        split
            The split of a new Envoy.

        Returns
        -------
        bool
            Whether an Envoy was started.

        Raises
        ------
        EndcapError, OSError
            Envoy does not start.
        """
        self._replace_failed()
        if self.envoy is not None or time.monotonic() < self._retry_at:
            return False
        envoy = self._start(self._port, split)
        self.envoy, self._port, self._started, self.split = envoy, envoy.port, time.monotonic(), split
        return True

    def route(self, split: Split, draining: list[Upstream]) -> bool:
        """Route shoppers by another split.

        Parameters
        ----------
        split
            The predictors and their shares.
        draining
            Predictors that get no new requests, but still answer older ones.

        Returns
        -------
        bool
            Whether Envoy took a new split. False also if none runs.

        Raises
        ------
        EndcapError, OSError
            Envoy does not take the split. Calling this again is safe.
        """
        if self.envoy is None or split == self.split or not self.apply(split, draining):
            return False
        self.split = split
        return True

    def apply(self, split: Split, draining: list[Upstream]) -> bool:
        """Give Envoy a split, also the one that it has. Parameters and errors are those of `route`.

        Returns
        -------
        bool
            False if Envoy has ended or hangs. `reconcile` starts another one, with the split of that moment.
        """
        if self.envoy is None:
            return False
        try:
            self.envoy.apply(split, draining)
        except (EndcapError, OSError):
            if self.envoy.find_failure() is None:
                raise
            return False
        return True

    def find_reopen(self, file: Path) -> Callable[[], None] | None:
        """Find the function that makes the writer of a log go on in a new file.

        Returns
        -------
        Callable or None
            None if the file is not Envoy's access log.
        """
        if self.envoy is not None and file == self.envoy.access_log.file:
            return self.envoy.access_log.reopen
        return None

    def close(self) -> None:
        """End Envoy."""
        if self.envoy is not None:
            self.envoy.end()

    def _replace_failed(self) -> None:
        """End an Envoy that failed, and set when the next one starts."""
        failure = self.envoy.find_failure() if self.envoy is not None else None
        if self.envoy is None or failure is None:
            return
        lifetime = time.monotonic() - self._started
        self._failures = 0 if lifetime > PROVEN else self._failures + 1
        wait = min(2.0 ** (self._failures - 2), LONGEST_WAIT) if self._failures > 1 else 0.0
        self._retry_at = time.monotonic() + wait
        envoy, self.envoy = self.envoy, None
        envoy.end(0.0)
        self._listener(GatewayFailed(failure))
