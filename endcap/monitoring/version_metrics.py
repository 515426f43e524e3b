"""Metrics of registered versions: their state, and what their verdicts measured offline."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from prometheus_client.core import Metric

from endcap.monitoring.families import Families
from endcap.registry import Version, open_registry
from endcap.store import Store

NEWEST = 30
"""How many versions of a recommender are shown."""
_CHALLENGER = "challenger"
_VERSION = ("recommender", "version")
_DECLARED = (
    ("endcap_version_registered_timestamp_seconds", "When it was registered", (*_VERSION, "state", "alias")),
    ("endcap_version_offline_metric", "What its verdict measured on the test part", (*_VERSION, "metric")),
)


class VersionMetrics:
    """Reads the registry, and each version's verdict once.

    Parameters
    ----------
    store
        Holds the verdicts.
    registry_uri
        MLflow's address; None: the store's own.
    list_names
        Returns the recommenders.
    """

    def __init__(self, store: Store, registry_uri: str | None, list_names: Callable[[], list[str]]) -> None:
        self._store, self._registry_uri, self._list_names = store, registry_uri, list_names
        self._offline: dict[str, dict[str, float]] = {}

    def read(self) -> list[Metric]:
        """Return the metrics. Raises EndcapError if the registry or the store does not answer."""
        families = Families(_DECLARED)
        names = self._list_names()
        if not names:
            # Opening would make a data base.
            return families.list_metrics()
        registry = open_registry(self._registry_uri, self._store)
        for name in names:
            versions = sorted(registry.list_versions(name), key=lambda entry: int(entry.version))
            for version in versions[-NEWEST:]:
                registered = datetime.fromtimestamp(version.created / 1000, UTC)
                labels = (name, version.version, version.state, ",".join(version.aliases))
                families.add("endcap_version_registered_timestamp_seconds", registered, *labels)
                for metric, value in self._read_verdict(version).items():
                    families.add("endcap_version_offline_metric", value, name, version.version, metric)
        return families.list_metrics()

    def _read_verdict(self, version: Version) -> dict[str, float]:
        address = version.tags.get("verdict", "")
        if not address:
            return {}
        if address not in self._offline:
            metrics = self._store.manifest(address)["facts"].get("metrics", {}).get(_CHALLENGER, {})
            self._offline[address] = {name: float(value) for name, value in metrics.items()}
        return self._offline[address]
