"""Call again: an API server that restarts or is busy answers after a while."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from endcap.cluster.api_errors import ApiCall, ApiResponse, UnreachableError
from endcap.retries import RetryLimits, RetryLoop

TRANSIENT_STATUSES = frozenset({429, 500, 502, 503, 504})
"""Statuses that may pass. All that Endcap sends may be sent twice."""
T = TypeVar("T")


class TransientFailure(Exception):  # noqa: N818 (a signal between attempts, not an error for a person)
    """One attempt failed in a way that may pass. after: seconds to wait, if the server says so."""

    def __init__(self, words: str, after: float | None = None) -> None:
        self.after = after
        super().__init__(words)


def read_transient_failure(response: ApiResponse) -> TransientFailure:
    """Make the failure of a response that may pass. It waits as long as the server asks for, if it does."""
    seconds = response.headers.get("Retry-After", "")
    return TransientFailure(f"{response.status}: {response.message}", float(seconds) if seconds.isdigit() else None)


def call_with_retries(attempt: Callable[[], T], call: ApiCall, host: str, patience: RetryLimits) -> T:
    """Call until an answer comes. Raises UnreachableError with the last reason when patience ends."""
    waiting = RetryLoop(f"the API server at {host}", patience)
    while True:
        try:
            result = attempt()
        except TransientFailure as failure:
            if not waiting.again(str(failure), after=failure.after):
                # Whoever repeats a call by a loop of its own allows no wait here.
                waited = f" for {waiting.seconds:.0f} s" if waiting.seconds >= 1 else ""
                raise UnreachableError(
                    f"{call.verb} {call}: the API server at {host} did not answer{waited} ({failure}). "
                    "Try again when it does",
                    code="cluster.unreachable",
                    host=host,
                    limit=patience.total,
                    reason=str(failure),
                    **call.fields,
                ) from None
        else:
            waiting.over()
            return result
