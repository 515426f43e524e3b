"""Where a policy comes from: a file, such as a mounted Secret, which is read anew when it changes.

What cannot be read or used changes nothing: the last good policy holds, and before there was one nothing is open.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from endcap.errors import EndcapError, StorageError
from endcap.safe_reading import open_regular
from endcap_serving.gateway.access.policy import MOST_BYTES, Policy, read_policy
from endcap_serving.json_log import log_fields_of

log = logging.getLogger("endcap.access")
LOOK = 1.0
"""Seconds between two looks at the file."""


class PolicyFile:
    """The policy of the moment. May be asked from any thread.

    file: left out, `default` holds for good.
    """

    def __init__(
        self, file: Path | None = None, default: Policy | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._file, self._policy, self._clock = file, (None if file else default), clock
        self._text: bytes | None = None
        self._looked: float | None = None
        self._lock = threading.Lock()
        self.error: EndcapError | None = None
        """Why the file as it is now is not followed; None where it is."""

    @property
    def policy(self) -> Policy | None:
        """None: it is not known yet, so nothing may be opened."""
        with self._lock:
            now = self._clock()
            if self._file is not None and (self._looked is None or now - self._looked >= LOOK):
                self._looked = now
                self._look(self._file)
            return self._policy

    def _look(self, file: Path) -> None:
        try:
            text = _read(file)
            if text == self._text:
                return
            policy = read_policy(text)
        except EndcapError as error:
            if self.error is None or str(error) != str(self.error):
                held = "the last good policy holds" if self._policy else "nothing is open"
                log.error(f"the access policy is not followed; {held}", extra=log_fields_of(error))
            self.error, self._text = error, None
            return
        self.error, self._text = None, text
        if policy != self._policy:
            log_fields = {"clients": [client.name for client in policy.clients], "issuers": len(policy.issuers)}
            log.info("the access policy is followed", extra={**log_fields, "anonymous": policy.anonymous})
        self._policy = policy


def _read(file: Path) -> bytes:
    try:
        with open_regular(file) as opened:
            return opened.read(MOST_BYTES + 1)
    except OSError as error:
        raise StorageError(
            f"the access policy {file} cannot be read ({error.strerror}); grant access, or write it",
            code="access.policy-unreadable",
            file=str(file),
            reason=error.strerror or "",
        ) from None
