"""The gateway in front of this machine's predictors: one Envoy, told of each split, and replaced where it is lost."""

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
"""Seconds: an Envoy that dies again and again as soon as it runs is started no more often."""


class LocalGateway:
    """Starts Envoy by `start`, which is given a port, 0: any free one. Its port stays the same."""

    def __init__(self, port: int, start: Callable[[int, Split], EnvoyProcess], listener: Listener) -> None:
        self._port = port
        self._start = start
        self._listener = listener
        self._failures = 0
        self._started = self._retry_at = 0.0
        self.envoy: EnvoyProcess | None = None
        self.split: Split | None = None
        """What Envoy was told last, and took."""

    def reconcile(self, split: Split) -> bool:
        """Keep an Envoy alive; whether one was started, which goes by this split. Raises what `start` does."""
        self._replace_failed()
        if self.envoy is not None or time.monotonic() < self._retry_at:
            return False
        envoy = self._start(self._port, split)
        self.envoy, self._port, self._started, self.split = envoy, envoy.port, time.monotonic(), split
        return True

    def route(self, split: Split, draining: list[Upstream]) -> bool:
        """Send shoppers by another split; whether they are now. kept: who still answers older requests.

        Raises EndcapError or OSError where Envoy does not follow; the same again is safe.
        """
        if self.envoy is None or split == self.split or not self.apply(split, draining):
            return False
        self.split = split
        return True

    def apply(self, split: Split, draining: list[Upstream]) -> bool:
        """False where Envoy has died or hangs: the next look starts another, which begins with what is wanted then."""
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
        """How the writer of a log is told to go on in a new file; None where it is not Envoy's access log."""
        if self.envoy is not None and file == self.envoy.access_log.file:
            return self.envoy.access_log.reopen
        return None

    def close(self) -> None:
        if self.envoy is not None:
            self.envoy.end()

    def _replace_failed(self) -> None:
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
