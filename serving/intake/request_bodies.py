"""The body of a request to the intake: read within bounds of size and memory, and parsed to records."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson

from endcap_serving.http_errors import RefusedError
from endcap_serving.intake.records import NAMES, describe_value

MOST_BODY = 4 << 20
"""Bytes of one body."""
MOST_RECORDS = 10_000
"""Records of one request."""
MOST_HELD = 128 << 20
"""Bytes of the bodies of all requests that the intake holds in memory at a time."""
MOST_DROPPED = 64 << 20
"""Bytes of a refused body that the intake reads and drops, so that the client can read why it was refused."""
CLOSE = {"connection": "close"}

Receive = Callable[[], Awaitable[dict[str, Any]]]


class BodyMemory:
    """The memory that the bodies of all requests take together.

    Attributes
    ----------
    held
        Bytes of bodies that are being read or worked on. A request adds to it as its body comes, and takes its own
        bytes off when it is answered.
    """

    def __init__(self) -> None:
        self.held = 0


class RequestBody:
    """The body of one request, read in pieces.

    Parameters
    ----------
    memory
        The count of bytes that all requests share.
    headers
        The request's headers, with names in lower case.
    receive
        ASGI's function that gives the next message.

    Attributes
    ----------
    content
        What was read so far.
    """

    def __init__(self, memory: BodyMemory, headers: Mapping[bytes, bytes], receive: Receive) -> None:
        self._memory, self._receive = memory, receive
        self._has_more = True
        # Uvicorn has already refused a length that is not a number.
        self._length = int(headers.get(b"content-length", b"0"))
        # The client of such a request sends nothing of the body before it is told to.
        self._is_awaited = headers.get(b"expect", b"").lower() == b"100-continue"
        self.content = bytearray()

    async def read(self) -> None:
        """Read the whole body into `content`.

        Raises
        ------
        RefusedError
            The body is larger than `MOST_BODY` (413), all bodies together are larger than `MOST_HELD` (503), or the
            client closed the connection (400).
        """
        if self._length > MOST_BODY:
            raise self._make_size_error()
        self._is_awaited = False
        while self._has_more:
            piece = await self._receive_piece()
            self.content += piece
            self._memory.held += len(piece)
            if len(self.content) > MOST_BODY:
                raise self._make_size_error()
            if self._memory.held > MOST_HELD:
                raise RefusedError(
                    503,
                    "too many large requests are being read; send this one again later",
                    code="intake.bodies-too-many",
                    headers={**CLOSE, "retry-after": "1"},
                )

    async def drop(self, seconds: float) -> bool:
        """Read the rest of the body and forget it, up to `MOST_DROPPED` bytes.

        Parameters
        ----------
        seconds
            How long the rest may take.

        Returns
        -------
        bool
            True if nothing of the body is still on its way, so that the connection can serve on.
        """
        if self._is_awaited:
            return False
        dropped = 0
        with contextlib.suppress(TimeoutError, RefusedError):
            async with asyncio.timeout(seconds):
                while self._has_more and dropped <= MOST_DROPPED:
                    dropped += len(await self._receive_piece())
        return not self._has_more

    async def _receive_piece(self) -> bytes:
        """Wait for the next piece of the body."""
        message = await self._receive()
        if message["type"] == "http.disconnect":
            text = "the connection ended before the body did; send the request again"
            raise RefusedError(400, text, code="intake.body-cut-off", headers=CLOSE)
        self._has_more = message.get("more_body", False)
        piece: bytes = message.get("body", b"")
        return piece

    @staticmethod
    def _make_size_error() -> RefusedError:
        """Make the answer to a body that is too large."""
        most = MOST_BODY >> 20
        text = f"the body: found more than {most} MiB; allowed: up to {most} MiB in one request; split it"
        return RefusedError(413, text, code="intake.body-too-large", headers=CLOSE, most=MOST_BODY)


def parse_records(kind: int, body: bytes) -> tuple[list[Any], bool]:
    """Parse a body to records that nobody has checked yet.

    Parameters
    ----------
    kind
        Position of the records' kind in `records.NAMES`.
    body
        JSON: one record, a list of records, or an object with the list under the kind's name.

    Returns
    -------
    tuple[list, bool]
        The records, and whether the body is one record alone.

    Raises
    ------
    RefusedError
        The body is not such JSON (400), or holds more than `MOST_RECORDS` records (413).
    """
    name = NAMES[kind]
    allowed = f'allowed: one object, a list of objects, or {{"{name}": […]}}'
    if not body.strip():
        raise RefusedError(400, f"the body is empty; {allowed}", code="intake.body-empty")
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        text = f"the body is not JSON: {error}; {allowed}"
        raise RefusedError(400, text, code="intake.body-not-json", reason=str(error)) from None
    if type(document) is dict and name in document:
        if len(document) > 1:
            text = f"the body: found other keys beside {name!r}; {allowed}"
            raise RefusedError(400, text, code="intake.body-not-records", at=name)
        document = document[name]
        if type(document) is not list:
            raise _make_shape_error(name, f"{name}: found {describe_value(document)}; allowed: a list", document)
    if type(document) is dict:
        return [document], True
    if type(document) is not list:
        raise _make_shape_error("", f"the body: found {describe_value(document)}; {allowed}", document)
    if len(document) > MOST_RECORDS:
        text = f"the body: found {len(document):,} {name}; allowed: up to {MOST_RECORDS:,} in one request; split it"
        raise RefusedError(413, text, code="intake.records-too-many", found=len(document), most=MOST_RECORDS)
    return document, False


def _make_shape_error(at: str, text: str, value: Any) -> RefusedError:
    """Make the answer to JSON that holds no records."""
    return RefusedError(400, text, code="intake.body-not-records", at=at, found=describe_value(value))
