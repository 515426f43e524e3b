"""Uvicorn's protocol with bounds on what it does not bound: heads of requests, and connections."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST_HEAD = 32 << 10
HEAD_SECONDS = 10.0
SPARE = 16
"""Connections past the limit that are asked what they want: how the intake is, they are told."""
PROBES = (b"/healthz", b"/readyz")


class LimitedProtocol(HttpToolsProtocol):
    """A head of at most 32 KiB within 10 s; connections past `most` are refused, but for probes."""

    most = 1000
    """Of all connections of the process; set on a class of one's own."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._head = 0
        self._timer: asyncio.TimerHandle | None = None
        self._over = len(self.connections) > self.most
        if len(self.connections) > self.most + SPARE:
            self._too_many()
        else:
            self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_came()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
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
        if sum(len(name) + len(value) for name, value in self.headers) + len(self.url) > MOST_HEAD:
            self._too_large()
        elif self._over and self.url not in PROBES:
            self._too_many()
        else:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if self.cycle is not None:  # None: its head was refused
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self.cycle is not None:
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
            self._refuse(408, f"the request's head has not come within {HEAD_SECONDS:.0f} s")
        else:
            self.transport.close()

    def _too_large(self) -> None:
        self._refuse(431, f"the request's head is larger than {MOST_HEAD >> 10} KiB")

    def _too_many(self) -> None:
        self._refuse(503, f"{self.most:,} connections are open; try again later", "retry-after: 1\r\n")

    def _refuse(self, status: int, why: str, header: str = "") -> None:
        self._head_came()
        if self.transport.is_closing():
            return
        body = orjson.dumps({"error": why})
        head = (
            f"HTTP/1.1 {status} Refused\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
            f"{header}connection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()
