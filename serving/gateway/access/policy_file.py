"""A policy in a file, such as a mounted Secret, which is read again when it changes.

A file that cannot be read or used changes nothing: the last valid policy stays. Until there was one, the gateway takes
no request.
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
from endcap_serving.json_log import make_log_fields

log = logging.getLogger("endcap.access")
CHECK_INTERVAL = 1.0
"""Seconds between two looks at the file."""


class PolicyFile:
    """Holds the policy of a file as it is now. Any thread may ask for it.

    Parameters
    ----------
    file
        The file; None: `default` stays the policy.
    default
        The policy if there is no file.
    clock
        Returns seconds, which never go back.
    """

    def __init__(
        self, file: Path | None = None, default: Policy | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._file, self._policy, self._clock = file, (None if file else default), clock
        self._text: bytes | None = None
        self._checked_at: float | None = None
        self._lock = threading.Lock()
        self.error: EndcapError | None = None
        """Why the policy is not the one in the file; None: it is."""

    @property
    def policy(self) -> Policy | None:
        """The policy; None: it is not known yet, so no request may be taken."""
        with self._lock:
            now = self._clock()
            if self._file is not None and (self._checked_at is None or now - self._checked_at >= CHECK_INTERVAL):
                self._checked_at = now
                self._check(self._file)
            return self._policy

    def _check(self, file: Path) -> None:
        """Read the file and follow it, or keep the policy and note why."""
        try:
            text = _read(file)
            if text == self._text:
                return
            policy = read_policy(text)
        except EndcapError as error:
            if self.error is None or str(error) != str(self.error):
                consequence = "the last valid policy stays" if self._policy else "the gateway takes no request"
                log.error(f"the access policy cannot be used; {consequence}", extra=make_log_fields(error))
            self.error, self._text = error, None
            return
        self.error, self._text = None, text
        if policy != self._policy:
            log_fields = {"clients": [client.name for client in policy.clients], "issuers": len(policy.issuers)}
            log.info("the access policy has changed", extra={**log_fields, "anonymous": policy.anonymous})
        self._policy = policy


def _read(file: Path) -> bytes:
    try:
        with open_regular(file) as opened:
            return opened.read(MOST_BYTES + 1)
    except OSError as error:
        raise StorageError(
            f"the access policy {file} cannot be read ({error.strerror}); write it, or let this process read it",
            code="access.policy-unreadable",
            file=str(file),
            reason=error.strerror or "",
        ) from None
