"""Uvicorn's protocol with bounds on what it does not bound: heads of requests, and connections."""

from __future__ import annotations

import asyncio
from typing import Any

from endcap_serving.http_errors import RefusedError, error_body
from endcap_serving.tls import KnownClients

MOST_HEAD = 32 << 10
HEAD_SECONDS = 10.0
LINGER = 5.0
"""Seconds in which what still comes on a refused connection is dropped: closed at once, it would reset the answer."""
SPARE = 16
"""Connections past the limit that are asked what they want: how the intake is, they are told."""
PROBES = (b"/healthz", b"/readyz")


class LimitedProtocol(KnownClients):
    """A head of at most 32 KiB within 10 s; connections past `most` are refused, but for probes."""

    most = 1000
    """Of all connections of the process; set on a class of one's own."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._head = 0
        self._timer: asyncio.TimerHandle | None = None
        self._refused: asyncio.TimerHandle | None = None
        self._over = len(self.connections) > self.most
        if len(self.connections) > self.most + SPARE:
            self._too_many()
        else:
            self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_came()
        if self._refused is not None:
            self._refused.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing() or self._refused is not None:
            return
        super().data_received(data)
        if self._timer is not None:
            self._head += len(data)
            if self._head > MOST_HEAD:
                self._too_large()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._wait_for_head()

    def on_headers_complete(self) -> None:
        self._head_came()
        if self._refused is not None:
            return
        if sum(len(name) + len(value) for name, value in self.headers) + len(self.url) > MOST_HEAD:
            self._too_large()
        elif self._over and self.url not in PROBES:
            self._too_many()
        else:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if self._refused is None and self.cycle is not None:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self._refused is None and self.cycle is not None:
            super().on_message_complete()

    def _wait_for_head(self) -> None:
        if self._timer is None:
            self._head = 0
            self._timer = self.loop.call_later(HEAD_SECONDS, self._too_slow)

    def _head_came(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        self._timer = None
        if self._head:
            text = f"the request's head has not come within {HEAD_SECONDS:.0f} s"
            self._refuse(RefusedError(408, text, code="intake.head-late", seconds=HEAD_SECONDS))
        else:
            self.transport.close()

    def _too_large(self) -> None:
        text = f"the request's head is larger than {MOST_HEAD >> 10} KiB"
        self._refuse(RefusedError(431, text, code="intake.head-too-large", most=MOST_HEAD))

    def _too_many(self) -> None:
        text = f"{self.most:,} connections are open; try again later"
        later = {"retry-after": "1"}
        self._refuse(RefusedError(503, text, code="intake.connections-too-many", headers=later, most=self.most))

    def _refuse(self, error: RefusedError) -> None:
        self._head_came()
        if self.transport.is_closing() or self._refused is not None:
            return
        body = error_body(error)
        headers = {"content-type": "application/json", "content-length": len(body), **error.headers}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = f"HTTP/1.1 {error.status} Refused\r\n{lines}connection: close\r\n\r\n"
        self.transport.write(head.encode() + body)
        if len(self.connections) > self.most + SPARE:
            self.transport.close()
            return
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._refused = self.loop.call_later(LINGER, self.transport.close)
