"""What an MLflow server says, or what stands before it: a login, a proxy, a certificate that nobody vouches for."""

from __future__ import annotations

import http.client
import re
import traceback
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from endcap.client_faults import explain_tls_failure, find_page_title, walk_causes
from endcap.errors import EndcapError, TransientError, UserError
from endcap.registry.failures import Failure, make_refusal_error, make_server_error

LOGIN = ["MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"]
CERTIFICATES = ["MLFLOW_TRACKING_SERVER_CERT_PATH", "REQUESTS_CA_BUNDLE"]
HOST_LIMIT = 10.0
"""Seconds that an unknown host's name is worth waiting: a Service that was just made has one soon, a slip never."""
_INVALID_HOST = "Invalid Host header"
_BY = f"{LOGIN[0]} and {LOGIN[1]}, or {LOGIN[2]}"
_NO_API = (400, 404, 405, 410, 421, 426)
"""What other servers answer to MLflow's calls: not there, not so, or not without TLS."""
_REPEATED = re.compile(r"too many (\d+) error responses")
_TUNNEL = re.compile(r"Tunnel connection failed: (4\d\d)")


def classify_answer(error: Exception, uri: str) -> Failure | None:
    """Find out what an answer means that MLflow's client does not accept; None if there was no answer."""
    answer = _find_response(error)
    if answer is None:
        return None
    status, body = answer.status_code, " ".join(answer.text.split())[:300]
    title = find_page_title(answer.text, answer.headers.get("content-type", ""))
    where = {"registry": uri, "status": status}
    # MLflow says by a code what it refuses; what stands before it knows none.
    own = _parse_json(answer).get("error_code", "ENDPOINT_NOT_FOUND") != "ENDPOINT_NOT_FOUND"
    if _INVALID_HOST in body:
        host = urlsplit(uri).netloc.rpartition("@")[2]
        error = UserError(
            f"the registry {uri} does not answer to the name {host} (Invalid Host header): start its server with "
            f"--allowed-hosts {host}, or set MLFLOW_SERVER_ALLOWED_HOSTS there; or address it by a name that it allows",
            code="registry.host-refused",
            host=host,
            variable="MLFLOW_SERVER_ALLOWED_HOSTS",
            **where,
        )
        return Failure(error)
    if status == 401:
        error = UserError(
            f"the registry {uri} does not accept who asks (401): set {_BY}, and see whether they are right",
            code="registry.unauthorized",
            variables=LOGIN,
            reason=body,
            **where,
        )
        return Failure(error)
    if status == 407:
        return Failure(_make_proxy_error(uri, status))
    if 300 <= status < 400 or (title is not None and status < 300):
        shown = f" ({title})" if title else ""
        via = f" after a redirect to {answer.url.partition('?')[0]}" if answer.history else ""
        error = UserError(
            f"at {uri} a page for people answers{via}{shown}, as a login does, and no registry: set {_BY} if the "
            "login takes them, or name an address behind the login",
            code="registry.login-page",
            title=title or "",
            variables=LOGIN,
            **where,
        )
        return Failure(error)
    if status == 403:
        error = UserError(
            f"the registry {uri} denies this to who asks (403: {title or body}): have the right granted, or name "
            f"another account by {_BY}",
            code="registry.forbidden",
            variables=LOGIN,
            reason=title or body,
            **where,
        )
        return Failure(error)
    if not own and (status < 300 or status in _NO_API):
        error = UserError(
            f"what answers at {uri} has no such call of MLflow ({status}: {title or body}): correct the address "
            "(https:// or http://, port, path), or upgrade the server to MLflow 2.3 or later",
            code="registry.no-api",
            reason=title or body,
            **where,
        )
        return Failure(error)
    if status >= 500:
        return _classify_status(status, uri, f"{status}: {title or error}")
    return Failure(make_refusal_error(error, uri))


def classify_transport_error(chain: Sequence[BaseException], uri: str) -> Failure | None:
    """Find out why no answer came over HTTP; None if the error is of another kind."""
    import requests
    from urllib3 import exceptions

    kinds = (requests.RequestException, exceptions.HTTPError)
    if not any(isinstance(cause, kinds) for cause in chain):
        # requests raises OSError where a file of certificates is not there.
        if missing := next((str(cause) for cause in chain if "TLS CA certificate bundle" in str(cause)), None):
            return _make_certificates_failure(missing, uri)
        return None
    text = " ".join(str(cause) for cause in chain)
    if "TLS CA certificate bundle" in text:
        return _make_certificates_failure(text[:300], uri)
    if tunnel := _TUNNEL.search(text):
        return Failure(_make_proxy_error(uri, int(tunnel[1])))
    if (reason := explain_tls_failure(chain[0])) is not None:
        return make_tls_failure(reason, uri)
    # A connection that ends without an answer is of this class too, and may pass.
    strange = [
        cause for cause in chain if isinstance(cause, http.client.BadStatusLine) and not isinstance(cause, OSError)
    ]
    if strange:
        error = UserError(
            f"what answers at {uri} speaks no HTTP: correct the port, or give https:// where the server speaks TLS",
            code="registry.no-api",
            registry=uri,
            status=0,
            reason=str(strange[0])[:300],
        )
        return Failure(error)
    if repeated := _REPEATED.search(text):
        return _classify_status(int(repeated[1]), uri, f"it answers {repeated[1]}")
    if any(isinstance(cause, exceptions.NameResolutionError) for cause in chain):
        return make_unknown_host_failure(uri)
    never_sent = any(
        isinstance(cause, exceptions.NewConnectionError | exceptions.ConnectTimeoutError) for cause in chain
    )
    return Failure(
        make_unreachable_error(reason := _find_reason(chain), uri), passing=True, undone=never_sent, reason=reason
    )


def make_tls_failure(reason: str, uri: str) -> Failure:
    """Make the failure of a connection that cannot be trusted."""
    error = UserError(
        f"no TLS with the registry {uri} ({reason}): name the file of its certificate authority by {CERTIFICATES[0]} "
        "(of PostgreSQL: by ?sslrootcert=FILE), correct the host's name, or go without where the server speaks no TLS",
        code="registry.no-tls",
        registry=uri,
        reason=reason,
        variables=CERTIFICATES,
    )
    return Failure(error)


def make_unknown_host_failure(uri: str) -> Failure:
    """Make the failure of an address whose host does not exist."""
    host = urlsplit(uri).hostname or ""
    error = TransientError(
        f"no host is known as {host}: correct the registry's address {uri}, or try again where the name is new",
        code="registry.host-unknown",
        registry=uri,
        host=host,
    )
    return Failure(error, passing=True, undone=True, reason=f"no host is known as {host}", limit=HOST_LIMIT)


def make_unreachable_error(reason: str, uri: str) -> EndcapError:
    """Make the error for an address where nothing answers."""
    return TransientError(
        f"the registry {uri} does not answer ({reason}): see whether it runs and whether its address is right, then "
        "run again",
        code="registry.unreachable",
        registry=uri,
        reason=reason,
    )


def _classify_status(status: int, uri: str, words: str) -> Failure:
    # 501 and 505 say that the server will never do it. One that is busy (429, 503) has done nothing.
    passing, undone = status not in (501, 505), status in (429, 503)
    return Failure(make_server_error(words, uri), passing=passing, undone=undone, reason=f"it answers {status}")


def _make_proxy_error(uri: str, status: int) -> EndcapError:
    return UserError(
        f"the proxy on the way to the registry {uri} refuses ({status}): add the registry's host to NO_PROXY, or "
        "correct HTTPS_PROXY and its login",
        code="registry.proxy-refuses",
        registry=uri,
        status=status,
        variables=["NO_PROXY", "HTTPS_PROXY"],
    )


def _make_certificates_failure(reason: str, uri: str) -> Failure:
    error = UserError(
        f"the file of certificates for the registry {uri} cannot be read ({reason}): correct "
        f"{CERTIFICATES[0]} or {CERTIFICATES[1]}",
        code="registry.certificates-not-found",
        registry=uri,
        reason=reason,
        variables=CERTIFICATES,
    )
    return Failure(error)


def _find_response(error: Exception) -> Any:
    """The HTTP answer that an error is about, or None. MLflow's errors hold none; the frames that raised them do."""
    import requests

    for cause in walk_causes(error):
        if isinstance(getattr(cause, "response", None), requests.Response):
            return cause.response  # type: ignore[attr-defined]
        for frame, _ in traceback.walk_tb(cause.__traceback__):
            for value in frame.f_locals.values():
                if isinstance(value, requests.Response):
                    return value
    return None


def _parse_json(answer: Any) -> dict[str, Any]:
    try:
        document = answer.json()
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _find_reason(chain: Sequence[BaseException]) -> str:
    """The innermost reason that says anything, in a few words."""
    system = [cause.strerror for cause in chain if isinstance(cause, OSError) and cause.strerror]
    late = [cause for cause in chain if isinstance(cause, TimeoutError) or "Timeout" in type(cause).__name__]
    if system:
        return str(system[-1]).lower()
    return "no answer in time" if late else str(chain[-1])[:200]
