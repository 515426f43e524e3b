"""The page of a scheduler: whether it still looks, for a kubelet, and what it counts, for Prometheus."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from endcap.monitoring.families import Families
from endcap.schedules.listening import listen
from endcap.schedules.part_look import ScheduleNews

LONGEST_LOOK = 600.0
"""Seconds without a look after which a scheduler counts as stuck. A place may hold a look for minutes."""
_DECLARED = (
    ("endcap_scheduler_look_timestamp_seconds", "When all schedules were looked at last", ()),
    ("endcap_scheduler_look_seconds", "What that took", ()),
    ("endcap_scheduler_faults_total", "Looks that could not see a schedule, by the error's code", ("schedule", "code")),
    ("endcap_scheduler_notifications_total", "Notifications of a bucket, by what came of them", ("outcome",)),
)


class SchedulerPage(Collector):
    """Serves `/healthz` and `/metrics` from its making to `close`.

    Parameters
    ----------
    host, port
        Where to listen; port 0: any free one.

    Attributes
    ----------
    address
        The page's URL, without a path.
    notifications
        What came of notifications, by its name. Whoever counts them may put their own counts here.

    Raises
    ------
    UserError
        The port cannot be used.
    """

    def __init__(self, host: str, port: int) -> None:
        self.notifications: Mapping[str, int] = {}
        self._looked, self._took = time.monotonic(), 0.0
        self._looked_at: float | None = None
        self._faults: Counter[tuple[str, str]] = Counter()
        registry = CollectorRegistry()
        registry.register(self)
        self._server = ThreadingHTTPServer((host, port), _make_handler(self, registry), bind_and_activate=False)
        self._server.socket.close()
        self._server.socket = listen(host, port, "the scheduler's page")
        self.address = f"http://{host}:{self._server.socket.getsockname()[1]}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="scheduler-page", daemon=True
        )
        self._thread.start()

    @property
    def is_well(self) -> bool:
        """Whether the last look, or the start, is not too long ago."""
        return time.monotonic() - self._looked < LONGEST_LOOK

    def note_look(self, seconds: float, news: Iterable[ScheduleNews]) -> None:
        """Note a look that has ended. seconds: what it took; news: what it gave."""
        self._looked, self._took, self._looked_at = time.monotonic(), seconds, time.time()
        self._faults.update((entry.name, entry.fault.code) for entry in news if entry.fault is not None)

    def collect(self) -> Iterable[Metric]:
        """Return all metrics; Prometheus's client calls it for each scrape."""
        families = Families(_DECLARED)
        families.add("endcap_scheduler_look_timestamp_seconds", self._looked_at)
        families.add("endcap_scheduler_look_seconds", self._took if self._looked_at else None)
        for (schedule, code), count in dict(self._faults).items():
            families.add("endcap_scheduler_faults_total", count, schedule, code)
        for outcome, count in dict(self.notifications).items():
            families.add("endcap_scheduler_notifications_total", count, outcome)
        return families.list_metrics()

    def close(self) -> None:
        """End the server."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _make_handler(page: SchedulerPage, registry: CollectorRegistry) -> type[BaseHTTPRequestHandler]:
    class PageHandler(BaseHTTPRequestHandler):
        timeout = 10.0

        def do_GET(self) -> None:
            if self.path == "/metrics":
                self._send(200, CONTENT_TYPE_LATEST, generate_latest(registry))
            elif self.path == "/healthz":
                self._send(200 if page.is_well else 503, "text/plain", b"ok\n" if page.is_well else b"stuck\n")
            else:
                self._send(404, "text/plain", b"allowed: /healthz, /metrics\n")

        def _send(self, status: int, content: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("content-type", content)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Write nothing: a line for each probe would hide all others."""

    return PageHandler
