"""A proxy in front of an API server that fails when it is told to: `flaky_api`.

Plain HTTP on 127.0.0.1; it speaks to the API server with the client certificate of the kubeconfig, and hands on what a
client sends itself (a token, impersonation).
"""

from __future__ import annotations

import http.client
import json
import re
import socket
import ssl
import threading
import urllib.parse
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import yaml

_HOP = {"connection", "transfer-encoding", "content-length", "host", "keep-alive"}
_REASONS = {429: "TooManyRequests", 500: "InternalError", 503: "ServiceUnavailable", 504: "Timeout"}


@dataclass
class _Fault:
    status: int
    left: int
    methods: Collection[str]
    path: re.Pattern[str]
    retry_after: int | None


@dataclass
class Faults:
    """What shall fail, and what was asked."""

    requests: list[tuple[str, str, int]] = field(default_factory=list)
    """Method, path with query, status: one a request, watches at their beginning."""
    _faults: list[_Fault] = field(default_factory=list)
    _watches: set[socket.socket] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(
        self,
        status: int,
        times: int,
        methods: Collection[str] = (),
        path: str = "",
        retry_after: int | None = None,
    ) -> None:
        """The next `times` requests (of these methods, on a path in which this expression is found) get `status`
        instead of reaching the API server."""
        with self._lock:
            self._faults.append(_Fault(status, times, methods, re.compile(path), retry_after))

    def left(self) -> int:
        """How many requests are still to fail."""
        with self._lock:
            return sum(fault.left for fault in self._faults)

    def end(self) -> None:
        """Have no further request fail."""
        with self._lock:
            self._faults.clear()

    def drop_watches(self) -> int:
        """Break every open watch off in the middle; how many there were."""
        with self._lock:
            dropped = len(self._watches)
            for watch in self._watches:
                with suppress(OSError):
                    watch.shutdown(socket.SHUT_RDWR)
            self._watches.clear()
        return dropped

    def watches(self) -> int:
        """How many watches are open."""
        with self._lock:
            return len(self._watches)

    def _take(self, method: str, path: str) -> _Fault | None:
        with self._lock:
            for fault in self._faults:
                if fault.left and (not fault.methods or method in fault.methods) and fault.path.search(path):
                    fault.left -= 1
                    return fault
        return None


@contextmanager
def flaky_api(kubeconfig: Path, written: Path) -> Iterator[tuple[Path, Faults]]:
    """A proxy in front of the API server of `kubeconfig`; `written` is made to name the proxy."""
    config = yaml.safe_load(kubeconfig.read_text())
    cluster = config["clusters"][0]["cluster"]
    user = config["users"][0]["user"]
    server = urllib.parse.urlsplit(cluster["server"])
    context = ssl.create_default_context(cafile=cluster["certificate-authority"])
    context.load_cert_chain(user["client-certificate"], user["client-key"])
    faults = Faults()

    class Handler(_Handler):
        def upstream(self) -> http.client.HTTPSConnection:
            return http.client.HTTPSConnection(server.hostname or "", server.port, context=context)

    Handler.faults = faults
    proxy = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    proxy.daemon_threads = True
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    config["clusters"][0]["cluster"] = {"server": f"http://127.0.0.1:{proxy.server_port}"}
    config["users"][0]["user"] = {}
    written.write_text(yaml.safe_dump(config))
    try:
        yield written, faults
    finally:
        faults.drop_watches()
        proxy.shutdown()
        proxy.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    faults: Faults

    def upstream(self) -> http.client.HTTPSConnection:
        raise NotImplementedError

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)) or None
        if fault := self.faults._take(self.command, self.path):
            self.faults.requests.append((self.command, self.path, fault.status))
            self._fail(fault.status, fault.retry_after)
            return
        connection = self.upstream()
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP}
        try:
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
        except OSError:
            # The API server is away: the client shall see what it would see without a proxy, a broken connection.
            self.close_connection = True
            return
        self.faults.requests.append((self.command, self.path, answer.status))
        if "watch" in urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query):
            self._stream(answer)
        else:
            self._send(answer.status, answer.getheaders(), answer.read())
        connection.close()

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _handle

    def _send(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers:
            if name.lower() not in _HOP:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, answer: http.client.HTTPResponse) -> None:
        with self.faults._lock:
            self.faults._watches.add(self.connection)
        self.close_connection = True
        try:
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.getheader("Content-Type", "application/json"))
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            while data := answer.read1(1 << 16):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            self.wfile.write(b"0\r\n\r\n")
        except (OSError, http.client.HTTPException):
            return
        finally:
            with self.faults._lock:
                self.faults._watches.discard(self.connection)

    def _fail(self, status: int, retry_after: int | None) -> None:
        said = {
            "kind": "Status",
            "apiVersion": "v1",
            "status": "Failure",
            "message": "told to fail by the test",
            "reason": _REASONS.get(status, ""),
            "code": status,
        }
        headers = [("Content-Type", "application/json")]
        if retry_after is not None:
            headers.append(("Retry-After", str(retry_after)))
        self._send(status, headers, json.dumps(said).encode())

    def log_message(self, *_: object) -> None:
        """Nothing: `Faults.requests` keeps what was asked."""
