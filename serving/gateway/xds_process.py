"""The xDS service as a child process beside Envoy, which is replaced when it ends, hangs or leaks.

A container of its own would make its health the pod's: the kubelet counts a sidecar like any container, so a pod would
leave its Service although its Envoy still serves. Here only this process notices.
"""

from __future__ import annotations

import logging
import resource
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from http.client import HTTPException

from endcap.errors import EndcapError
from endcap_serving.json_log import make_log_fields
from endcap_serving.parent_death import bind_to_parent

log = logging.getLogger("endcap.gateway")
START_LIMIT = 30.0
"""Seconds from the start to the first answer."""
ANSWER_LIMIT = 10.0
"""Seconds without an answer after which the service is replaced."""
CHECK_INTERVAL = 1.0
"""Seconds between two health checks."""
PROVEN_AFTER = 20.0
"""A service that lived so many seconds is restarted at once. Otherwise the waits double."""
LONGEST_WAIT = 10.0
"""Seconds."""


class XdsProcess:
    """Keeps one xDS service running. Use it from one thread, which outlives the service.

    Parameters
    ----------
    options
        Options of `python -m endcap_serving.gateway.xds`.
    port
        The port on loopback where the service answers Envoy and health checks.
    memory
        Bytes that the service may hold; None: no limit. Beyond them its own allocations fail, so a leak ends the
        service and never Envoy.
    """

    def __init__(self, options: Sequence[str], port: int, memory: int | None = None) -> None:
        self._command = [sys.executable, "-m", "endcap_serving.gateway.xds", f"--port={port}", *options]
        self._health = f"http://127.0.0.1:{port}/healthz"
        self._memory = memory
        self._child: subprocess.Popen[bytes] | None = None
        self._failures = 0
        self._next_start = 0.0
        self._started_at = self._checked_at = self._answered_at = 0.0

    def reconcile(self) -> None:
        """Start the service, check it, or replace it if it has ended or hangs. This takes at most about a second."""
        now = time.monotonic()
        if self._child is None:
            if now >= self._next_start:
                self._start()
        elif (status := self._child.poll()) is not None:
            self._replace(f"ended with status {status}")
        elif now - self._checked_at >= CHECK_INTERVAL:
            self._check()

    def end(self) -> None:
        """Kill the service: Envoy has ended."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            self._child = None

    def _start(self) -> None:
        try:
            # Its log goes to stderr. On stdout it would come between the lines that Envoy writes many at a time.
            self._child = subprocess.Popen(bind_to_parent(self._command), process_group=0, stdout=sys.stderr.fileno())
            if self._memory is not None:
                resource.prlimit(self._child.pid, resource.RLIMIT_DATA, (self._memory, self._memory))
        except OSError as error:
            self._replace(f"cannot be started: {error}")
            return
        self._started_at = self._checked_at = time.monotonic()
        self._answered_at = 0.0
        log.info("the xDS service starts", extra={"pid": self._child.pid})

    def _check(self) -> None:
        self._checked_at = time.monotonic()
        if self._is_healthy():
            self._answered_at = time.monotonic()
            return
        silent = time.monotonic() - max(self._answered_at, self._started_at)
        if silent > (ANSWER_LIMIT if self._answered_at else START_LIMIT):
            self._replace(f"has not answered for {silent:.0f} s")

    def _is_healthy(self) -> bool:
        try:
            with urllib.request.urlopen(self._health, timeout=1) as answer:  # noqa: S310
                return bool(answer.status == 200)
        except (OSError, HTTPException):
            return False

    def _replace(self, how: str) -> None:
        """Kill the service, if it runs, and let `reconcile` start the next one after a wait."""
        if self._child is not None:
            # SIGKILL ends a stopped process too.
            self._child.send_signal(signal.SIGKILL)
            self._child.wait()
            self._child = None
            if time.monotonic() - self._started_at > PROVEN_AFTER:
                self._failures = 0
        wait = min(2.0 ** (self._failures - 1), LONGEST_WAIT) if self._failures else 0.0
        self._failures += 1
        self._next_start = time.monotonic() + wait
        error = EndcapError(
            f"the xDS service {how}; Envoy continues with its last state, and the service restarts in {wait:g} s",
            code="gateway.xds-failed",
            how=how,
            wait=wait,
        )
        log.error("the xDS service is replaced", extra=make_log_fields(error))
