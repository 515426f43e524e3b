"""Hostile requests through the gateway: none makes a server fail, grow, or say what the OpenAPI document does not.

Schemathesis makes some out of the document, that keep it or break it in every place; thousands more are these, bent.
`make chaos` sends more, for longer, and of other kinds.
"""

from __future__ import annotations

import functools
import http.client
import json
import os
import random
import re
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import pytest
from hypothesis import HealthCheck, given, seed, settings

from endcap.store import open_store
from endcap_serving.local.serve import serving
from endcap_serving.openapi import build_document
from tests.chaos.bodies import bent
from tests.serving.conftest import Shop, children
from tests.serving.test_supervisor import desire

if TYPE_CHECKING:
    from schemathesis import Case, GenerationMode

MADE, BENT = 200, 3_000
"""Requests made by schemathesis, which takes its time, and how many others are made of them."""
GROWTH = 60 * 2**20
"""Bytes: caches and the allocator's spare room fill up once; a leak of all these requests would be more."""
NAME = "hostile"
OWN_HEADERS = ("x-endcap-shopper", "x-request-id")
OF_HTTP = {405, 415}
"""What a method or an encoding that nobody takes is answered with, whatever the path."""
DOCUMENT = build_document()
CODE = re.compile(DOCUMENT["components"]["schemas"]["Error"]["properties"]["code"]["pattern"])
OPERATIONS = [
    (path, method.upper())
    for path, operations in DOCUMENT["paths"].items()
    for method in operations
    if method == "post"
]


@functools.cache
def operations() -> Any:
    """The document's. Schemathesis is imported here: that takes seconds, and every worker collects this file."""
    import schemathesis

    return schemathesis.openapi.from_dict(DOCUMENT)


@dataclass
class Gateway:
    """A running gateway, and the processes behind it by their id."""

    host: str
    port: int
    processes: dict[int, str]

    def __post_init__(self) -> None:
        self._connection = http.client.HTTPConnection(self.host, self.port, timeout=20)

    def ask(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes, dict[str, str]]:
        try:
            self._connection.request(method, path, body, {"content-type": "application/json", **headers})
            answer = self._connection.getresponse()
            return answer.status, answer.read(), {name.lower(): value for name, value in answer.getheaders()}
        except (http.client.HTTPException, OSError):
            self._connection.close()  # it takes no further request; the next one opens it anew
            raise

    def memory(self) -> int:
        """Bytes that all processes hold."""
        return sum(1024 * _field(pid, "VmRSS:") for pid in self.processes)


def _field(pid: int, name: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


@pytest.fixture(scope="module")
def gateway(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    desire(shop, "1", name=NAME)
    with serving(open_store(shop.store.root), NAME, listener=lambda event: None) as address:
        parts = urlsplit(address)
        assert parts.hostname
        yield Gateway(parts.hostname, parts.port or 80, children(os.getpid()))


def answered(gateway: Gateway, method: str, path: str, body: bytes, headers: dict[str, str]) -> int:
    """The status; where it is an error's, the answer is as the document has it: words, a code, fields if any."""
    status, content, told = gateway.ask(method, path, body, headers)
    assert status < 500, (status, content[:500], path, body[:500])
    if status >= 400:
        assert told["content-type"].startswith("application/json"), (status, content[:200])
        error = json.loads(content)
        assert error["error"], (status, content[:200])
        assert CODE.fullmatch(error["code"]), (status, content[:200])
        assert isinstance(error.get("fields", {}), dict)
    return status


Request = tuple[str, bytes, dict[str, str]]


def generated(path: str, method: str, mode: GenerationMode, count: int) -> list[Request]:
    """Path, body and headers of about `count` requests to an operation, always the same ones."""
    made: list[Request] = []

    @seed(1)
    @settings(max_examples=count, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(case=operations()[path][method].as_strategy(generation_mode=mode))
    def note(case: Case) -> None:
        # Most go to who is there: a name that nobody has is answered by the gateway alone.
        named = str((case.path_parameters or {}).get("recommender")) if len(made) % 8 == 0 else NAME
        try:
            body = json.dumps(case.body).encode()
        except (TypeError, ValueError):
            body = repr(case.body).encode("utf-8", "replace")
        headers = {name: ascii(value)[1:-1] for name, value in (case.headers or {}).items() if name in OWN_HEADERS}
        made.append((path.replace("{recommender}", quote(named, safe="")), body, headers))

    note()
    return made


@pytest.mark.slow
def test_generated_requests_break_nothing_and_leave_nothing(gateway: Gateway) -> None:
    from schemathesis import GenerationMode

    made = []
    for path, method in OPERATIONS:
        documented = {int(status) for status in DOCUMENT["paths"][path][method.lower()]["responses"]} | OF_HTTP
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            for request in generated(path, method, mode, MADE // (2 * len(OPERATIONS))):
                assert answered(gateway, method, *request) in documented, request
                made.append((documented, method, *request))
    assert len(made) > MADE / 2
    rng, before = random.Random(1), 0
    for number in range(BENT):
        documented, method, path, body, headers = rng.choice(made)
        assert answered(gateway, method, path, bent(body, rng), headers) in documented
        before = before or (gateway.memory() if number > BENT // 3 else 0)
    assert gateway.memory() - before < GROWTH


RANK = f"/{NAME}/v1/models/{NAME}:predict"
INFER = f"/{NAME}/v2/models/{NAME}/infer"
HEAD = f"POST {RANK} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
DEEP = b'{"instances":' + b"[" * 50_000 + b"]" * 50_000 + b"}"
HAND_MADE = {
    "nested deeply": DEEP,
    "nested deeply in an instance": b'{"instances":[{"filter":' + b'{"a":' * 5000 + b"1" + b"}" * 5000 + b"}]}",
    "huge whole number": b'{"instances":[{"items":[],"k":' + b"9" * 4000 + b"}]}",
    "huge exponent": b'{"instances":[{"items":[],"k":1e400}]}',
    "no number": b'{"instances":[{"items":[],"k":NaN}]}',
    "UTF-16": '{"instances":[{"items":[]}]}'.encode("utf-16"),
    "broken UTF-8": b'{"instances":[{"items":["\xff\xfe"]}]}',
    "a lone surrogate": b'{"instances":[{"items":["\\ud800"]}]}',
    "a null character": b'{"instances":[{"items":["a\\u0000b"]}]}',
    "a long id": b'{"instances":[{"items":["' + b"x" * 100_000 + b'"]}]}',
    "many instances": b'{"instances":[' + b",".join([b'{"items":[]}'] * 5000) + b"]}",
    "many candidates": b'{"instances":[{"items":[],"candidates":[' + b",".join([b'"x"'] * 200_000) + b"]}]}",
    "a key again and again": b'{"instances":[{' + b",".join([b'"k":1'] * 50_000) + b"}]}",
    "compressed by its word alone": b"\x1f\x8b\x08\x00not gzip",
    "empty": b"",
    "only space": b" " * 10_000,
}


@pytest.mark.parametrize("body", HAND_MADE.values(), ids=HAND_MADE.keys())
@pytest.mark.parametrize("path", [RANK, INFER, "/v1/events"])
def test_hand_made_bodies_are_refused_or_answered(gateway: Gateway, path: str, body: bytes) -> None:
    answered(gateway, "POST", path, body, {"content-type": "application/json"})
    ranked = gateway.ask("POST", RANK, b'{"instances":[{"items":[],"k":1}]}', {})
    assert ranked[0] == 200


def test_a_flood_of_headers_is_refused(gateway: Gateway) -> None:
    many = {f"x-flood-{number}": "y" * 100 for number in range(90)}
    assert answered(gateway, "POST", RANK, b'{"instances":[{"items":[],"k":1}]}', many) in (200, 431)
    with socket.create_connection((gateway.host, gateway.port), timeout=20) as connection:
        connection.sendall(f"{HEAD}".encode())
        connection.sendall(b"".join(b"x-flood-%d: %s\r\n" % (number, b"y" * 1000) for number in range(200)) + b"\r\n")
        assert int(connection.recv(4096).split()[1]) == 431


def test_a_body_larger_than_allowed_is_refused_before_it_is_read(gateway: Gateway) -> None:
    with socket.create_connection((gateway.host, gateway.port), timeout=20) as connection:
        connection.sendall(f"{HEAD}content-length: {1 << 40}\r\n\r\n".encode())
        connection.sendall(b"x" * 1024)
        connection.settimeout(20)
        sent = 1024
        try:
            while sent < 64 << 20:
                sent += connection.send(b"x" * 65_536)
        except OSError:
            pass
        assert sent < 64 << 20, "somebody took it all"


def test_slow_bodies_keep_nobody_waiting(gateway: Gateway) -> None:
    slow = [socket.create_connection((gateway.host, gateway.port), timeout=20) for _ in range(100)]
    stop = threading.Event()

    def trickle() -> None:
        while not stop.wait(0.2):
            for connection in slow:
                try:
                    connection.send(b" ")
                except OSError:
                    continue

    try:
        for connection in slow:
            connection.sendall(f"{HEAD}content-length: 100000\r\n\r\n".encode())
        thread = threading.Thread(target=trickle)
        thread.start()
        begun = time.monotonic()
        for _ in range(20):
            assert gateway.ask("POST", RANK, b'{"instances":[{"items":[],"k":1}]}', {})[0] == 200
        assert time.monotonic() - begun < 12
    finally:
        stop.set()
        thread.join()
        for connection in slow:
            connection.close()
