"""Call KFP's API, and explain its refusals and silences."""

from __future__ import annotations

import contextlib
import io
import json
import ssl
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import kfp_server_api
import urllib3

from endcap.client_faults import explain_tls_failure, walk_causes
from endcap.errors import EndcapError, NotFoundError, TransientError, UserError
from endcap.runs import RunEvent, RunSilence
from endcap_pipelines.kfp_client import UnexpectedPageError

_Answer = TypeVar("_Answer")
Listen = Callable[[RunEvent], None]
PAUSES = (1.0, 2.0, 4.0, 8.0)
"""Seconds between attempts where KFP is busy or away."""
RENEW = "give a valid token (--kfp-token, or KFP_EXISTING_TOKEN)"
LOGIN_CODES = frozenset({"kfp.forbidden", "kfp.login-page", "cluster.login-failed", "cluster.no-login-plugin"})
"""Of errors that a login may cure."""


class NameTakenError(UserError):
    """KFP has an object of this name already."""


def call_kfp(what: str, call: Callable[..., _Answer], *arguments: Any, **named: Any) -> _Answer:
    """Call KFP's client, and keep it from printing. That concerns the whole process: see `ask_kfp` for threads.

    Parameters
    ----------
    what
        What the call does, for messages.
    call, arguments, named
        The client's method, and its arguments.

    Returns
    -------
    object
        The method's result.

    Raises
    ------
    UserError
        KFP refuses, or answers something unreadable.
    NameTakenError, NotFoundError
        As they say.
    TransientError
        KFP is busy or away.
    """
    with _quiet():
        return ask_kfp(what, call, *arguments, **named)


def ask_kfp(what: str, call: Callable[..., _Answer], *arguments: Any, **named: Any) -> _Answer:
    """Call KFP's client as `call_kfp` does, from any thread, where it prints nothing."""
    try:
        return call(*arguments, **named)
    except kfp_server_api.ApiException as error:
        raise _refusal(what, error) from None
    except UnexpectedPageError as page:
        raise _page(what, page) from None
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise _silence(what, error) from None
    except ValueError as error:  # of kfp's client, which has read the answer
        raise UserError(
            f"cannot {what}: KFP's client cannot read the answer: {error}",
            code="kfp.not-understood",
            doing=what,
            reason=str(error),
        ) from None


def call_kfp_with_retries(
    what: str,
    call: Callable[..., _Answer],
    *arguments: Any,
    listen: Listen,
    unless: Sequence[str] = (),
    pauses: Sequence[float] | None = None,
) -> _Answer:
    """Call KFP, and again for a while if it is busy or away. The call must be safe to repeat.

    Parameters
    ----------
    what, call, arguments
        As in `call_kfp`.
    listen
        Receives a `RunSilence` event before each further attempt.
    unless
        Codes of errors that are not tried again.
    pauses
        Seconds between attempts; None: `PAUSES`.

    Returns
    -------
    object
        The call's result.

    Raises
    ------
    EndcapError
        As in `call_kfp`.
    """
    for pause in PAUSES if pauses is None else pauses:
        try:
            return call_kfp(what, call, *arguments)
        except TransientError as error:
            if error.code in unless:
                raise
            listen(RunSilence(f"{error}; asking again in {pause:.0f} s"))
        time.sleep(pause)
    return call_kfp(what, call, *arguments)


def _refusal(what: str, error: kfp_server_api.ApiException) -> EndcapError:
    reason = _read_reason(error)
    fields = {"doing": what, "status": error.status, "answer": reason}
    if error.status == 401:
        remedy = RENEW
        if "User identity is empty" in reason:
            remedy += "; with several users, reach KFP by --kfp-host, because the API server's proxy drops tokens"
        return UserError(
            f"cannot {what}: KFP answered 401 ({reason}). To mend it: {remedy}", code="kfp.forbidden", **fields
        )
    if error.status == 403:
        remedy = f"name a namespace that you may work in by --kfp-user-namespace, or {RENEW}"
        if "services/proxy" in reason:  # the API server's words, before KFP
            remedy = "ask for that right in KFP's namespace, which a connection by kubeconfig needs, or use --kfp-host"
        return UserError(
            f"cannot {what}: KFP answered 403 ({reason}). To mend it: {remedy}",
            code="kfp.forbidden",
            **fields,
        )
    if error.status == 404:
        return NotFoundError(
            f"cannot {what}: KFP answered 404 ({reason}). Check --kfp-host, --kfp-namespace (where KFP is installed) "
            "and the name",
            code="kfp.not-found",
            **fields,
        )
    if error.status == 409:
        return NameTakenError(
            f"cannot {what}: KFP already has one of this name ({reason})", code="kfp.name-taken", **fields
        )
    if error.status in (0, None, 408, 429) or error.status >= 500:
        return TransientError(
            f"cannot {what}: KFP answered {error.status or 'nothing'} ({reason})", code="kfp.unavailable", **fields
        )
    return UserError(f"cannot {what}: KFP answered {error.status}: {reason}", code="kfp.refused", **fields)


def _page(what: str, page: UnexpectedPageError) -> EndcapError:
    titled = f" ({page.title})" if page.title else ""
    fields = {"doing": what, "status": page.status, "title": page.title}
    if page.login:
        return UserError(
            f"cannot {what}: a login page{titled} came instead of KFP's answer. {RENEW}, or give the cookies of a "
            "browser that is logged in (KFP_COOKIES)",
            code="kfp.login-page",
            **fields,
        )
    return UserError(
        f"cannot {what}: the server answers with a page{titled}, so it is not KFP's API. Correct --kfp-host "
        "(with Kubeflow: https://HOST/pipeline)",
        code="kfp.not-kfp",
        **fields,
    )


def _silence(what: str, error: Exception) -> EndcapError:
    """Explain why nothing came. An untrusted certificate lasts; everything else may pass."""
    cause = getattr(error, "reason", None) or error
    fields = {"doing": what, "cause": str(cause)}
    if (no_tls := explain_tls_failure(error)) is not None:
        if any(isinstance(below, ssl.SSLCertVerificationError) for below in walk_causes(error)):
            remedy = "name the authority's certificates by --kfp-ca (KFP_CA), or use the host name in KFP's certificate"
        else:
            remedy = "if KFP does not use TLS, begin the address with http://"
        return UserError(
            f"cannot {what}: no trusted connection to KFP ({no_tls}). To mend it: {remedy}",
            code="kfp.certificate",
            **fields,
        )
    return TransientError(
        f"cannot {what}: KFP does not answer ({cause}). Check --kfp-host, and whether KFP runs",
        code="kfp.unreachable",
        **fields,
    )


def _read_reason(error: kfp_server_api.ApiException) -> str:
    """Read the reason from KFP's error. A proxy before KFP answers with pages."""
    body = error.body.decode(errors="replace") if isinstance(error.body, bytes) else error.body or ""
    try:
        document = json.loads(body)
        message = document.get("message") or document.get("error_message") or ""
    except (ValueError, AttributeError):
        message = ""
    return str(message or error.reason or body).strip()[:1000]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep KFP's client from printing links and warnings of its own."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
