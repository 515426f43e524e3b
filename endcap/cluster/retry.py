"""Asking again: an API server that restarts or is busy answers after a while."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from endcap.cluster.api_errors import ApiCall, ApiResponse, UnreachableError
from endcap.waiting import Patience, Waiting

TRANSIENT_STATUSES = frozenset({429, 500, 502, 503, 504})
"""Statuses that may pass. All that Endcap sends may be sent twice."""
T = TypeVar("T")


class TransientFailure(Exception):  # noqa: N818 (a signal between attempts, not an error for a person)
    """One attempt failed in a way that may pass."""

    def __init__(self, words: str, after: float | None = None) -> None:
        self.after = after
        super().__init__(words)


def read_transient_failure(answer: ApiResponse) -> TransientFailure:
    """What to wait for after such an answer: as long as the server says, if it does."""
    said = answer.headers.get("Retry-After", "")
    return TransientFailure(f"{answer.status}: {answer.message}", float(said) if said.isdigit() else None)


def call_with_retries(attempt: Callable[[], T], asked: ApiCall, host: str, patience: Patience) -> T:
    """Call until it answers. Raises UnreachableError, with the last reason, when patience is over."""
    waiting = Waiting(f"the API server at {host}", patience)
    while True:
        try:
            answer = attempt()
        except TransientFailure as failure:
            if not waiting.again(str(failure), after=failure.after):
                raise UnreachableError(
                    f"{asked.verb} {asked}: the API server at {host} did not answer for {patience.total:.0f} s "
                    f"({failure}); try again when it does",
                    code="cluster.unreachable",
                    host=host,
                    limit=patience.total,
                    reason=str(failure),
                    **asked.fields,
                ) from None
        else:
            waiting.over()
            return answer
