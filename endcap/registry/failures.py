"""What a failure of MLflow means: whether the same call may go well in a while, and which error says it."""

from __future__ import annotations

from dataclasses import dataclass

from endcap.causes import causes
from endcap.errors import EndcapError, TransientError, UserError

RESOURCE_MISSING, RESOURCE_EXISTS = "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS"
"""MLflow's codes of what callers ask by trying."""
_CLIENTS = ("alembic", "mlflow", "psycopg", "pymysql", "requests", "sqlalchemy", "sqlite3", "urllib3")


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


def classify_failure(error: Exception, uri: str) -> Failure | None:
    """What an error of MLflow's client, or of one below it, means; None where it is another's, or the caller's to read.

    uri: the registry's address.
    """
    from endcap.registry.database_failures import classify_database_error
    from endcap.registry.server_failures import classify_answer, classify_transport_error

    code = str(getattr(error, "error_code", ""))
    chain = list(causes(error))
    foreign = any(_get_module(cause) in _CLIENTS for cause in chain)
    if code in (RESOURCE_MISSING, RESOURCE_EXISTS) or isinstance(error, EndcapError) or not foreign:
        return None
    known = classify_answer(error, uri) or classify_transport_error(chain, uri) or classify_database_error(chain, uri)
    if known is not None:
        return known
    if code in ("INVALID_PARAMETER_VALUE", "BAD_REQUEST"):
        return Failure(make_refusal_error(error, uri))
    return Failure(make_server_error(str(error), uri))


def make_refusal_error(error: Exception, uri: str) -> EndcapError:
    """The registry takes no such value."""
    return UserError(
        f"the registry {uri} refuses this: {error}", code="registry.refuses", registry=uri, reason=str(error)
    )


def make_server_error(reason: str, uri: str) -> EndcapError:
    """The registry answers, and fails."""
    return TransientError(
        f"the registry {uri} fails: {reason}; look at it, then run again",
        code="registry.fails",
        registry=uri,
        reason=reason,
    )


def _get_module(error: BaseException) -> str:
    return type(error).__module__.partition(".")[0]
