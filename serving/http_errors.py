"""Requests that are answered with an error. Predictor, intake and gateway give all such answers one shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from endcap.errors import EndcapError


class RefusedError(EndcapError):
    """A request that is answered with this error and goes no further.

    Parameters
    ----------
    status
        The answer's HTTP status.
    message
        The text for a person: what was wrong, what is allowed, what to do next.
    code
        The stable name of the error, such as ``predictor.body-empty``.
    headers
        Further headers of the answer.
    extra
        Further keys of the answer's body.
    **fields
        Values that the text speaks of, for a program.
    """

    def __init__(
        self,
        status: int,
        message: str,
        /,
        *,
        code: str,
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> None:
        super().__init__(message, code=code, **fields)
        self.status = status
        self.headers = dict(headers or {})
        self.extra = dict(extra or {})


def refuse_with(
    error: EndcapError, status: int, *, text: str = "", headers: Mapping[str, str] | None = None
) -> RefusedError:
    """Make an answer from another error. The code and the fields stay.

    Parameters
    ----------
    error
        The error that the request met.
    status
        The answer's HTTP status.
    text
        The answer's text. Empty: the error's own.
    headers
        Further headers of the answer.

    Returns
    -------
    RefusedError
        The error to raise.
    """
    refusal = RefusedError(status, text or str(error), code=error.code, headers=headers)
    refusal.fields = error.fields
    return refusal


def describe_error(error: EndcapError) -> dict[str, Any]:
    """Describe an error as an answer's body.

    Returns
    -------
    dict
        The text under `error`, as KServe's protocols have it, then `code`, `fields` if there are any, and the extra
        keys of a `RefusedError`.
    """
    fields = {"fields": error.fields} if error.fields else {}
    extra = error.extra if isinstance(error, RefusedError) else {}
    return {"error": str(error), "code": error.code, **fields, **extra}


def encode_error(error: EndcapError) -> bytes:
    """Encode an error as an answer's JSON body. A field that JSON cannot hold becomes text."""
    return orjson.dumps(describe_error(error), default=str)
