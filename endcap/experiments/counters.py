"""Counters of many processes: from what their pages say to what was counted between two readings, by arm."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

from endcap.errors import UserError
from endcap.experiments.operational_counts import ArmCounts

Series = tuple[str, tuple[tuple[str, str], ...]]
"""A sample's name and its labels, sorted."""
PREDICTOR_SAMPLES = (
    "endcap_requests_total",
    "endcap_rankings_total",
    "endcap_empty_answers_total",
    "endcap_fallbacks_total",
    "endcap_request_seconds_bucket",
    "endcap_top_score_bucket",
)
"""The predictors' samples that are counted."""
ENVOY_SAMPLE = "envoy_cluster_upstream_rq"
"""Envoy's answers of a cluster, by their status."""
STARTED_SAMPLE, SERVED_SAMPLE = "process_start_time_seconds", "endcap_model_info"
"""When a process started, where its page tells it, and which version it serves."""
_NO_COUNTERS = (STARTED_SAMPLE, SERVED_SAMPLE)


def read_page(text: str) -> dict[Series, float]:
    """Read a page in Prometheus's text format.

    Parameters
    ----------
    text
        The page.

    Returns
    -------
    dict
        The samples that guardrails need, and the start of the process where the page tells it.

    Raises
    ------
    UserError
        `experiments.bad-metrics`, if the text is not in this format.
    """
    # The parser gives each counter the ending that Envoy's names do not have.
    names = {name: name for name in (*PREDICTOR_SAMPLES, *_NO_COUNTERS)} | {f"{ENVOY_SAMPLE}_total": ENVOY_SAMPLE}
    try:
        return {
            (names[sample.name], tuple(sorted(sample.labels.items()))): float(sample.value)
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name in names
        }
    except (ValueError, KeyError, IndexError) as error:
        raise UserError("the page is not in Prometheus's text format", code="experiments.bad-metrics") from error


def find_versions(samples: Mapping[Series, float]) -> set[str]:
    """Return the versions that a predictor's page names as those that it serves."""
    return {dict(labels).get("version", "") for name, labels in samples if name == SERVED_SAMPLE}


@dataclass
class CounterDifferences:
    """What the counters of each process rose by since the reading before.

    The first reading of a process counts nothing. A counter that fell belongs to a process that was started again: all
    that it shows is new. A series that a known process shows for the first time began at 0.
    """

    _before: dict[str, Mapping[Series, float]] = field(default_factory=dict)

    def take(self, process: str, samples: Mapping[Series, float]) -> dict[Series, float]:
        """Return the rises of a process's counters. process: a name that stays the same, such as its address."""
        before = self._before.get(process)
        self._before[process] = dict(samples)
        if before is None:
            return dict.fromkeys(samples, 0.0)
        started = [series for series in samples if series[0] == STARTED_SAMPLE]
        counted = {series: value for series, value in samples.items() if series[0] not in _NO_COUNTERS}
        is_new = any(before.get(series) != samples[series] for series in started) or any(
            value < before.get(series, 0.0) for series, value in counted.items()
        )
        return {series: value - (0.0 if is_new else before.get(series, 0.0)) for series, value in counted.items()}

    def forget(self, process: str) -> None:
        """Begin anew with a process that was away: what it counted meanwhile belongs to no window."""
        self._before.pop(process, None)


def sum_predictors(rises: Iterable[Mapping[Series, float]]) -> ArmCounts:
    """Add up what predictors counted. rises: of each process, from `CounterDifferences.take`."""
    sums = dict.fromkeys(PREDICTOR_SAMPLES, 0.0)
    errors = 0.0
    seconds: dict[float, int] = {}
    scores: dict[float, int] = {}
    for process in rises:
        buckets: dict[str, dict[float, float]] = {}
        for (name, labels), value in process.items():
            if name in ("endcap_request_seconds_bucket", "endcap_top_score_bucket"):
                edges = buckets.setdefault(name, {})
                edge = float(dict(labels)["le"])
                edges[edge] = edges.get(edge, 0.0) + value
            elif name in sums:
                sums[name] += value
                errors += (
                    value if name == "endcap_requests_total" and _is_failure(dict(labels).get("status", "")) else 0.0
                )
        _add_buckets(seconds, buckets.get("endcap_request_seconds_bucket", {}))
        _add_buckets(scores, buckets.get("endcap_top_score_bucket", {}))
    requests, rankings, empty, fallbacks = (round(sums[name]) for name in PREDICTOR_SAMPLES[:4])
    return ArmCounts(requests, round(errors), rankings, empty, fallbacks, seconds, scores)


def sum_cluster(rises: Mapping[Series, float], cluster: str) -> tuple[int, int]:
    """Return how many answers Envoy had of a cluster, and how many of them were server errors or time-outs."""
    requests = errors = 0.0
    for (name, labels), value in rises.items():
        names = dict(labels)
        status = names.get("envoy_response_code")
        # Without a status it is the sum, whose name on the page ends with `_total`.
        if name == ENVOY_SAMPLE and status is not None and names.get("envoy_cluster_name") == cluster:
            requests += value
            errors += value if _is_failure(status) else 0.0
    return round(requests), round(errors)


def _is_failure(status: str) -> bool:
    return len(status) == 3 and status.startswith("5")


def _add_buckets(histogram: dict[float, int], cumulated: Mapping[float, float]) -> None:
    """Add cumulated buckets to a histogram. Their edges stay, also where nothing was counted."""
    before = 0.0
    for edge in sorted(cumulated):
        histogram[edge] = histogram.get(edge, 0) + max(0, round(cumulated[edge] - before))
        before = cumulated[edge]
    if cumulated and math.inf not in cumulated:
        histogram.setdefault(math.inf, 0)
