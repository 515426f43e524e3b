"""A proxy in front of an S3 or MLflow server that does what networks, logins and tired servers do."""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal

ERROR = "<Error><Code>{code}</Code><Message>said by the proxy</Message><Resource>/</Resource></Error>"


@dataclass
class Fault:
    """What happens to the next `times` requests that match: ``<method> <path and query>``."""

    request: str
    how: Literal["answer", "drop", "lose", "cut", "call"]
    """Answer with an error; drop the connection before the server hears of it, or after (its answer is lost); cut the
    answer's body in half; call something first."""
    times: int = 1
    status: int = 503
    code: str = "SlowDown"
    body: str | None = None
    """In place of S3's error of that code."""
    headers: dict[str, str] = field(default_factory=lambda: {"content-type": "application/xml"})
    call: Callable[[], None] = lambda: None


@dataclass
class Proxy:
    endpoint: str = ""
    faults: list[Fault] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    """Requests, in the order in which they came; with the range that was asked for, if any."""
    rewrite: Callable[[str, bytes], bytes] = lambda request, body: body
    withheld: frozenset[str] = frozenset()
    """Headers that the server is not sent, in small letters."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def met(self, request: str) -> Fault | None:
        with self._lock:
            self.seen.append(request)
            for fault in self.faults:
                if fault.times and re.match(fault.request, request):
                    fault.times -= 1
                    return fault
        return None

    @property
    def done(self) -> bool:
        return not any(fault.times for fault in self.faults)


@contextlib.contextmanager
def proxy(target: str, certificate: tuple[Path, Path] | None = None) -> Iterator[Proxy]:
    """certificate: its file and that of its key, of a proxy that speaks TLS."""
    state = Proxy()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(target.removeprefix("http://"), state))
    server.daemon_threads = True
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    state.endpoint = f"{'https' if certificate else 'http'}://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()


def _handler(target: str, state: Proxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            request = f"{self.command} {self.path} {self.headers.get('range', '')}".rstrip()
            fault = state.met(request)
            how = fault.how if fault else ""
            if fault and how == "call":
                fault.call()
            if how == "drop":
                return self.hang_up()
            if fault and how == "answer":
                body = ERROR.format(code=fault.code) if fault.body is None else fault.body
                return self.answer(fault.status, fault.headers, body)
            connection = http.client.HTTPConnection(target)
            # With the host that was signed.
            sent = {name: value for name, value in self.headers.items() if name.lower() not in state.withheld}
            connection.request(self.command, self.path, body, sent)
            answer = connection.getresponse()
            content = state.rewrite(request, answer.read())
            connection.close()
            if how == "lose":
                return self.hang_up()
            return self.answer(answer.status, dict(answer.headers), content, half=how == "cut")

        def answer(self, status: int, headers: dict[str, str], body: bytes | str, half: bool = False) -> None:
            content = body.encode() if isinstance(body, str) else body
            self.send_response_only(status)
            for name, value in headers.items():
                if name.lower() not in ("transfer-encoding", "content-length", "connection"):
                    self.send_header(name, value)
            length = {name.lower(): value for name, value in headers.items()}.get("content-length", "0")
            self.send_header("Content-Length", length if self.command == "HEAD" else str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content[: len(content) // 2] if half else content)
            if half:
                self.hang_up()

        def hang_up(self) -> None:
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)

        def log_message(self, *words: object) -> None:
            pass

        do_GET = do_PUT = do_HEAD = do_POST = do_PATCH = do_DELETE = pass_on

    return Handler
