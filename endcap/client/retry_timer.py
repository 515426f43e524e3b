"""How often a client repeats a call, and how long it waits before each try."""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

from endcap.client_faults import explain_tls_failure
from endcap.errors import TransientError, UserError

Outcome = httpx.Response | httpx.TransportError
"""What one try leads to: an answer, or the error of a connection."""
RETRIED_STATUSES = (429, 502, 503, 504)
"""Statuses of failures that may pass."""
_FIRST_WAIT, _LONGEST_WAIT = 0.05, 2.0
"""Seconds."""


class RetryTimer:
    """Counts the tries of one call and the time that the call has left.

    Parameters
    ----------
    url
        The address that is called, for messages.
    timeout
        The seconds that the call may take, including all tries.
    retries
        The number of further tries.
    """

    def __init__(self, url: str, timeout: float, retries: int) -> None:
        self._url, self._timeout = url, timeout
        self._deadline = time.monotonic() + timeout
        self._waits = (min(_FIRST_WAIT * 2**number, _LONGEST_WAIT) for number in range(retries))

    @property
    def seconds_left(self) -> float:
        """The seconds that the call has left, more than 0."""
        return max(self._deadline - time.monotonic(), 0.001)

    def choose_wait(self, outcome: Outcome) -> float | None:
        """Choose how long to wait before the next try.

        Parameters
        ----------
        outcome
            What the last try led to: an answer, or the error of a connection.

        Returns
        -------
        float or None
            Seconds. None: do not try again, the outcome is the call's answer.

        Raises
        ------
        TransientError
            No answer came, and there is no further try.
        UserError
            The gateway has no TLS that this machine trusts.

        Notes
        -----
        The wait is random, up to a bound that doubles with each try (full jitter: Brooker, "Exponential backoff and
        jitter", AWS Architecture Blog, 2015). The seconds of a Retry-After header are added to it.
        """
        response = outcome if isinstance(outcome, httpx.Response) else None
        if response is not None and response.status_code not in RETRIED_STATUSES:
            return None
        if isinstance(outcome, httpx.TransportError) and (tls_failure := explain_tls_failure(outcome)) is not None:
            raise UserError(
                f"no TLS with {self._url} ({tls_failure}): name the file of its certificate authority by "
                "SSL_CERT_FILE, or give an address with http:// if the gateway has no TLS",
                code="client.no-tls",
                url=self._url,
                reason=tls_failure,
                variable="SSL_CERT_FILE",
            )
        longest = next(self._waits, None)
        if longest is not None:
            wait = random.uniform(0, longest) + _read_retry_after(response)  # noqa: S311
            if wait < self.seconds_left:
                return wait
        if response is not None:
            return None
        reason = f"{type(outcome).__name__}: {outcome}"
        raise TransientError(
            f"{self._url} did not answer within {self._timeout:g} s ({reason}); try again later",
            code="client.no-answer",
            url=self._url,
            seconds=self._timeout,
            reason=reason,
        )


def _read_retry_after(response: httpx.Response | None) -> float:
    """Read the seconds that the Retry-After header asks for, as a number or a time; 0 without one."""
    header = "" if response is None else response.headers.get("retry-after", "")
    if header.isdigit():
        return float(header)
    try:
        return max((parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds(), 0.0)
    except (ValueError, TypeError):
        return 0.0
