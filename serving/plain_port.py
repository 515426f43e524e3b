"""The plain port of a server that speaks TLS at another: it answers how the server is, or on the way to TLS all.

A kubelet's probe has no certificate to show, and Prometheus has none either.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Any

import uvicorn

from endcap_serving.http_errors import RefusedError, encode_error

Scope = MutableMapping[str, Any]
App = Callable[[Scope, Any, Any], Awaitable[None]]


class PlainPortServer(uvicorn.Server):
    """A server in the loop of another, whose signals are the other's."""

    def __init__(self, app: App, allowed: Callable[[str], bool] | None, protocol: Any) -> None:
        """allowed: the paths that GET is answered at, and nothing else; None: all is answered. protocol: uvicorn's."""

        async def some(scope: Scope, receive: Any, send: Any) -> None:
            if allowed is None or (scope["method"] in ("GET", "HEAD") and allowed(scope["path"])):
                await app(scope, receive, send)
                return
            headers = [(b"content-type", b"application/json"), (b"content-length", str(len(_TLS_ONLY)).encode())]
            await send({"type": "http.response.start", "status": 403, "headers": headers})
            await send({"type": "http.response.body", "body": _TLS_ONLY})

        quiet: dict[str, Any] = {"log_config": None, "access_log": False, "lifespan": "off", "proxy_headers": False}
        quiet |= {"timeout_graceful_shutdown": 30, "timeout_keep_alive": 75}
        super().__init__(uvicorn.Config(some, http=protocol, ws="none", server_header=False, **quiet))

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def run_on(self, listener: socket.socket) -> None:
        """Until `should_exit` is set."""
        await self.serve(sockets=[listener])


_TLS_ONLY = encode_error(
    RefusedError(403, "this port tells how the server is; ask for all else by TLS", code="serving.tls-only")
)
