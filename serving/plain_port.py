"""The plain port of a server that speaks TLS at another port.

It answers probes and metrics, because a kubelet and Prometheus have no certificate to show. While a service moves to
TLS, it may answer everything.
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
    """A second server in the event loop of another one, which handles the signals of both.

    Parameters
    ----------
    app
        The ASGI application that both servers serve.
    allowed
        Whether GET and HEAD are answered at a path. All other requests get a 403. None: the server answers everything.
    protocol
        The class of uvicorn's HTTP protocol.
    """

    def __init__(self, app: App, allowed: Callable[[str], bool] | None, protocol: Any) -> None:
        async def answer_allowed(scope: Scope, receive: Any, send: Any) -> None:
            if allowed is None or (scope["method"] in ("GET", "HEAD") and allowed(scope["path"])):
                await app(scope, receive, send)
                return
            headers = [(b"content-type", b"application/json"), (b"content-length", str(len(_TLS_ONLY)).encode())]
            await send({"type": "http.response.start", "status": 403, "headers": headers})
            await send({"type": "http.response.body", "body": _TLS_ONLY})

        options: dict[str, Any] = {"log_config": None, "access_log": False, "lifespan": "off", "proxy_headers": False}
        options |= {"timeout_graceful_shutdown": 30, "timeout_keep_alive": 75}
        super().__init__(uvicorn.Config(answer_allowed, http=protocol, ws="none", server_header=False, **options))

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the other server."""
        yield

    async def run_on(self, listener: socket.socket) -> None:
        """Serve on a bound socket until `should_exit` is set."""
        await self.serve(sockets=[listener])


_TLS_ONLY = encode_error(
    RefusedError(
        403, "this port answers only health and metrics; send all other requests by TLS", code="serving.tls-only"
    )
)
