"""The pages of a process that loops: whether it still does, for a kubelet, and what it counts, for Prometheus."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest


def serve_probes(
    listener: socket.socket, is_well: Callable[[], bool], name: str, registry: CollectorRegistry = REGISTRY
) -> ThreadingHTTPServer:
    """Serve `/healthz` and `/metrics` in a thread of their own.

    Parameters
    ----------
    listener
        The socket that listens. The server closes it.
    is_well
        Whether the process does what it should: else `/healthz` answers 503.
    name
        The thread's name.
    registry
        What `/metrics` shows.

    Returns
    -------
    http.server.ThreadingHTTPServer
        The server, whose `server_port` is known. `shutdown` and `server_close` end it.
    """

    class ProbeHandler(BaseHTTPRequestHandler):
        timeout = 10.0

        def do_GET(self) -> None:
            if self.path == "/metrics":
                self._send(200, CONTENT_TYPE_LATEST, generate_latest(registry))
            elif self.path == "/healthz":
                well = is_well()
                self._send(200 if well else 503, "text/plain", b"ok\n" if well else b"stuck\n")
            else:
                self._send(404, "text/plain", b"allowed: /healthz, /metrics\n")

        def _send(self, status: int, content: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("content-type", content)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Write nothing: a line for each probe would hide all others."""

    address = listener.getsockname()
    server = ThreadingHTTPServer(address, ProbeHandler, bind_and_activate=False)
    server.socket.close()
    server.socket, server.server_address, server.server_port = listener, address, address[1]
    threading.Thread(target=server.serve_forever, args=(0.05,), name=name, daemon=True).start()
    return server
