"""One failed call to MLflow as a value, and the errors that every kind of registry can raise."""

from __future__ import annotations

from dataclasses import dataclass

from endcap.errors import EndcapError, TransientError, UserError

RESOURCE_MISSING, RESOURCE_EXISTS = "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS"
"""MLflow's codes of what callers ask by trying."""


@dataclass(frozen=True)
class Failure:
    """One failed call.

    Parameters
    ----------
    error
        For a person, where it is not tried again.
    passing
        Whether the same call may go well in a while.
    undone
        Whether nothing was done by it for certain, so that even what makes a thing may be tried again.
    reason
        In a few words, for the line about waiting.
    limit
        Seconds that it is worth waiting; None: as long as the caller's patience.
    """

    error: EndcapError
    passing: bool = False
    undone: bool = False
    reason: str = ""
    limit: float | None = None


def make_refusal_error(error: Exception, uri: str) -> EndcapError:
    """Make the error for a value that the registry refuses."""
    return UserError(
        f"the registry {uri} refuses this: {error}", code="registry.refuses", registry=uri, reason=str(error)
    )


def make_server_error(reason: str, uri: str) -> EndcapError:
    """Make the error for a registry that answers with a failure."""
    return TransientError(
        f"the registry {uri} fails: {reason}; look at it, then run again",
        code="registry.fails",
        registry=uri,
        reason=reason,
    )
