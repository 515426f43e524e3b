"""The predictor's metrics, which Prometheus reads at /metrics: of this process, or of all workers together.

If several workers serve, each writes its numbers to a file in the folder that PROMETHEUS_MULTIPROC_DIR names. The
worker that is asked adds up the numbers of all, so they do not depend on who was asked.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector

from endcap.devices import GpuRequest, GpuShortage
from endcap.ranking.answer import Answer
from endcap_serving.predictor.surfaces import NO_SURFACE, Surfaces

SECONDS = [
    *(0.001, 0.0015, 0.002, 0.003, 0.004, 0.005, 0.006, 0.007, 0.0085, 0.01, 0.0125, 0.015, 0.02, 0.025, 0.03),
    *(0.04, 0.05, 0.065, 0.08, 0.1, 0.125, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.65, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0),
]
"""Buckets of latencies in seconds. They are fine, because a coarse histogram does not show that a latency doubled."""
_MAGNITUDES = [round(0.001 * 1.5**power, 6) for power in range(35)]
SCORES = [*(-magnitude for magnitude in reversed(_MAGNITUDES)), 0.0, *_MAGNITUDES]
"""Buckets of scores: 0.001 to 970, both ways, because models score by probabilities, logits or counts."""
BATCHES = [1, 2, 4, 8, 16, 32, 64, 128]
FOLDER = "PROMETHEUS_MULTIPROC_DIR"


class Metrics:
    """The metrics of one predictor. The event loop, the ranking thread and the refresh thread use them."""

    def __init__(self) -> None:
        self.is_counting = True
        """Whether calls are clients', and not the warm-up's."""
        self.surfaces = Surfaces()
        self._requests = _Children(
            Counter("endcap_requests", "Calls, by status and by the first request's surface", ["status", "surface"])
        )
        self._rankings = _Children(Counter("endcap_rankings", "Rankings given, by surface", ["surface"]))
        help_text = "From a call's head to its answer, where that is 200"
        self._latency = Histogram("endcap_request_seconds", help_text, buckets=SECONDS)
        self._wait = Histogram("endcap_queue_seconds", "What a call waited for its turn", buckets=SECONDS)
        self._ranking = Histogram("endcap_batch_seconds", "What a batch took", buckets=SECONDS)
        self._batch = Histogram("endcap_batch_requests", "Requests in a batch", buckets=BATCHES)
        self._degraded = _Children(Counter("endcap_degraded", "Rankings made without what is named", ["without"]))
        help_text = "Rankings with fallbacks, by why there are any"
        self._fallbacks = _Children(Counter("endcap_fallbacks", help_text, ["reason"]))
        self._empty = Counter("endcap_empty_answers", "Rankings without an item")
        help_text = "The score of each ranking's first item, where the model chose it"
        self._top_scores = Histogram("endcap_top_score", help_text, buckets=SCORES)
        self._online = _Children(
            Histogram("endcap_online_store_seconds", "Questions to the online store", ["outcome"], buckets=SECONDS)
        )
        help_text = "Keys of the online store that could not be read, each one shopper's, by why"
        self._unreadable = _Children(Counter("endcap_online_store_unreadable", help_text, ["reason"]))
        self._rejected = Counter("endcap_rejected", "Calls that would have waited too long")
        self._age = Gauge(
            "endcap_catalogue_age_seconds", "Since the catalogue in use was made", multiprocess_mode="livemax"
        )
        self._refreshes = _Children(Counter("endcap_catalogue_refreshes", "Looks for a new catalogue", ["outcome"]))
        help_text = "1 for the model that is served"
        self._info = Gauge("endcap_model_info", help_text, ["model", "version", "variant"], multiprocess_mode="livemax")
        help_text = "1 where a package was made with another version than what serves it"
        labels = ["library", "made_with", "here"]
        self._mismatch = Gauge("endcap_package_mismatch", help_text, labels, multiprocess_mode="livemax")

        help_text = "Rankings that were chosen as request samples, by what became of them"
        self._samples = _Children(Counter("endcap_request_samples", help_text, ["outcome"]))
        help_text = "GPUs that the pod was given and does not see; 0 where it sees all"
        self._gpus = Gauge("endcap_gpus_missing", help_text, ["resource", "cause"], multiprocess_mode="livemax")

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Count nothing within a block, because the requests of the warm-up are no client's."""
        self.is_counting = False
        try:
            yield
        finally:
            self.is_counting = True

    def count_answer(self, status: int, surfaces: Sequence[str | None], seconds: float) -> None:
        """Count an answered call.

        Parameters
        ----------
        status
            The answer's HTTP status.
        surfaces
            The surface of each ranking in the answer.
        seconds
            Seconds from the call's head to its answer.
        """
        if not self.is_counting:
            return
        names = [self.surfaces.label(name) for name in surfaces] or [NO_SURFACE]
        self._requests[str(status), names[0]].inc()
        if status != 200:
            return
        self._latency.observe(seconds)
        for name in names:
            self._rankings[(name,)].inc()

    def record_batch(self, requests: int, seconds: float, waits: Sequence[float]) -> None:
        """Record a batch, as `BatchObserver.record_batch` says."""
        if not self.is_counting:
            return
        self._batch.observe(requests)
        self._ranking.observe(seconds)
        for wait in waits:
            self._wait.observe(wait)

    def count_degraded(self, without: str, rankings: int) -> None:
        """Count rankings that were made without a part of the service."""
        if self.is_counting:
            self._degraded[(without,)].inc(rankings)

    def count_rankings(self, answers: Iterable[Answer]) -> None:
        """Count rankings with fallbacks by their reason, empty ones, and the scores of the first items."""
        if not self.is_counting:
            return
        for answer in answers:
            if answer.reason is not None:
                self._fallbacks[(answer.reason,)].inc()
            if not answer.ids:
                self._empty.inc()
            elif (score := answer.scores[0]) is not None:
                self._top_scores.observe(score)

    def record_store_call(self, outcome: str, seconds: float) -> None:
        """Record a call to the online store. outcome: `ok`, `failed`, or `skipped` for a while after a failure."""
        if self.is_counting:
            self._online[(outcome,)].observe(seconds)

    def count_unreadable(self, reason: str) -> None:
        """Count a key of the online store that cannot be read. reason: `wrong-type` or `unreadable`."""
        if self.is_counting:
            self._unreadable[(reason,)].inc()

    def count_rejected(self) -> None:
        """Count a call that would have waited too long."""
        if self.is_counting:
            self._rejected.inc()

    def count_samples(self, outcome: str, rankings: int) -> None:
        """Count rankings that were chosen as request samples, by what became of them."""
        self._samples[(outcome,)].inc(rankings)

    def count_refresh(self, outcome: str) -> None:
        """Count a check that found a catalogue, or failed. outcome: `taken`, `refused` or `unreachable`."""
        self._refreshes[(outcome,)].inc()

    def set_catalogue_age(self, seconds: float) -> None:
        """Set the seconds since the catalogue in use was made."""
        self._age.set(seconds)

    def set_model_info(self, model: str, version: str, variant: str, mismatches: Mapping[str, tuple[str, str]]) -> None:
        """Set what is served. mismatches: by library, the version that made the package and the installed one."""
        self._info.labels(model, version, variant).set(1)
        for library, (made_with, here) in mismatches.items():
            self._mismatch.labels(library, made_with, here).set(1)

    def set_missing_gpus(self, request: GpuRequest, shortage: GpuShortage | None) -> None:
        """Set how many of the pod's GPUs the process does not see. request: the pod's GPUs; shortage: why some lack."""
        missing = 0 if shortage is None else request.count - shortage.fields["seen"]
        self._gpus.labels(request.resource, "" if shortage is None else shortage.fields["cause"]).set(missing)


class _Children(dict[tuple[str, ...], Any]):
    """A metric's children by label values: looking them up in the metric takes a lock and longer than counting."""

    def __init__(self, metric: Any) -> None:
        self._metric = metric

    def __missing__(self, values: tuple[str, ...]) -> Any:
        self[values] = self._metric.labels(*values)
        return self[values]


def write_exposition(accept: str) -> tuple[bytes, str]:
    """Write all metrics as text.

    Parameters
    ----------
    accept
        The request's `accept` header.

    Returns
    -------
    tuple[bytes, str]
        The text and its content type.
    """
    registry = REGISTRY
    if os.environ.get(FOLDER):
        registry = CollectorRegistry()
        MultiProcessCollector(registry)
    encode: Callable[[CollectorRegistry], bytes]
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type
