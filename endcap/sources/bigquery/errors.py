"""What BigQuery refuses, as errors with a code. No error holds what a client shows to the warehouse."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NoReturn

from endcap.errors import DataError, EndcapError, TransientError, UserError

INSTALL = "pip install 'endcap[bigquery]'"
ROLES = {
    "bigquery.jobs.create": "roles/bigquery.jobUser",
    "bigquery.readsessions.create": "roles/bigquery.readSessionUser",
    "bigquery.readsessions.getData": "roles/bigquery.readSessionUser",
    "bigquery.tables.create": "roles/bigquery.dataEditor",
    "bigquery.tables.delete": "roles/bigquery.dataEditor",
    "bigquery.tables.get": "roles/bigquery.dataViewer",
    "bigquery.tables.getData": "roles/bigquery.dataViewer",
    "bigquery.tables.list": "roles/bigquery.dataViewer",
    "bigquery.datasets.get": "roles/bigquery.dataViewer",
    "serviceusage.services.use": "roles/serviceusage.serviceUsageConsumer",
}
"""The smallest predefined role that has a permission (https://cloud.google.com/bigquery/docs/access-control)."""
QUOTA = frozenset({"rateLimitExceeded", "quotaExceeded", "jobRateLimitExceeded", "userRateLimitExceeded"})
"""Reasons of REST answers that say that too much is asked at once."""
PASSING = frozenset({"backendError", "internalError", "jobBackendError", "jobInternalError", "tableUnavailable"})
_PERMISSION = re.compile(r"\b(?:bigquery|serviceusage)\.[a-z]+\.[A-Za-z]+\b")
_SERVER = "the Google BigQuery service"


def is_quota(error: BaseException) -> bool:
    """Return whether an error says that too much is asked at once."""
    from google.api_core import exceptions

    if isinstance(error, exceptions.TooManyRequests | exceptions.ResourceExhausted):
        return True
    return isinstance(error, exceptions.GoogleAPICallError) and bool(QUOTA & set(_list_reasons(error)))


def is_passing(error: BaseException) -> bool:
    """Return whether the same call may succeed a little later."""
    import requests
    from google.api_core import exceptions
    from google.auth import exceptions as login

    passing = (
        exceptions.ServerError,  # 5xx, and their like of gRPC
        exceptions.Aborted,
        exceptions.RetryError,
        requests.exceptions.ConnectionError,
        requests.exceptions.Timeout,
        requests.exceptions.ChunkedEncodingError,
        ConnectionError,
    )
    if isinstance(error, exceptions.MethodNotImplemented):
        return False
    if isinstance(error, login.TransportError):
        return True
    if isinstance(error, exceptions.GoogleAPICallError) and PASSING & set(_list_reasons(error)):
        return True
    return is_quota(error) or isinstance(error, passing)


def get_pause(error: BaseException) -> float | None:
    """Return the seconds that a server asks to wait (`RetryInfo`, or the header Retry-After); None if it says none."""
    for detail in getattr(error, "details", None) or ():
        delay = getattr(detail, "retry_delay", None)
        if delay is not None:
            return float(delay.seconds) + float(delay.nanos) / 1e9
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    after = str(headers.get("Retry-After", ""))
    return float(after) if after.isdigit() else None


def convert_error(error: BaseException, name: str) -> EndcapError:
    """Return the error to raise for an error of Google's clients. name: the table, view or query that was read."""
    from google.api_core import exceptions
    from google.auth import exceptions as login

    reason = getattr(error, "message", None) or str(error)
    if isinstance(error, login.GoogleAuthError | exceptions.Unauthenticated | exceptions.Unauthorized):
        return make_login_error(reason)
    if is_quota(error):
        return TransientError(
            f"{name}: BigQuery's quota is used up ({_first_line(reason)}); run again later, or ask for a larger quota",
            code="bigquery.quota",
            path=name,
            reason=reason,
        )
    if is_passing(error):
        return TransientError(
            f"{name}: {_SERVER} does not answer ({_first_line(reason)}); run again later",
            code="bigquery.unavailable",
            path=name,
            reason=reason,
        )
    if isinstance(error, exceptions.Forbidden):
        return _make_permission_error(name, reason)
    if isinstance(error, exceptions.NotFound):
        return DataError(
            f"{name}: BigQuery has no such table, dataset or project ({_first_line(reason)}); allowed: "
            "project.dataset.table of a table that exists in the location of the source",
            code="bigquery.table-missing",
            path=name,
            reason=reason,
        )
    if "bytesBilledLimitExceeded" in _list_reasons(error) or "limit for bytes billed" in reason:
        return DataError(
            f"{name}: the query would read more bytes than max_bytes allows ({_first_line(reason)}); narrow the query "
            "or `window`, or raise max_bytes",
            code="bigquery.too-many-bytes",
            path=name,
            reason=reason,
        )
    return DataError(
        f"{name}: BigQuery refuses the query: {reason}; correct the source's table, query, location or project",
        code="bigquery.refused",
        path=name,
        reason=reason,
    )


def make_login_error(reason: str) -> UserError:
    """Return the error that no credentials are there, or that Google does not take them."""
    return UserError(
        f"Google Cloud takes no credentials of this process ({_first_line(reason)}); run `gcloud auth "
        "application-default login`, or let GOOGLE_APPLICATION_CREDENTIALS name a file of credentials, or give the pod "
        "a workload identity",
        code="bigquery.no-credentials",
        reason=reason,
    )


def refuse_missing_package(package: str) -> NoReturn:
    """Raise the error that Google's clients are not installed."""
    raise UserError(
        f"the source reads BigQuery, and the package {package} is not installed; run: {INSTALL}",
        code="bigquery.package-missing",
        package=package,
        install=INSTALL,
    ) from None


def refuse_bytes(name: str, bytes_: int, limit: int) -> NoReturn:
    """Raise the error that more bytes would be read than the source allows."""
    raise DataError(
        f"{name}: {bytes_:,} bytes would be read; allowed are {limit:,} (max_bytes); shorten `window`, name fewer "
        "columns, or raise max_bytes",
        code="bigquery.too-many-bytes",
        path=name,
        bytes=bytes_,
        limit=limit,
    )


def _make_permission_error(name: str, reason: str) -> DataError:
    match = _PERMISSION.search(reason)
    permission = match[0] if match else None
    role = ROLES.get(permission or "")
    lacks = f"the permission {permission}" if permission else "a permission"
    grant = f"grant the role {role}, which has it" if role else "grant a role that has it"
    return DataError(
        f"{name}: this process's account lacks {lacks} ({_first_line(reason)}); {grant}",
        code="bigquery.permission-missing",
        path=name,
        permission=permission,
        role=role,
        reason=reason,
    )


def _list_reasons(error: Any) -> Iterator[str]:
    for entry in getattr(error, "errors", None) or ():
        if isinstance(entry, dict) and "reason" in entry:
            yield str(entry["reason"])


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0][:300]
