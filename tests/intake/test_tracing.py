"""Spans on their way to a receiver on loopback, and nothing at all where none is named."""

from __future__ import annotations

import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from endcap_serving import tracing

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def test_spans_reach_the_receiver_under_the_callers_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    bodies: list[tuple[str, bytes]] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *words: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
        traced = tracing.open_tracing("endcap-intake")
        assert traced is not None
        span = traced.start("POST /v1/events", {"traceparent": f"00-{TRACE}-{PARENT}-01"}, records=3)
        traced.finish(traced.start_child("commit", span))
        traced.finish(span, 503)
        traced.finish(traced.start("POST /v1/orders", {"traceparent": "nonsense"}), 200)
        traced.close()
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    (path, body) = bodies[0]
    assert path == "/v1/traces"
    (resource,) = ExportTraceServiceRequest.FromString(body).resource_spans
    named = {one.key: one.value.string_value for one in resource.resource.attributes}
    assert named["service.name"] == "endcap-intake"
    spans = {one.name: one for one in resource.scope_spans[0].spans}
    request, commit, other = spans["POST /v1/events"], spans["commit"], spans["POST /v1/orders"]
    assert (request.trace_id.hex(), request.parent_span_id.hex()) == (TRACE, PARENT)
    assert (commit.trace_id, commit.parent_span_id) == (request.trace_id, request.span_id)
    facts = {one.key: one.value.int_value for one in request.attributes}
    assert facts == {"records": 3, "http.response.status_code": 503}
    assert (request.status.code, other.status.code) == (2, 0)
    assert (other.trace_id.hex() == TRACE, other.parent_span_id) == (False, b"")


def test_nothing_is_imported_where_no_receiver_is_named() -> None:
    program = (
        "import sys; from endcap_serving import tracing; assert tracing.open_tracing('x', {}) is None; "
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
