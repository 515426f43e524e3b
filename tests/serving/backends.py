"""Small HTTP servers in the place of predictors: they say who answered, and what they were asked."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from endcap_serving.gateway import Upstream


class Backend(ThreadingHTTPServer):
    """Answers every request with its own name, and the path, Host header and request id that it saw."""

    daemon_threads = True

    def __init__(self, name: str, delay: float = 0.0, host: str = "127.0.0.1", port: int = 0) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("content-length", 0)))
                time.sleep(delay)
                said = {"by": name, "path": self.path, "host": self.headers["host"], "id": self.headers["x-request-id"]}
                body = json.dumps(said).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST

            def log_message(self, *_: object) -> None:
                pass

        super().__init__((host, port), Handler)
        self.upstream = Upstream(name, self.server_port)
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
