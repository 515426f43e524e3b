"""What an S3 server, or the way to it, says: whether it may pass, and the same in words."""

from __future__ import annotations

from minio.error import InvalidResponseError, S3Error, ServerError
from urllib3 import exceptions as http

from endcap.client_faults import explain_tls_failure
from endcap.errors import EndcapError, NotFoundError, StorageError, TransientError, UserError
from endcap.store.s3_settings import CAS, ENDPOINTS, REGIONS, SECRET, S3Settings


class StorePageError(http.HTTPError):
    """A web page, such as a login page, answered in place of an S3 server."""

    def __init__(self, status: int, title: str) -> None:
        self.status, self.title = status, title
        super().__init__(f"{status}: {title}")


FOREIGN = (S3Error, ServerError, InvalidResponseError, http.HTTPError)
"""What the client raises. `OSError` is not among it: that is this machine's disk."""
ABSENT = {"NoSuchKey", "NoSuchObject"}
CONDITION = {"PreconditionFailed"}
NOT_CAPABLE = {"NotImplemented", "MethodNotAllowed"}
_TRANSIENT = {
    "InternalError",
    "ServiceUnavailable",
    "SlowDown",
    "SlowDownRead",
    "SlowDownWrite",
    "TooManyRequests",
    "RequestLimitExceeded",
    "RequestTimeout",
    "OperationAborted",
    "ConditionalRequestConflict",
    "BadDigest",
    "XAmzContentSHA256Mismatch",
    "IncompleteBody",
    "NoSuchUpload",  # the end of an upload was sent twice: the first had reached the server after all
}
_CREDENTIALS = {
    "InvalidAccessKeyId": "does not know the access key",
    "XAdminUserNotFound": "does not know the access key",
    "SignatureDoesNotMatch": "says that the secret key is another one",
    "ExpiredToken": "says that the session token has expired",
    "TokenRefreshRequired": "says that the session token has expired",
    "InvalidToken": "does not accept the session token",
    "InvalidTokenId": "does not accept the session token",
    "AccountProblem": "refuses the account",
}
_REGION = {"AuthorizationHeaderMalformed", "PermanentRedirect", "Redirect", "IllegalLocationConstraintException"}
_FULL = {"QuotaExceeded", "XMinioStorageFull", "InsufficientStorage", "XMinioAdminBucketQuotaExceeded"}


def get_error_code(error: BaseException) -> str:
    """Return the S3 code of an error; empty if it has none."""
    if isinstance(error, S3Error):
        return str(error.code)
    return "PreconditionFailed" if _get_status(error) == 412 else ""


def is_transient(error: BaseException) -> bool:
    """Tell whether the same request may succeed later."""
    if isinstance(error, http.HTTPError):
        reason = _get_reason(error)
        if isinstance(reason, http.SSLError):
            return explain_tls_failure(reason) is None
        return not isinstance(reason, http.NameResolutionError | http.LocationParseError | StorePageError)
    status = _get_status(error)
    return get_error_code(error) in _TRANSIENT or status == 429 or (status >= 500 and status not in (501, 507))


def summarise_error(error: BaseException) -> str:
    """Say in a few words why a request failed, for a line about waiting."""
    return (
        str(_get_reason(error))
        if isinstance(error, http.HTTPError)
        else get_error_code(error) or f"HTTP {_get_status(error)}"
    )


def translate_error(error: BaseException, doing: str, address: str, settings: S3Settings) -> EndcapError:
    """Translate an error of the S3 client into an error of Endcap.

    Parameters
    ----------
    error
        The client's error.
    doing
        The verb for the message, such as ``read``.
    address
        The address of the object or bucket.
    settings
        The server's settings.

    Returns
    -------
    EndcapError
        The error to raise.
    """
    if isinstance(error, http.HTTPError):
        return _translate_connection_error(error, doing, address, settings)
    code, status = get_error_code(error), _get_status(error)
    keys = f"AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (in a cluster: the Secret {SECRET})"
    bucket = "/".join(address.split("/")[:3])
    answer, where = code or f"HTTP {status}", {"address": address, "endpoint": settings.endpoint, "doing": doing}
    if code in ABSENT:
        return NotFoundError(f"nothing is stored under {address}", code="store.not-found", address=address)
    if code == "NoSuchBucket":
        return UserError(
            f"{settings.endpoint} has no bucket {bucket}; create it, or correct the address of the store",
            code="store.bucket-not-found",
            bucket=bucket,
            endpoint=settings.endpoint,
        )
    if code in _CREDENTIALS:
        return UserError(
            f"{settings.endpoint} {_CREDENTIALS[code]} ({code}, key {settings.access_key}); correct {keys}",
            code="store.credentials-refused",
            answer=answer,
            key=settings.access_key,
            **where,
        )
    if code == "RequestTimeTooSkewed":
        return StorageError(
            f"{settings.endpoint} refuses: this machine's clock differs too much from its own; set it",
            code="store.clock-differs",
            **where,
        )
    if code in _REGION:
        return UserError(
            f"{settings.endpoint} says that {bucket} lies in another region than {settings.region} "
            f"({getattr(error, 'message', None) or code}); set {REGIONS[0]}",
            code="store.wrong-region",
            bucket=bucket,
            found=settings.region,
            answer=answer,
            variable=REGIONS[0],
            **where,
        )
    if code in _FULL or status == 507:
        return StorageError(
            f"cannot {doing} {address}: {settings.endpoint} is full or the quota is reached ({code})",
            code="store.full",
            answer=answer,
            **where,
        )
    if code in ("AccessDenied", "AllAccessDisabled") or status in (401, 403):
        return StorageError(
            f"may not {doing} {address}: {settings.endpoint} denies it to the key {settings.access_key}. Grant it "
            "s3:ListBucket of the bucket, s3:GetObject, s3:PutObject and s3:DeleteObject of its objects; "
            f"or correct {keys}",
            code="store.denied",
            answer=answer,
            key=settings.access_key,
            **where,
        )
    if is_transient(error):
        return TransientError(
            f"cannot {doing} {address}: {settings.endpoint} fails again and again ({answer}); look at it, then run "
            "again",
            code="store.server-fails",
            answer=answer,
            **where,
        )
    return StorageError(
        f"cannot {doing} {address}: {settings.endpoint} answers {answer}: {error}",
        code="store.server-refuses",
        answer=answer,
        reason=str(error),
        **where,
    )


def _translate_connection_error(error: http.HTTPError, doing: str, address: str, settings: S3Settings) -> EndcapError:
    reason = _get_reason(error)
    where = {"address": address, "endpoint": settings.endpoint, "doing": doing}
    if isinstance(reason, http.NameResolutionError | http.LocationParseError):
        return UserError(
            f"cannot {doing} {address}: no host is known as {settings.host}; correct {ENDPOINTS[0]}",
            code="store.host-unknown",
            host=settings.host,
            variable=ENDPOINTS[0],
            **where,
        )
    if isinstance(reason, StorePageError):
        return UserError(
            f"cannot {doing} {address}: at {settings.endpoint} a page for people answers ({reason}), as a login does, "
            f"and no S3 server; correct {ENDPOINTS[0]}, or name an address behind the login",
            code="store.login-page",
            title=reason.title,
            status=reason.status,
            variable=ENDPOINTS[0],
            **where,
        )
    if isinstance(reason, http.SSLError) and explain_tls_failure(reason) is not None:
        return UserError(
            f"cannot {doing} {address}: no TLS with {settings.endpoint} ({reason}); name its certificate authority by "
            f"{CAS[0]}, or give {ENDPOINTS[0]} with http:// where the server speaks no TLS",
            code="store.no-tls",
            reason=str(reason),
            variables=[CAS[0], ENDPOINTS[0]],
            **where,
        )
    return TransientError(
        f"cannot {doing} {address}: {settings.endpoint} cannot be reached ({reason}); see whether it runs and whether "
        f"{ENDPOINTS[0]} is right, then run again",
        code="store.unreachable",
        reason=str(reason),
        variable=ENDPOINTS[0],
        **where,
    )


def _get_reason(error: http.HTTPError) -> BaseException:
    return error.reason if isinstance(error, http.MaxRetryError) and error.reason else error


def _get_status(error: BaseException) -> int:
    if isinstance(error, ServerError):
        return int(error.status_code)
    if isinstance(error, S3Error):
        return int(error.response.status)
    return int(getattr(error, "_code", 0) or 0)
