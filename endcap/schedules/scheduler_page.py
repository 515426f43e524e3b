"""The page of a scheduler: whether it still looks, for a kubelet, and what it counts, for Prometheus."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from endcap.monitoring.families import Families
from endcap.monitoring.probes import serve_probes
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
        listener = listen(host, port, "the scheduler's page")
        self._server = serve_probes(listener, lambda: self.is_well, "scheduler-page", registry)
        self.address = f"http://{host}:{self._server.server_port}"

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
