"""uvicorn's HTTP protocol with two bounds that uvicorn lacks: on a request's head, and on who may connect."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from endcap_serving.http_errors import RefusedError, encode_error

MAX_HEAD = 64 * 2**10
"""Bytes of a request line and its headers together."""
HEAD_PATIENCE = 30.0
"""Seconds that a head may take to arrive, and that a new connection may stay silent."""


@dataclass(frozen=True)
class HeadBounds:
    """Bounds on a request's head, and the answers to requests that exceed them.

    Parameters
    ----------
    size
        Bytes of the request line and the headers together.
    seconds
        Seconds from the connection, or from the first byte of a later request, to the end of the head.
    too_large
        The answer to a larger head.
    late
        The answer to a head that has begun and does not end in time. None: the connection is closed without an answer.
    linger
        Seconds for which the server reads and drops what a refused connection still sends. Without this, a client that
        still sends meets a reset instead of the answer. 0: the server closes the connection at once.
    """

    size: int
    seconds: float
    too_large: RefusedError
    late: RefusedError | None = None
    linger: float = 0.0


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol that bounds the head of each request and, if clients are named, refuses all others.

    uvicorn makes the instances, so a server sets the class attributes on a subclass.

    Attributes
    ----------
    bounds
        Bounds on the head.
    clients
        DNS names. The certificate of a client must have one of them. Empty: every client is let in.
    """

    bounds = HeadBounds(
        MAX_HEAD,
        HEAD_PATIENCE,
        RefusedError(
            431,
            f"the request's head: found more than {MAX_HEAD:,} bytes; allowed: at most {MAX_HEAD:,}",
            code="predictor.head-too-large",
            most=MAX_HEAD,
        ),
    )
    clients: frozenset[str] = frozenset()

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._head = self._chunk = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._linger_timer: asyncio.TimerHandle | None = None
        self._is_refused = False
        names = _read_dns_names(transport.get_extra_info("peercert") or {}) if self.clients else []
        if self.clients and self.clients.isdisjoint(names):
            self.refuse(_make_client_error(names, self.clients), linger=False)
        else:
            self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        if self._linger_timer is not None:
            self._linger_timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return
        self._chunk = len(data)
        if self._head_timer is not None:
            self._head += self._chunk
        super().data_received(data)
        if self._head_timer is not None and self._head > self.bounds.size:
            self.refuse(self.bounds.too_large)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._head_timer is None:
            # Nobody knows yet how much of this chunk belongs to the head, only that something came.
            self._head = 1
            self._wait_for_head()

    def on_headers_complete(self) -> None:
        self._stop_waiting()
        if self._is_refused:
            return
        if (refusal := self.check_head()) is not None:
            self.refuse(refusal)
        else:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if not self._is_refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if not self._is_refused:
            super().on_message_complete()

    def check_head(self) -> RefusedError | None:
        """Return why a request with this complete head is refused; None if it is not."""
        size = self.bounds.size
        # Counting takes time, and only a head that came in large chunks can be too large.
        if (self._head > size or self._chunk > size) and self._measure_head() > size:
            return self.bounds.too_large
        return None

    def refuse(self, refusal: RefusedError, *, linger: bool = True) -> None:
        """Answer with an error, read no further request, and close the connection.

        Parameters
        ----------
        refusal
            The answer.
        linger
            Whether to wait `HeadBounds.linger` seconds before the connection is closed.
        """
        self._stop_waiting()
        if self._is_refused or self.transport.is_closing():
            return
        self._is_refused = True
        body = encode_error(refusal)
        headers = {"content-type": "application/json", "content-length": len(body), **refusal.headers}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self.transport.write(STATUS_LINE[refusal.status] + f"{lines}connection: close\r\n\r\n".encode() + body)
        if not linger or not self.bounds.linger:
            self.transport.close()
            return
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._linger_timer = self.loop.call_later(self.bounds.linger, self.transport.close)

    def _measure_head(self) -> int:
        """Count the bytes of the head's names, values and path."""
        return sum(len(name) + len(value) for name, value in self.headers) + len(self.url)

    def _wait_for_head(self) -> None:
        """Start the timer within which the head must end."""
        self._head_timer = self.loop.call_later(self.bounds.seconds, self._end_wait)

    def _stop_waiting(self) -> None:
        """Stop the head's timer."""
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _end_wait(self) -> None:
        """Refuse a head that is late, or close a connection that sent nothing."""
        self._head_timer = None
        if self._head and self.bounds.late is not None:
            self.refuse(self.bounds.late)
        else:
            self.transport.close()


def _make_client_error(names: list[str], clients: frozenset[str]) -> RefusedError:
    """Make the answer to a client whose certificate has none of the allowed names."""
    return RefusedError(
        403,
        f"the client's certificate is for {', '.join(names) or 'no DNS name'}; allowed: {', '.join(sorted(clients))}",
        code="serving.client-unknown",
        found=names,
        allowed=sorted(clients),
    )


def _read_dns_names(certificate: Mapping[str, Any]) -> list[str]:
    """Read the DNS names of a certificate that ssl has already checked."""
    return [name for kind, name in certificate.get("subjectAltName", ()) if kind == "DNS"]
