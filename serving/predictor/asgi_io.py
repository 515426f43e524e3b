"""Requests and replies of the predictor over ASGI: heads, bodies within bounds, and replies.

Bodies have a bound of size, because memory is finite, and a bound of time, because a client may stop sending.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from endcap_serving.http_errors import RefusedError, encode_error
from endcap_serving.names import REQUEST_ID, SCOPE_HEADER, SHOPPER_HEADER, SPLIT_HEADER, VARIANT_HEADER, VARIANTS
from endcap_serving.request_ids import read_request_id

MAX_BODY = 16 * 2**20
SMALL = 64 * 2**10
"""Bytes. Bodies up to this size do not count as large."""
MOST_HELD = 8 * MAX_BODY
"""Bytes of large bodies that are read at a time."""
BODY_PATIENCE = 10.0
"""Seconds that a body may take to arrive."""
_VARIANTS = {name.encode(): name for name in VARIANTS}
_random = random.Random()  # noqa: S311 (a guessed id is of no use)
_TRACE = ("traceparent", "tracestate")
_BINARY, _LENGTH, _TYPE = b"inference-header-content-length", b"content-length", b"content-type"
_ID, _VARIANT = REQUEST_ID.encode(), VARIANT_HEADER.encode()
_SCOPE, _ORIGIN = SCOPE_HEADER.encode(), b"origin"
_SHOPPER, _SPLIT = SHOPPER_HEADER.encode(), SPLIT_HEADER.encode()
_READ = frozenset(
    [_ID, _VARIANT, _BINARY, _LENGTH, _TYPE, _SCOPE, _ORIGIN, _SHOPPER, _SPLIT, *(name.encode() for name in _TRACE)]
)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class ClientDisconnectedError(Exception):
    """The client closed the connection, so nobody reads an answer."""


@dataclass(slots=True)
class RequestHead:
    """What a predictor reads of a request's headers.

    Parameters
    ----------
    id
        The request's id: the client's, or a new one.
    given_id
        The client's id; None if it gave none that can be used.
    variant
        The variant that the gateway asks for.
    length
        The length of the body in bytes; None if the head does not say.
    json_length
        For a V2 request with binary tensors, the length of the JSON, as the client wrote it.
    declares_json
        Whether such a request has the content type of JSON.
    trace
        The headers of W3C's trace context.
    scope
        The caller's scopes, as the gateway says.
    from_page
        Whether a web page sent the request.
    shopper
        The shopper, as the client says.
    split
        The shares of the moment, as the gateway says.
    """

    id: str
    given_id: str | None
    variant: str | None
    length: int | None
    json_length: str | None
    declares_json: bool
    trace: dict[str, str]
    scope: str | None
    from_page: bool
    shopper: str | None = None
    split: str = ""


@dataclass(slots=True)
class Reply:
    """An HTTP reply of the predictor.

    Parameters
    ----------
    status, body, headers
        The reply.
    surfaces
        The surface of each ranking in the reply, in order.
    bare
        Whether the headers are sent as they are, without a content type and a length.
    """

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    surfaces: Sequence[str | None] = ()
    bare: bool = False


def make_request_id() -> str:
    """Make the id of a request whose client gave none: a random UUID, without a system call for each."""
    return str(uuid.UUID(int=_random.getrandbits(128), version=4))


def read_head(scope: Scope) -> RequestHead:
    """Read the head of a request from ASGI's scope."""
    headers = {name: value for name, value in scope["headers"] if name in _READ}
    given_id = read_request_id(headers.get(_ID, b""))
    length = headers.get(_LENGTH, b"")
    json_length = headers.get(_BINARY)
    return RequestHead(
        id=given_id or make_request_id(),
        given_id=given_id,
        variant=_VARIANTS.get(headers.get(_VARIANT, b"")),
        length=int(length) if length.isdigit() else None,
        json_length=None if json_length is None else json_length.decode("latin-1"),
        declares_json=json_length is not None and _is_json(headers.get(_TYPE, b"")),
        trace={name: headers[name.encode()].decode("latin-1") for name in _TRACE if name.encode() in headers},
        scope=headers[_SCOPE].decode("latin-1") if _SCOPE in headers else None,
        from_page=_ORIGIN in headers,
        shopper=headers[_SHOPPER].decode("utf-8", "surrogateescape") if _SHOPPER in headers else None,
        split=headers.get(_SPLIT, b"").decode("latin-1"),
    )


def _is_json(content_type: bytes) -> bool:
    return content_type.partition(b";")[0].strip().lower() == b"application/json"


class BodyReader:
    """Reads bodies, and bounds the memory that all large ones take together."""

    def __init__(self) -> None:
        self._held = 0

    async def read(self, head: RequestHead, receive: Receive) -> bytes:
        """Read a whole body.

        Parameters
        ----------
        head
            The request's head.
        receive
            ASGI's function that gives the next message.

        Raises
        ------
        RefusedError
            The body is too large or too slow, or too many large ones come at once.
        ClientDisconnectedError
            The client has closed the connection.
        """
        if head.length is not None and head.length > MAX_BODY:
            raise _make_size_error(f"{head.length:,} bytes", found=head.length)
        reserved = MAX_BODY if head.length is None else head.length
        reserved = reserved if reserved > SMALL else 0
        if self._held + reserved > MOST_HELD:
            raise RefusedError(
                503,
                "too many large bodies are being read; send this one again in a second",
                code="predictor.bodies-too-many",
                headers={"retry-after": "1"},
            )
        self._held += reserved
        try:
            async with asyncio.timeout(BODY_PATIENCE):
                return await _read_pieces(receive)
        except TimeoutError:
            raise RefusedError(
                408,
                f"the body did not arrive within {BODY_PATIENCE:.0f} s; send it without a pause",
                code="predictor.body-late",
                headers={"connection": "close"},
                seconds=BODY_PATIENCE,
            ) from None
        finally:
            self._held -= reserved


async def _read_pieces(receive: Receive) -> bytes:
    """Read a body to its end. Raises RefusedError if it is too large."""
    message = await receive()
    content = _get_content(message)
    if not message.get("more_body", False):
        return content
    body = bytearray(content)
    while message.get("more_body", False):
        message = await receive()
        body += _get_content(message)
        if len(body) > MAX_BODY:
            raise _make_size_error(f"more than {MAX_BODY:,} bytes")
    return bytes(body)


def replay_body(body: bytes, receive: Receive) -> Receive:
    """Make the `receive` of an application whose body was read already: it gives the body, then the next messages."""
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Mapping[str, Any]:
        return waiting.pop() if waiting else await receive()

    return receive_again


def make_refusal_reply(refusal: RefusedError) -> Reply:
    """Make the reply to a request that is refused."""
    return Reply(refusal.status, encode_error(refusal), refusal.headers)


async def send_reply(send: Send, reply: Reply) -> None:
    """Send a reply over ASGI."""
    headers: Mapping[str, str] = reply.headers
    if not reply.bare:
        headers = {"content-type": "application/json", **headers}
    header_pairs = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    if not reply.bare:
        header_pairs.append((b"content-length", str(len(reply.body)).encode()))
    await send({"type": "http.response.start", "status": reply.status, "headers": header_pairs})
    await send({"type": "http.response.body", "body": reply.body})


def _get_content(message: Mapping[str, Any]) -> bytes:
    """Return the bytes of a message. Raises ClientDisconnectedError."""
    if message["type"] != "http.request":
        raise ClientDisconnectedError
    content: bytes = message.get("body", b"")
    return content


def _make_size_error(size: str, **fields: int) -> RefusedError:
    return RefusedError(
        413,
        f"the body: found {size}; allowed: at most {MAX_BODY:,} bytes; split the request",
        code="predictor.body-too-large",
        headers={"connection": "close"},
        most=MAX_BODY,
        **fields,
    )
