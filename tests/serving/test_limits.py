"""What clients can do to the gateway's Envoy: nothing that holds it up."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import httpx
import pytest

from endcap.errors import UserError
from endcap_serving.gateway import envoy_tracing
from endcap_serving.gateway.envoy_tracing import EnvoyTracing
from endcap_serving.gateway.limits import Limits
from endcap_serving.gateway.routes import GatewaySettings, Split
from endcap_serving.local.envoy_process import EnvoyProcess
from endcap_serving.local.process import end_processes
from tests.serving.backends import Backend
from tests.serving.pod import wait_for

PREDICT = "/v1/models/shoes:predict"
QUICK = Limits(
    body=4096, headers_timeout=0.5, request_timeout=1.0, idle_timeout=0.6, headers_kb=8, headers=40, connections=20
)


@pytest.fixture(scope="module")
def backend() -> Iterator[Backend]:
    with Backend("stable-1") as server:
        yield server
        server.shutdown()


@pytest.fixture(scope="module")
def spans() -> Iterator[ThreadingHTTPServer]:
    """Who takes spans over HTTP; `spans.got` has the bodies."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = b""
            while length := int(self.rfile.readline(), 16):  # Envoy sends chunks.
                body += self.rfile.read(length + 2)[:-2]
            self.rfile.readline()
            spans.got.append((self.path, body))  # type: ignore[attr-defined]
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as spans:
        spans.got = []  # type: ignore[attr-defined]
        Thread(target=spans.serve_forever, args=(0.01,), daemon=True).start()
        yield spans
        spans.shutdown()


@pytest.fixture(scope="module")
def envoy(
    tmp_path_factory: pytest.TempPathFactory, backend: Backend, spans: ThreadingHTTPServer
) -> Iterator[EnvoyProcess]:
    split = Split(backend.upstream, terms=GatewaySettings(timeout=3.0))
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://localhost:{spans.server_port}")
        running = EnvoyProcess(tmp_path_factory.mktemp("gateway"), "127.0.0.1", 0, "shoes", split, limits=QUICK)
    yield running
    end_processes([running.process])


@pytest.fixture
def client(envoy: EnvoyProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=envoy.address, timeout=30) as opened:
        yield opened


HEAD = f"POST {PREDICT} HTTP/1.1\r\nhost: a\r\n"


@pytest.mark.parametrize(
    ("head", "drip"),
    [("", b"POST /v1/mod"), (HEAD, b"x-a: b\r\n"), (f"{HEAD}content-length: 1000\r\n\r\n", b" ")],
    ids=["a request line", "headers", "a body"],
)
def test_a_slow_client_is_dropped_and_delays_nobody(
    envoy: EnvoyProcess, client: httpx.Client, backend: Backend, head: str, drip: bytes
) -> None:
    asked = len(backend.seen)
    begun = time.monotonic()
    with socket.create_connection(("127.0.0.1", envoy.port)) as slow:
        slow.settimeout(0.1)
        slow.sendall(head.encode())
        ended = False
        while not ended:
            assert time.monotonic() - begun < 30
            try:
                slow.sendall(drip)
                ended = slow.recv(1000) == b""
            except TimeoutError:
                continue
            except OSError:
                ended = True
    assert client.post(PREDICT, json={}).status_code == 200
    assert len(backend.seen) == asked + 1, "what never came whole is not passed on"


def test_requests_beyond_the_limits_are_refused(client: httpx.Client) -> None:
    assert_refused(
        client.post(PREDICT, content=b" " * 5000, headers={"content-type": "application/json"}),
        413,
        "gateway.body-too-large",
        most=4096,
    )
    large = {"most": 8 * 2**10}
    many = {f"x-{number}": "a" for number in range(60)}
    assert_refused(client.post(PREDICT, json={}, headers={"x-a": "a" * 9000}), 431, "gateway.head-too-large", **large)
    assert_refused(client.post(PREDICT, json={}, headers=many), 431, "gateway.head-too-large", **large)
    assert_refused(client.get(f"/{'a' * 9000}"), 431, "gateway.head-too-large", **large)
    assert client.post(PREDICT, json={}).status_code == 200


def assert_refused(answer: httpx.Response, status: int, code: str, **fields: object) -> None:
    assert (answer.status_code, answer.json()["code"], answer.json()["fields"]) == (status, code, fields)


def test_connections_beyond_the_limit_are_closed(envoy: EnvoyProcess) -> None:
    opened = [socket.create_connection(("127.0.0.1", envoy.port)) for _ in range(40)]
    try:
        wait_for(lambda: sum(map(is_closed, opened)) >= 20, "connections are closed")
    finally:
        for connection in opened:
            connection.close()
    wait_for(lambda: is_served(envoy), "there is room again")


def is_closed(connection: socket.socket) -> bool:
    connection.settimeout(0.01)
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def is_served(envoy: EnvoyProcess) -> bool:
    try:
        return httpx.post(f"{envoy.address}{PREDICT}", json={}).status_code == 200
    except httpx.TransportError:
        return False


def test_envoys_own_headers_from_clients_have_no_effect(client: httpx.Client, backend: Backend) -> None:
    backend.fail(status=500)
    orders = {"x-envoy-retry-on": "5xx", "x-envoy-max-retries": "5", "x-envoy-upstream-rq-timeout-ms": "1"}
    assert client.post(PREDICT, json={}, headers=orders).status_code == 500
    assert len(backend.seen) == 1
    backend.fail()
    assert client.post(PREDICT, json={}, headers=orders).status_code == 200


@pytest.mark.slow
def test_a_span_has_the_request_id_and_goes_on_the_callers_trace(
    client: httpx.Client, backend: Backend, spans: ThreadingHTTPServer
) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    headers = {"x-request-id": "look-for-this-one", "traceparent": f"00-{trace}-b7ad6b7169203331-01"}
    client.post(PREDICT, json={}, headers=headers)
    assert backend.seen[-1]["traceparent"].split("-")[1] == trace
    deadline = time.monotonic() + 60
    while not any(b"look-for-this-one" in body for _, body in spans.got):  # type: ignore[attr-defined]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    path, body = next(one for one in spans.got if b"look-for-this-one" in one[1])  # type: ignore[attr-defined]
    assert path == "/v1/traces"
    assert bytes.fromhex(trace) in body
    assert b"endcap-gateway" in body


def test_tracing_is_off_unless_a_receiver_is_named() -> None:
    endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318/"}
    assert envoy_tracing.read_environment({}) is None
    assert envoy_tracing.read_environment({**endpoint, "OTEL_SDK_DISABLED": "true"}) is None
    assert envoy_tracing.read_environment(endpoint) == EnvoyTracing("http://collector:4318/v1/traces")
    sampled = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.25"}
    told = envoy_tracing.read_environment({**endpoint, **sampled, "OTEL_SERVICE_NAME": "shop"})
    assert told == EnvoyTracing("http://collector:4318/v1/traces", "shop", 25.0)
    with pytest.raises(UserError) as address:
        envoy_tracing.read_environment({"OTEL_EXPORTER_OTLP_ENDPOINT": "collector"})
    assert address.value.code == "gateway.trace-address"
    assert address.value.fields == {"variable": "OTEL_EXPORTER_OTLP_ENDPOINT", "found": "collector"}
    with pytest.raises(UserError) as share:
        envoy_tracing.read_environment({**endpoint, **sampled, "OTEL_TRACES_SAMPLER_ARG": "3"})
    assert (share.value.code, share.value.fields["found"]) == ("gateway.trace-share", "3")


def test_the_access_log_has_ranking_surface_and_duration(
    envoy: EnvoyProcess, client: httpx.Client, backend: Backend
) -> None:
    backend.headers = {"x-endcap-ranking-id": "r-7.0", "x-endcap-degraded": "online-store"}
    client.post(PREDICT, json={}, headers={"x-request-id": "r-7", "x-endcap-surface": "home"})
    backend.fail()
    log = Path(envoy.process.log).with_name("access.log")
    deadline = time.monotonic() + 60  # Envoy writes its log every second.
    while '"r-7"' not in log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    line = next(json.loads(line) for line in log.read_text().splitlines() if '"r-7"' in line)
    assert (line["ranking"], line["surface"], line["degraded"]) == ("r-7.0", "home", "online-store")
    assert line["tries"] == 1
    assert 0 < line["upstream_us"] < 1_000_000
