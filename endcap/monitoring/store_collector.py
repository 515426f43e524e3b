"""Collects a store's metrics in a thread of its own, so that a slow store or registry never holds up a scrape."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterable, Mapping

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from endcap.errors import EndcapError
from endcap.monitoring.ab_metrics import AbMetrics
from endcap.monitoring.families import Families
from endcap.monitoring.rollout_metrics import RolloutMetrics
from endcap.monitoring.run_metrics import RunMetrics
from endcap.monitoring.version_metrics import VersionMetrics
from endcap.retries import disable_retries
from endcap.store import Store

ReadMetrics = Callable[[], list[Metric]]
EVERY = 15.0
"""Seconds between two readings of what changes within minutes: rollouts and what serves."""
SELDOM = 4
"""Of so many readings, one is also of the rest: runs and versions change within hours and are many documents, and the
log of an A/B test of eight versions is megabytes."""
_OWN = (
    ("endcap_store_read_timestamp_seconds", "When a part of the store was last read", ("part",)),
    ("endcap_store_read_seconds", "What that took", ("part",)),
    ("endcap_store_read_errors_total", "Readings that failed, by the error's code", ("part", "code")),
)


class StoreCollector(Collector):
    """Metrics of rollouts, A/B tests, what serves, runs, lists and versions, as they were at the last reading.

    A part that cannot be read keeps its values, and `endcap_store_read_timestamp_seconds` says how old they are.

    Parameters
    ----------
    store
        The store.
    registry_uri
        MLflow's address; None: the store's own.
    every
        Seconds between two readings.
    more
        Further parts, read as seldom as runs: of rooms that this one does not know.
    """

    def __init__(
        self,
        store: Store,
        registry_uri: str | None = None,
        *,
        every: float = EVERY,
        more: Mapping[str, ReadMetrics] | None = None,
    ) -> None:
        runs = RunMetrics(store)
        names = runs.list_recommenders
        self._often: Mapping[str, ReadMetrics] = {"rollouts": RolloutMetrics(store, names).read}
        self._seldom: Mapping[str, ReadMetrics] = {
            "runs": runs.read,
            "ab-tests": AbMetrics(store, names).read,
            **(more or {}),
            # The last: a registry may take long.
            "versions": VersionMetrics(store, registry_uri, names).read,
        }
        self._every = every
        self._metrics: dict[str, list[Metric]] = {}
        self._read: dict[str, tuple[float, float]] = {}
        self._errors: dict[tuple[str, str], int] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="store-metrics", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def close(self, timeout: float = 2.0) -> None:
        """End. A reading that hangs ends with the process. timeout: seconds that are waited for it."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def read(self, *, only_often: bool = False) -> None:
        """Read all parts once. only_often: leave out those that change seldom."""
        for part, read_metrics in {**self._often, **({} if only_often else self._seldom)}.items():
            if self._stop.is_set():
                return
            begun = time.monotonic()
            try:
                with disable_retries():
                    metrics = read_metrics()
            except Exception as error:
                code = error.code if isinstance(error, EndcapError) else type(error).__name__
                with self._lock:
                    self._errors[part, code] = self._errors.get((part, code), 0) + 1
                continue
            with self._lock:
                self._metrics[part] = metrics
                self._read[part] = (time.time(), time.monotonic() - begun)

    def collect(self) -> Iterable[Metric]:
        """Return all metrics; Prometheus's client calls it for each scrape."""
        own = Families(_OWN)
        with self._lock:
            for part, (moment, seconds) in self._read.items():
                own.add("endcap_store_read_timestamp_seconds", moment, part)
                own.add("endcap_store_read_seconds", seconds, part)
            for (part, code), count in self._errors.items():
                own.add("endcap_store_read_errors_total", count, part, code)
            metrics = [metric for part in self._metrics.values() for metric in part]
        return [*own.list_metrics(), *metrics]

    def _run(self) -> None:
        for number in itertools.count():
            self.read(only_often=number % SELDOM != 0)
            if self._stop.wait(self._every):
                return
