"""The xDS service as a child beside Envoy: started, watched, replaced, ended.

In a container of its own its health would be the pod's: the kubelet counts a sidecar like any container, so that a pod
whose Envoy serves on would leave its Service. Here nobody but this process notices when it ends, hangs or leaks.
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
from endcap_serving.json_log import log_fields_of
from endcap_serving.parent_death import with_parent_death

log = logging.getLogger("endcap.gateway")
START_LIMIT = 30.0
"""Seconds from the start to the first answer."""
HUNG = 10.0
"""Seconds without an answer after which it is replaced."""
ASK_EVERY = 1.0
PROVEN = 20.0
"""One that lived so many seconds is started anew at once; otherwise the waits double."""
LONGEST_WAIT = 10.0


class XdsProcess:
    """One xDS service, or the wait for the next one. Use it from one thread, which outlives the service.

    options: those of `python -m endcap_serving.gateway.xds`. port: of loopback, where it answers health checks. memory:
    bytes that it may hold (None: no limit); then its own allocations fail, so that a leak ends it and never Envoy.
    """

    def __init__(self, options: Sequence[str], port: int, memory: int | None = None) -> None:
        self._command = [sys.executable, "-m", "endcap_serving.gateway.xds", f"--port={port}", *options]
        self._health = f"http://127.0.0.1:{port}/healthz"
        self._memory = memory
        self._child: subprocess.Popen[bytes] | None = None
        self._failures = 0
        self._start_at = 0.0
        self._started = self._checked = self._answered = 0.0

    def reconcile(self) -> None:
        """One look, which waits at most a second: start it, replace it where it has ended or says nothing."""
        now = time.monotonic()
        if self._child is None:
            if now >= self._start_at:
                self._start()
        elif (status := self._child.poll()) is not None:
            self._fail(f"ended with status {status}")
        elif now - self._checked >= ASK_EVERY:
            self._look()

    def end(self) -> None:
        """End it now: Envoy has ended."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            self._child = None

    def _start(self) -> None:
        try:
            # Its lines go to stderr: Envoy writes many at once to stdout, and they would come between.
            self._child = subprocess.Popen(
                with_parent_death(self._command), process_group=0, stdout=sys.stderr.fileno()
            )
            if self._memory is not None:
                resource.prlimit(self._child.pid, resource.RLIMIT_DATA, (self._memory, self._memory))
        except OSError as error:
            self._fail(f"cannot be started: {error}")
            return
        self._started = self._checked = time.monotonic()
        self._answered = 0.0
        log.info("the xDS service starts", extra={"pid": self._child.pid})

    def _look(self) -> None:
        self._checked = time.monotonic()
        if self._is_well():
            self._answered = time.monotonic()
            return
        silent = time.monotonic() - max(self._answered, self._started)
        if silent > (HUNG if self._answered else START_LIMIT):
            self._fail(f"has not answered for {silent:.0f} s")

    def _is_well(self) -> bool:
        try:
            with urllib.request.urlopen(self._health, timeout=1) as answer:  # noqa: S310
                return bool(answer.status == 200)
        except (OSError, HTTPException):
            return False

    def _fail(self, how: str) -> None:
        if self._child is not None:
            # SIGKILL ends one that is stopped, too.
            self._child.send_signal(signal.SIGKILL)
            self._child.wait()
            self._child = None
            if time.monotonic() - self._started > PROVEN:
                self._failures = 0
        wait = min(2.0 ** (self._failures - 1), LONGEST_WAIT) if self._failures else 0.0
        self._failures += 1
        self._start_at = time.monotonic() + wait
        error = EndcapError(
            f"the xDS service {how}; Envoy continues with its last state, and the service restarts in {wait:g} s",
            code="gateway.xds-failed",
            how=how,
            wait=wait,
        )
        log.error("the xDS service is replaced", extra=log_fields_of(error))
