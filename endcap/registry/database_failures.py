"""What a registry's data base says, where it is addressed without a server: SQLite's file, or PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence

from endcap.errors import EndcapError, IntegrityError, StorageError, UserError
from endcap.registry.failures import Failure, make_server_error
from endcap.registry.server_failures import make_tls_failure, make_unknown_host_failure, make_unreachable_error

_SCHEMA = ("out-of-date database schema", "can't locate revision")
_ACCESS_REFUSED = (
    "password authentication failed",
    "no password supplied",
    "no pg_hba.conf entry",
    "permission denied",
    "access denied",
    "unknown database",
)
_DAMAGED = ("file is not a database", "malformed", "file is encrypted")
_FULL = ("disk is full", "no space left", "disk i/o error")
_UNWRITABLE = ("readonly database", "read-only", "unable to open database file")
_LOCKED = ("database is locked", "table is locked", "database schema is locked")
_UNKNOWN_HOST = ("could not translate host name", "failed to resolve host", "name or service not known")
_TLS = ("does not support ssl", "certificate verify failed", "root certificate file")
_UNREACHABLE = ("connection failed", "connection refused", "connection timeout", "could not connect", "can't connect")
_TRANSIENT_STATES = ("08", "57P", "53", "40")
"""Classes of SQLSTATE that may pass: connections, a server that ends or starts, its limits, conflicts."""


def classify_database_error(chain: Sequence[BaseException], uri: str) -> Failure | None:
    """Find out what an error of a data base means; None if no such error is among its causes."""
    errors = [error for error in chain if _is_database_error(error)]
    text = " ".join(str(error) for error in chain)
    lower = text.lower()
    if any(words in lower for words in _SCHEMA):
        return Failure(_make_schema_error(text, uri))
    if not errors:
        return None
    reason = next(
        (str(error) for error in errors if not type(error).__module__.startswith("sqlalchemy")), str(errors[0])
    )
    reason = next(iter(reason.splitlines()), "")[:300]
    state = next(filter(None, (str(getattr(error, "sqlstate", None) or "") for error in errors)), "")
    if any(words in lower for words in _ACCESS_REFUSED) or ("does not exist" in lower and "connection" in lower):
        return Failure(_make_refused_error(reason, uri))
    if state.startswith(("28", "3D", "42501")):
        return Failure(_make_refused_error(reason, uri))
    if any(words in lower for words in _DAMAGED):
        return Failure(_make_unreadable_error(reason, uri))
    if any(words in lower for words in _FULL) or state == "53100":
        return Failure(_make_full_error(reason, uri))
    if any(words in lower for words in _UNWRITABLE) or state == "25006":
        return Failure(_make_unwritable_error(reason, uri))
    if any(words in lower for words in _LOCKED):
        return Failure(make_server_error(reason, uri), passing=True, undone=True, reason="another process writes to it")
    if any(words in lower for words in _UNKNOWN_HOST):
        return make_unknown_host_failure(uri)
    if any(words in lower for words in _TLS):
        return make_tls_failure(reason, uri)
    if any(words in lower for words in _UNREACHABLE):
        return Failure(make_unreachable_error(reason, uri), passing=True, undone=True, reason=reason)
    lost = any(type(error).__name__ in ("OperationalError", "InterfaceError") for error in errors)
    return Failure(make_server_error(reason, uri), passing=lost or state.startswith(_TRANSIENT_STATES), reason=reason)


def _is_database_error(error: BaseException) -> bool:
    return type(error).__module__.partition(".")[0] in ("sqlalchemy", "sqlite3", "psycopg", "psycopg2", "pymysql")


def _make_schema_error(reason: str, uri: str) -> EndcapError:
    return UserError(
        f"the registry {uri} was written by another release of MLflow than this one: where by an older, back it up and "
        "run `mlflow db upgrade` with its address; where by a newer, use that release",
        code="registry.other-schema",
        registry=uri,
        reason=reason[:300],
    )


def _make_refused_error(reason: str, uri: str) -> EndcapError:
    return UserError(
        f"the data base of the registry {uri} does not let this user in ({reason}): correct user, password and name "
        "of the data base in the address, or have the right granted",
        code="registry.database-refused",
        registry=uri,
        reason=reason,
    )


def _make_unreadable_error(reason: str, uri: str) -> EndcapError:
    return IntegrityError(
        f"the registry {uri} is no data base that can be read ({reason}): correct the address, or restore the file",
        code="registry.damaged",
        registry=uri,
        reason=reason,
    )


def _make_full_error(reason: str, uri: str) -> EndcapError:
    return StorageError(
        f"the disk of the registry {uri} is full, or fails ({reason}): free space, then run again",
        code="registry.full",
        registry=uri,
        reason=reason,
    )


def _make_unwritable_error(reason: str, uri: str) -> EndcapError:
    return StorageError(
        f"the registry {uri} cannot be written ({reason}): grant write access to the file and its folder, or name "
        "another registry",
        code="registry.unwritable",
        registry=uri,
        reason=reason,
    )
