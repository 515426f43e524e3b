"""uvicorn's HTTP protocol, with a bound on a request's head: it keeps whatever comes, for as long as it comes."""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from endcap.errors import EndcapError
from endcap_serving.http_errors import error_body
from endcap_serving.tls import KnownClients

MAX_HEAD = 64 * 2**10
"""Bytes of a request line and its headers."""
HEAD_PATIENCE = 30.0
"""Seconds that a head may take to arrive, and a new connection to say anything."""
TOLD = error_body(
    EndcapError(
        f"the request's head: found more than {MAX_HEAD:,} bytes; allowed: at most so many",
        code="predictor.head-too-large",
        most=MAX_HEAD,
    )
)


class BoundedHeads(KnownClients):
    """Answers 431 to a head that is too large, and closes connections whose head does not come."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._head = 0
        self._heading = True
        self._patience = self.loop.call_later(HEAD_PATIENCE, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        self._patience.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._heading:
            self._head += len(data)
        super().data_received(data)
        if self._heading and self._head > MAX_HEAD and not self.transport.is_closing():
            head = [STATUS_LINE[431], b"content-type: application/json\r\nconnection: close\r\n"]
            self.transport.write(b"".join([*head, b"content-length: %d\r\n\r\n" % len(TOLD), TOLD]))
            self.transport.close()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._heading = True
        self._patience.cancel()
        self._patience = self.loop.call_later(HEAD_PATIENCE, self.transport.close)

    def on_headers_complete(self) -> None:
        self._patience.cancel()
        self._heading, self._head = False, 0
        super().on_headers_complete()
