"""Who sends what is refused hears why, directly and through the real Envoy: no reset, nor "send it again later"."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
from collections.abc import Iterator

import pytest

from endcap_serving.gateway.routes import GatewaySettings, Split, Upstream
from endcap_serving.local.envoy_process import EnvoyProcess
from endcap_serving.local.process import end_processes
from tests.intake.servers import Server, run_server

GOOD = json.dumps({"id": "a", "item": "p", "session": "s"}).encode()
JSON = {"content-type": "application/json"}
MIB = 1 << 20


@pytest.fixture(scope="module")
def intake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with run_server(tmp_path_factory.mktemp("intake")) as server:
        yield server


@pytest.fixture(scope="module")
def envoy(tmp_path_factory: pytest.TempPathFactory, intake: Server) -> Iterator[EnvoyProcess]:
    split = Split(Upstream("nobody", 9), terms=GatewaySettings())
    taker = Upstream("intake", intake.port, kind="intake")
    started = EnvoyProcess(tmp_path_factory.mktemp("gateway"), "127.0.0.1", 0, "shoes", split, intake=taker)
    yield started
    end_processes([started.process])


@pytest.fixture(params=["directly", "through Envoy"])
def port(request: pytest.FixtureRequest, intake: Server, envoy: EnvoyProcess) -> int:
    return intake.port if request.param == "directly" else envoy.port


def records(count: int) -> bytes:
    return json.dumps([{"id": str(number), "item": "p", "session": "s"} for number in range(count)]).encode()


CASES: dict[str, tuple[str, bytes | int, dict[str, str], int, str]] = {
    "too large": ("POST", b"x" * (5 * MIB), {}, 413, "intake.body-too-large"),
    "much too large": ("POST", b"x" * (15 * MIB), {}, 413, "intake.body-too-large"),
    "too large in chunks": ("POST", 90, {}, 413, "intake.body-too-large"),
    "too many records": ("POST", records(10_001), {}, 413, "intake.records-too-many"),
    "compressed": ("POST", gzip.compress(GOOD), {"content-encoding": "gzip"}, 415, "intake.body-encoded"),
    "compressed, large": ("POST", b"x" * (10 * MIB), {"content-encoding": "br"}, 415, "intake.body-encoded"),
    "another method": ("GET", b"", {}, 405, "intake.method-not-allowed"),
    "another method, large": ("PUT", b"x" * (10 * MIB), {}, 405, "intake.method-not-allowed"),
    "another method in chunks": ("PATCH", 60, {}, 405, "intake.method-not-allowed"),
    "no JSON, large": ("POST", b"{" * (3 * MIB), {}, 400, "intake.body-not-json"),
}


@pytest.mark.parametrize(("method", "body", "headers", "status", "code"), CASES.values(), ids=CASES)
def test_a_refusal_arrives_and_the_connection_serves_on(
    port: int, method: str, body: bytes | int, headers: dict[str, str], status: int, code: str
) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    for _ in range(3):
        content = body if isinstance(body, bytes) else iter([b"x" * 65_536] * body)
        connection.request(method, "/v1/events", content, {**JSON, **headers})
        answer = connection.getresponse()
        assert (answer.status, json.loads(answer.read())["code"]) == (status, code)
        assert (answer.headers["allow"] == "POST") == (status == 405)
        kept = connection.sock
        assert kept is not None
        connection.request("POST", "/v1/events", GOOD, JSON)
        answer = connection.getresponse()
        assert (answer.status, connection.sock) == (200, kept)
        answer.read()
    connection.close()


def test_a_client_that_expects_100_continue_is_refused_before_it_sends(intake: Server) -> None:
    with socket.create_connection(("127.0.0.1", intake.port), timeout=10) as connection:
        head = "POST /v1/events HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nexpect: 100-continue\r\n"
        head += f"content-length: {9 * MIB}\r\n\r\n"
        connection.sendall(head.encode())
        assert connection.recv(4096).split()[1] == b"413"


@pytest.mark.parametrize("extra", [0, 3 * MIB])
def test_a_head_that_is_too_large_is_told_whatever_follows(intake: Server, extra: int) -> None:
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", intake.port), timeout=10) as connection:
            lines = b"".join(b"x-%d: %s\r\n" % (number, b"y" * 1000) for number in range(40))
            connection.sendall(b"POST /v1/events HTTP/1.1\r\nhost: x\r\n" + lines + b"content-length: 4000000\r\n\r\n")
            connection.sendall(b"x" * extra)
            assert connection.recv(4096).split()[1] == b"431"
