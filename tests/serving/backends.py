"""Small HTTP servers in the place of predictors: they say who answered, and what they were asked."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from endcap_serving.gateway.routes import Upstream


class Backend(ThreadingHTTPServer):
    """Answers every request with its own name, and the path, Host header and request id that it saw.

    What it does may be changed while it runs: `delay` in seconds, `status` and `headers` of its answers, `breaks`: it
    reads a request, and closes the connection without a word. `seen` has the headers of all requests.
    """

    daemon_threads = True

    def __init__(self, name: str, delay: float = 0.0, host: str = "127.0.0.1", port: int = 0) -> None:
        self.delay, self.status, self.breaks = delay, 200, False
        self.headers: Mapping[str, str] = {}
        self.seen: list[Mapping[str, str]] = []
        backend = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("content-length", 0)))
                backend.seen.append({key.lower(): value for key, value in self.headers.items()})
                time.sleep(backend.delay)
                if backend.breaks:
                    self.close_connection = True
                    return
                said = {"by": name, "path": self.path, "host": self.headers["host"], "id": self.headers["x-request-id"]}
                said["headers"] = backend.seen[-1]
                body = json.dumps(said).encode()
                self.send_response(backend.status)
                for key, value in {"content-length": str(len(body)), **backend.headers}.items():
                    self.send_header(key, value)
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST

            def log_message(self, *_: object) -> None:
                pass

        super().__init__((host, port), Handler)
        self.upstream = Upstream(name, self.server_port)
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def fail(self, *, delay: float = 0.0, status: int = 200, retry_after: str = "", breaks: bool = False) -> None:
        """Be so from now on; without a word: well again."""
        self.delay, self.status, self.breaks = delay, status, breaks
        self.headers = {"retry-after": retry_after} if retry_after else {}
        self.seen.clear()
