"""What a failure of MLflow's client means: which error reports it, and whether the same call may succeed later."""

from __future__ import annotations

from endcap.client_faults import walk_causes
from endcap.errors import EndcapError
from endcap.registry.database_failures import classify_database_error
from endcap.registry.failures import (
    RESOURCE_EXISTS,
    RESOURCE_MISSING,
    Failure,
    make_refusal_error,
    make_server_error,
)
from endcap.registry.server_failures import classify_answer, classify_transport_error

_CLIENTS = ("alembic", "mlflow", "psycopg", "pymysql", "requests", "sqlalchemy", "sqlite3", "urllib3")


def classify_failure(error: Exception, uri: str) -> Failure | None:
    """Find out what an error of MLflow's client means.

    Parameters
    ----------
    error
        The error.
    uri
        The registry's address.

    Returns
    -------
    RegistryFailure or None
        The failure; None if the error has another origin, or if the caller handles it.
    """
    code = str(getattr(error, "error_code", ""))
    chain = list(walk_causes(error))
    foreign = any(_get_module(cause) in _CLIENTS for cause in chain)
    if code in (RESOURCE_MISSING, RESOURCE_EXISTS) or isinstance(error, EndcapError) or not foreign:
        return None
    failure = classify_answer(error, uri) or classify_transport_error(chain, uri) or classify_database_error(chain, uri)
    if failure is not None:
        return failure
    if code in ("INVALID_PARAMETER_VALUE", "BAD_REQUEST"):
        return Failure(make_refusal_error(error, uri))
    return Failure(make_server_error(str(error), uri))


def _get_module(error: BaseException) -> str:
    return type(error).__module__.partition(".")[0]
