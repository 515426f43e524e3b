"""Requests that are answered with an error: one shape of the answer, whoever gives it."""

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
        Of the HTTP answer.
    headers
        Further headers of the answer.
    more
        Further keys of the answer's body.
    """

    def __init__(
        self,
        status: int,
        message: str,
        /,
        *,
        code: str,
        headers: Mapping[str, str] | None = None,
        more: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> None:
        super().__init__(message, code=code, **fields)
        self.status = status
        self.headers = dict(headers or {})
        self.more = dict(more or {})


def refuse_with(
    error: EndcapError, status: int, *, text: str = "", headers: Mapping[str, str] | None = None
) -> RefusedError:
    """Answer a request with an error from elsewhere, code and fields as they are. text: in place of the error's own."""
    refusal = RefusedError(status, text or str(error), code=error.code, headers=headers)
    refusal.fields = error.fields
    return refusal


def describe_error(error: EndcapError) -> dict[str, Any]:
    """The answer's body: the text under `error`, where KServe's protocols have it, `code`, and `fields` if any."""
    fields = {"fields": error.fields} if error.fields else {}
    more = error.more if isinstance(error, RefusedError) else {}
    return {"error": str(error), "code": error.code, **fields, **more}


def encode_error(error: EndcapError) -> bytes:
    """The same as JSON; a field that JSON cannot hold stands there as text."""
    return orjson.dumps(describe_error(error), default=str)
