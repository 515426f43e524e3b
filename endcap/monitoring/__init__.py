"""What a store tells Prometheus: rollouts, A/B tests, versions, what serves, runs and lists."""

from endcap.monitoring.page import MetricsPage
from endcap.monitoring.store_collector import StoreCollector

__all__ = ["MetricsPage", "StoreCollector"]
