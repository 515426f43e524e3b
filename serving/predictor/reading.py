"""A request's head and body, within bounds: of size, as memory is finite, and of time, as callers may stall."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

from endcap_serving.http_errors import RefusedError
from endcap_serving.names import REQUEST_ID, SCOPE_HEADER, VARIANT_HEADER, VARIANTS
from endcap_serving.request_ids import read_request_id

MAX_BODY = 16 * 2**20
SMALL = 64 * 2**10
"""Bodies up to this size are not counted."""
MOST_HELD = 8 * MAX_BODY
"""Bytes of larger bodies that are being read at a time."""
BODY_PATIENCE = 10.0
"""Seconds that a body may take to arrive."""
_VARIANTS = {name.encode(): name for name in VARIANTS}
_random = random.Random()  # noqa: S311 (nobody gains by guessing it)
_TRACE = ("traceparent", "tracestate")
_BINARY, _LENGTH = b"inference-header-content-length", b"content-length"
_ID, _VARIANT = REQUEST_ID.encode(), VARIANT_HEADER.encode()
_SCOPE, _ORIGIN = SCOPE_HEADER.encode(), b"origin"
_WANTED = frozenset([_ID, _VARIANT, _BINARY, _LENGTH, _SCOPE, _ORIGIN, *(name.encode() for name in _TRACE)])

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]


class GoneError(Exception):
    """Whoever asked has gone: there is nobody to answer."""


@dataclass(slots=True)
class Head:
    """What of a request's headers counts. id: the caller's, or a new one; of_page: a browser's page has sent it."""

    id: str
    given_id: str | None
    variant: str | None
    length: int | None
    binary: bool
    trace: dict[str, str]
    scope: str | None
    of_page: bool


def new_id() -> str:
    """A request's id, where the caller gave none: a random UUID, without asking the kernel for each."""
    return str(uuid.UUID(int=_random.getrandbits(128), version=4))


def read_head(scope: Scope) -> Head:
    found = {name: value for name, value in scope["headers"] if name in _WANTED}
    known = read_request_id(found.get(_ID, b""))
    length = found.get(_LENGTH, b"")
    return Head(
        id=known or new_id(),
        given_id=known,
        variant=_VARIANTS.get(found.get(_VARIANT, b"")),
        length=int(length) if length.isdigit() else None,
        binary=_BINARY in found,
        trace={name: found[name.encode()].decode("latin-1") for name in _TRACE if name.encode() in found},
        scope=found[_SCOPE].decode("latin-1") if _SCOPE in found else None,
        of_page=_ORIGIN in found,
    )


class Bodies:
    """Reads bodies, and holds no more of large ones at a time than memory can bear."""

    def __init__(self) -> None:
        self._held = 0

    async def read(self, head: Head, receive: Receive) -> bytes:
        """The whole body. Raises RefusedError where it is too large or slow, GoneError where its sender has gone."""
        if head.length is not None and head.length > MAX_BODY:
            raise _too_large(f"{head.length:,} bytes", found=head.length)
        expected = MAX_BODY if head.length is None else head.length
        expected = expected if expected > SMALL else 0
        if self._held + expected > MOST_HELD:
            raise RefusedError(
                503,
                "too many large bodies at once; try again in a second",
                code="predictor.bodies-too-many",
                headers={"retry-after": "1"},
            )
        self._held += expected
        try:
            async with asyncio.timeout(BODY_PATIENCE):
                return await _read(receive)
        except TimeoutError:
            raise RefusedError(
                408,
                f"the body did not arrive within {BODY_PATIENCE:.0f} s; send it without a pause",
                code="predictor.body-late",
                headers={"connection": "close"},
                seconds=BODY_PATIENCE,
            ) from None
        finally:
            self._held -= expected


async def _read(receive: Receive) -> bytes:
    message = await receive()
    first = _content(message)
    if not message.get("more_body", False):
        return first
    body = bytearray(first)
    while message.get("more_body", False):
        message = await receive()
        body += _content(message)
        if len(body) > MAX_BODY:
            raise _too_large(f"more than {MAX_BODY:,} bytes")
    return bytes(body)


def replayed(body: bytes, receive: Receive) -> Receive:
    """What an application receives whose body was read already."""
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Mapping[str, Any]:
        return waiting.pop() if waiting else await receive()

    return again


def _content(message: Mapping[str, Any]) -> bytes:
    if message["type"] != "http.request":
        raise GoneError
    content: bytes = message.get("body", b"")
    return content


def _too_large(words: str, **fields: int) -> RefusedError:
    return RefusedError(
        413,
        f"the body: found {words}; allowed: at most {MAX_BODY:,}",
        code="predictor.body-too-large",
        headers={"connection": "close"},
        most=MAX_BODY,
        **fields,
    )
