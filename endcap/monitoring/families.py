"""Metric families that are filled sample by sample, as Prometheus's client collects them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric


class Families:
    """The metrics of one part of the page.

    Parameters
    ----------
    declared
        Name, help and labels of each gauge. A name that ends with `_total` is a counter's. All are on the page, also
        without a sample, so that a query finds its metric before anything happened.
    """

    def __init__(self, declared: Iterable[tuple[str, str, Sequence[str]]]) -> None:
        self._families: dict[str, GaugeMetricFamily | CounterMetricFamily] = {}
        self._counts: dict[str, int] = {}
        for name, text, labels in declared:
            kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
            self._families[name] = kind(name, text, labels=labels)
            self._counts[name] = len(labels)

    def add(self, name: str, value: float | datetime | None, *labels: str) -> None:
        """Add a sample.

        Parameters
        ----------
        name
            A declared name.
        value
            The value; a moment as seconds since 1970. None: there is no sample.
        labels
            One for each label, in their order.
        """
        if len(labels) != self._counts[name]:
            raise ValueError(f"{name} has {self._counts[name]} labels, not {len(labels)}")
        if value is not None:
            self._families[name].add_metric(labels, value.timestamp() if isinstance(value, datetime) else float(value))

    def list_metrics(self) -> list[Metric]:
        """Return the metrics with their samples."""
        return list(self._families.values())
