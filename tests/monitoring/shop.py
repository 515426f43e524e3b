"""What Prometheus scrapes in these tests: a shop as `endcap serve` runs it, with requests and events."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import create_server
from typing import Any, cast

import httpx

from endcap.monitoring import MetricsPage
from endcap.monitoring.probes import serve_probes
from endcap.replay.metrics import ReplayMetrics
from endcap.schedules.metrics import ScheduleMetrics
from endcap.store import Store
from endcap_serving.gateway.admin import SOCKET, AdminClient
from endcap_serving.local.supervisor import TICK, Supervisor
from endcap_serving.rollouts.process import RolloutProcess
from tests.serving.test_rollout_loop import Shoppers


@contextmanager
def run_shop(store: Store, recommender: str) -> Iterator[dict[str, str]]:
    """Serve with shoppers who come all the time. Yields the addresses of pages, by `endcap_component`."""
    stop = threading.Event()
    supervisor = Supervisor(store, recommender, "127.0.0.1", 0, lambda event: None)
    rollouts = supervisor.make_rollout_loop()

    def follow() -> None:
        while not stop.wait(TICK):
            supervisor.step()

    supervisor.start(stop)
    follower = threading.Thread(target=follow)
    follower.start()
    try:
        sources = supervisor._list_sources()
        pages = {f"predictor/{name}": f"{arm.predictors[0]}/metrics" for name, arm in sources.items()}
        pages["intake"] = f"http://127.0.0.1:{supervisor._intake.upstream.port}/metrics"
        with pass_on_page(supervisor.folder / "gateway" / SOCKET) as address:
            pages["gateway"] = f"{address}/stats/prometheus"
            more = {"schedules": ScheduleMetrics(store).read, "replays": ReplayMetrics(store).read}
            page = MetricsPage(store, None, "127.0.0.1", 0, every=1.0, more=more)
            pages["store"] = page.address
            # The page of a cluster's controller, which does not run here: it has no cluster.
            process = RolloutProcess(cast(Any, None), cast(Any, None))
            probes = serve_probes(create_server(("127.0.0.1", 0)), lambda: process.is_well, "probes")
            pages["rollouts"] = f"http://127.0.0.1:{probes.server_port}/metrics"
            rollouts.start()
            rates = {arm.version or "": 0.3 for arm in sources.values()}
            try:
                with Shoppers(supervisor.address, rates):
                    yield pages
            finally:
                page.close()
                probes.shutdown()
                probes.server_close()
    finally:
        rollouts.close()
        stop.set()
        follower.join()
        supervisor.close()


@contextmanager
def pass_on_page(socket: Path) -> Iterator[str]:
    """Envoy's own page at a port, as the chart's gateway has it: on a laptop it is at a socket, which Prometheus
    cannot read."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = AdminClient(socket).get(self.path).encode()
            self.send_response(200)
            self.send_header("content-type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def read_names(pages: dict[str, str]) -> set[str]:
    """The names of all samples that the pages declare, also of those that have none yet."""
    endings = {"histogram": ("_bucket", "_count", "_sum"), "counter": ("", "_total"), "gauge": ("",)}
    names = set()
    for page in pages.values():
        for line in httpx.get(page, timeout=20).text.splitlines():
            if line.startswith("# TYPE "):
                _, _, name, kind = line.split()
                names |= {name + ending for ending in endings.get(kind, ("",))}
    return names
