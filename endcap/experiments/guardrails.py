"""Operational guardrails of an arm: from counts, window by window, to e-values that hold at every look.

A window is some seconds, usually ten, in which all arms were counted together. A burst of errors or slow requests that
both arms share is in the counts of both, and takes nobody back.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np

from endcap.experiments.evidence import GuardrailEvidence
from endcap.experiments.fault_process import FaultProcess, compare_rates, compare_to_limit
from endcap.experiments.operational_counts import ArmCounts, Histogram, OperationsWindow, add_histograms, count_above
from endcap.experiments.score_drift import bin_scores, choose_edges, compute_psi, smooth_shares, weigh_drift
from endcap.spec.rollout_metrics import (
    AnyGuardrailSpec,
    EmptyAnswersGuardrailSpec,
    ErrorsGuardrailSpec,
    LatencyGuardrailSpec,
    RateGuardrailSpec,
    ScoreDriftGuardrailSpec,
)

RECENT = 300.0
"""Seconds of the recent past: for the stable version's quantile, and for the rates that a person reads."""
FEWEST_REQUESTS = 200
"""Of so many requests at least, a quantile of latencies is read."""
_MOST_SLOW = 5.0
"""A bucket's edge is taken as a quantile if at most so many times the quantile's share of requests lie above it."""
REFERENCE_SECONDS, REFERENCE_SCORES = 3600.0, 2000
"""The version's own first scores are those of so many seconds, and so many of them at least."""
BLOCK_SECONDS, BLOCK_SCORES = 600.0, 500
"""Later scores are compared in blocks of so many seconds, and so many of them at least."""


class _Guardrail(Protocol):
    process: FaultProcess

    def add(self, arm: ArmCounts, reference: ArmCounts | None, seconds: float) -> None: ...

    def measure(self) -> tuple[float, float, int]: ...

    def to_json(self) -> dict[str, Any]: ...

    def restore(self, document: Mapping[str, Any]) -> None: ...


class GuardrailMonitor:
    """The guardrails of one arm, over all windows since its first request.

    Parameters
    ----------
    guardrails
        The policy's guardrails (`RolloutSpec.guardrails`).
    arm
        The arm that is guarded, such as `canary`.
    against
        The arm whose counts of the same seconds are the reference, usually `stable`. None: the arm's own history, for
        a version that answers everyone. A burst that would have met every version counts against it then.

    Notes
    -----
    Errors, empty answers and fallbacks: the rate is held against ``max(limit, times * the reference's rate in the same
    window)``. Latency: the share of requests above a bucket's edge is held against ``max(1 - quantile, times * the
    reference's share)``; the edge is the one nearest to the reference's quantile of the five minutes before the window.
    A second bet holds the share above twice that edge against half of the limit.
    Score drift: the population stability index of blocks of ten minutes, against the arm's first hour. `compare_rates`,
    `weigh_drift` and `FaultProcess` have the formulas.

    A breach stays: the probability that the e-value of a faultless version reaches 1 / budget at any time is at most
    the budget, so a fault that begins and ends between two looks is seen at the second.
    """

    def __init__(self, guardrails: Sequence[AnyGuardrailSpec], arm: str, against: str | None = "stable") -> None:
        self.arm = arm
        self.against = against
        self._guardrails = {spec.name: (spec.budget, _make_guardrail(spec)) for spec in guardrails}
        self._breaches: dict[str, GuardrailEvidence] = {}

    def add(self, window: OperationsWindow) -> None:
        """Take the next window. One without the arm, or without the reference, is no evidence on rates."""
        arm = window.arms.get(self.arm)
        if arm is None or window.length <= 0:
            return
        reference = window.arms.get(self.against, ArmCounts()) if self.against is not None else None
        for name, (budget, guardrail) in self._guardrails.items():
            guardrail.add(arm, reference, window.length)
            if name not in self._breaches and guardrail.process.e_value >= 1 / budget:
                self._breaches[name] = _describe(name, guardrail)

    def judge(self) -> tuple[GuardrailEvidence, ...]:
        """Return the evidence of each guardrail, in the policy's order."""
        return tuple(
            self._breaches.get(name) or _describe(name, guardrail) for name, (_, guardrail) in self._guardrails.items()
        )

    def to_json(self) -> dict[str, Any]:
        """Return the state as JSON values. A process that begins anew without it would spend the budget twice."""
        return {
            "guardrails": {name: guardrail.to_json() for name, (_, guardrail) in self._guardrails.items()},
            "breaches": {name: asdict(evidence) for name, evidence in self._breaches.items()},
        }

    def restore(self, document: Mapping[str, Any]) -> None:
        """Go on from what `to_json` returned. Guardrails that it does not know begin anew."""
        for name, state in document["guardrails"].items():
            if name in self._guardrails:
                self._guardrails[name][1].restore(state)
        self._breaches = {
            name: GuardrailEvidence(**entry) for name, entry in document["breaches"].items() if name in self._guardrails
        }


def _describe(name: str, guardrail: _Guardrail) -> GuardrailEvidence:
    observed, reference, events = guardrail.measure()
    return GuardrailEvidence(name, guardrail.process.e_value, observed, reference, events)


def _make_guardrail(spec: AnyGuardrailSpec) -> _Guardrail:
    if isinstance(spec, LatencyGuardrailSpec):
        return _LatencyGuardrail(spec)
    if isinstance(spec, ScoreDriftGuardrailSpec):
        return _DriftGuardrail(spec)
    return _RateGuardrail(spec)


@dataclass
class _RecentSums:
    """Sums over the windows of the last `RECENT` seconds: events, requests, and the reference's."""

    windows: deque[tuple[float, tuple[int, ...]]] = field(default_factory=deque)
    sums: list[int] = field(default_factory=lambda: [0, 0, 0, 0])
    seconds: float = 0.0

    def add(self, seconds: float, values: tuple[int, ...]) -> None:
        self.windows.append((seconds, values))
        self.seconds += seconds
        self.sums = [total + value for total, value in zip(self.sums, values, strict=True)]
        while len(self.windows) > 1 and self.seconds - self.windows[0][0] >= RECENT:
            length, oldest = self.windows.popleft()
            self.seconds -= length
            self.sums = [total - value for total, value in zip(self.sums, oldest, strict=True)]


class _RateGuardrail:
    """A rate of requests or of rankings."""

    def __init__(self, spec: RateGuardrailSpec) -> None:
        self._spec = spec
        self.process = FaultProcess()
        self._recent = _RecentSums()
        self._total = [0, 0]

    def add(self, arm: ArmCounts, reference: ArmCounts | None, seconds: float) -> None:
        spec = self._spec
        events, requests = self._count(arm)
        if reference is not None:
            stable = self._count(reference)
            if stable[1] <= 0:
                return
            factors = compare_rates(events, requests, spec.limit, spec.times, *stable)
        else:
            stable = (self._total[0], self._total[1])
            own = stable[0] / stable[1] if stable[1] >= FEWEST_REQUESTS else 0.0
            factors = compare_to_limit(events, requests, min(0.99, max(spec.limit, spec.times * own)))
        self._total = [self._total[0] + events, self._total[1] + requests]
        self._recent.add(seconds, (events, requests, *(stable if reference is not None else (0, 0))))
        self.process.advance(factors, seconds)

    def measure(self) -> tuple[float, float, int]:
        events, requests, stable_events, stable_requests = self._recent.sums
        if not stable_requests:
            stable_events, stable_requests = self._total
        allowed = max(self._spec.limit, self._spec.times * stable_events / max(1, stable_requests))
        return events / max(1, requests), min(1.0, allowed), self._total[1]

    def _count(self, counts: ArmCounts) -> tuple[int, int]:
        if isinstance(self._spec, ErrorsGuardrailSpec):
            events, requests = counts.errors, counts.requests
        elif isinstance(self._spec, EmptyAnswersGuardrailSpec):
            events, requests = counts.empty, counts.rankings
        else:
            events, requests = counts.fallbacks, counts.rankings
        # The two are counted a moment apart, so that a page may have one event more than requests.
        return min(events, requests), requests

    def to_json(self) -> dict[str, Any]:
        return {
            "process": asdict(self.process),
            "total": self._total,
            "recent": [[seconds, *values] for seconds, values in self._recent.windows],
        }

    def restore(self, document: Mapping[str, Any]) -> None:
        self.process = FaultProcess(**document["process"])
        self._total = list(document["total"])
        self._recent = _RecentSums()
        for seconds, *values in document["recent"]:
            self._recent.add(seconds, tuple(values))


class _LatencyGuardrail:
    """Requests that are slower than a quantile of the reference."""

    def __init__(self, spec: LatencyGuardrailSpec) -> None:
        self._spec = spec
        self.process = FaultProcess()
        self._recent: deque[tuple[float, Histogram, Histogram]] = deque()
        self._seconds = 0.0
        self._history: dict[float, int] = {}
        """The reference's requests: of the recent windows, or the arm's own of all windows."""
        self._total = 0
        self._threshold = math.nan

    def add(self, arm: ArmCounts, reference: ArmCounts | None, seconds: float) -> None:
        spec = self._spec
        rare = 1 - spec.quantile
        floor = spec.ignore_below.total_seconds()
        histogram = arm.seconds
        # Versions of different releases may have different buckets.
        edges = histogram.keys() & self._history.keys() & (histogram if reference is None else reference.seconds).keys()
        threshold = choose_threshold(self._history, rare, floor, edges)
        if threshold is not None:
            # A tail that grows alone doubles the quantile and moves few requests across it, but many across its double.
            double = max(edge for edge in edges if threshold <= edge <= 2 * threshold)
            factors = [
                factor
                for edge, limit in ((threshold, rare), (double, rare / 2))
                for factor in self._compare(histogram, reference, edge, limit)
            ]
            self.process.advance(factors, seconds)
            self._threshold = threshold
            self._total += sum(histogram.values())
        self._remember(seconds, histogram, histogram if reference is None else reference.seconds, reference is None)

    def _compare(self, arm: Histogram, reference: ArmCounts | None, edge: float, limit: float) -> list[float]:
        slow, requests = count_above(arm, edge), sum(arm.values())
        if reference is None:
            share = count_above(self._history, edge) / sum(self._history.values())
            return compare_to_limit(slow, requests, min(0.99, max(limit, self._spec.times * share)))
        stable = count_above(reference.seconds, edge), sum(reference.seconds.values())
        return compare_rates(slow, requests, limit, self._spec.times, *stable)

    def _remember(self, seconds: float, arm: Histogram, reference: Histogram, keep: bool) -> None:
        self._recent.append((seconds, arm, reference))
        self._seconds += seconds
        for edge, count in reference.items():
            self._history[edge] = self._history.get(edge, 0) + count
        while len(self._recent) > 1 and self._seconds - self._recent[0][0] >= RECENT:
            length, _, oldest = self._recent.popleft()
            self._seconds -= length
            for edge, count in oldest.items() if not keep else ():
                self._history[edge] -= count

    def measure(self) -> tuple[float, float, int]:
        own = add_histograms(arm for _, arm, _ in self._recent)
        reference = self._spec.ignore_below.total_seconds() if math.isnan(self._threshold) else self._threshold
        return find_quantile(own, self._spec.quantile), reference, self._total

    def to_json(self) -> dict[str, Any]:
        return {
            "process": asdict(self.process),
            "total": self._total,
            "threshold": None if math.isnan(self._threshold) else self._threshold,
            "history": _write_histogram(self._history),
            "recent": [[length, _write_histogram(arm), _write_histogram(other)] for length, arm, other in self._recent],
        }

    def restore(self, document: Mapping[str, Any]) -> None:
        self.process = FaultProcess(**document["process"])
        self._total = document["total"]
        self._threshold = math.nan if document["threshold"] is None else document["threshold"]
        self._history = _read_histogram(document["history"])
        recent = document["recent"]
        self._recent = deque((length, _read_histogram(arm), _read_histogram(other)) for length, arm, other in recent)
        self._seconds = sum(length for length, _, _ in self._recent)


class _DriftGuardrail:
    """The distribution of the scores of first items, against that of the arm's first hour."""

    def __init__(self, spec: ScoreDriftGuardrailSpec) -> None:
        self._spec = spec
        self.process = FaultProcess()
        self._reference: dict[float, int] = {}
        self._is_complete = False
        self._block: dict[float, int] = {}
        self._last_block: dict[float, int] = {}
        self._seconds = 0.0
        self._total = 0

    def add(self, arm: ArmCounts, reference: ArmCounts | None, seconds: float) -> None:
        self._block = add_histograms([self._block, arm.top_scores])
        self._seconds += seconds
        scores = sum(self._block.values())
        self._total += sum(arm.top_scores.values())
        if not self._is_complete:
            if self._seconds >= REFERENCE_SECONDS and scores >= REFERENCE_SCORES:
                self._reference, self._block, self._seconds, self._is_complete = self._block, {}, 0.0, True
        elif self._seconds >= BLOCK_SECONDS and scores >= BLOCK_SCORES:
            self._compare()
            self._last_block, self._block, self._seconds = self._block, {}, 0.0

    def _compare(self) -> None:
        edges = choose_edges(self._reference)
        first = smooth_shares(bin_scores(self._reference, edges))
        forecast = smooth_shares(bin_scores(self._last_block or self._reference, edges))
        counts = bin_scores(self._block, edges)
        self.process.advance([weigh_drift(counts, forecast, first, self._spec.limit)], self._seconds)

    def measure(self) -> tuple[float, float, int]:
        index = 0.0
        if self._last_block:
            edges = choose_edges(self._reference)
            shares = [smooth_shares(bin_scores(part, edges)) for part in (self._last_block, self._reference)]
            index = compute_psi(*shares)
        return index, self._spec.limit, self._total

    def to_json(self) -> dict[str, Any]:
        return {
            "process": asdict(self.process),
            "reference": _write_histogram(self._reference),
            "complete": self._is_complete,
            "block": _write_histogram(self._block),
            "last": _write_histogram(self._last_block),
            "seconds": self._seconds,
            "total": self._total,
        }

    def restore(self, document: Mapping[str, Any]) -> None:
        self.process = FaultProcess(**document["process"])
        self._reference = _read_histogram(document["reference"])
        self._is_complete = document["complete"]
        self._block = _read_histogram(document["block"])
        self._last_block = _read_histogram(document["last"])
        self._seconds, self._total = document["seconds"], document["total"]


def choose_threshold(histogram: Histogram, rare: float, floor: float, edges: Iterable[float]) -> float | None:
    """Return the bucket's edge that is nearest to a high quantile.

    Parameters
    ----------
    histogram
        Seconds of requests.
    rare
        The share of requests above the quantile, such as 0.01.
    floor
        Seconds: an edge below it is not taken.
    edges
        Edges that another histogram has as well. Others are not taken.

    Returns
    -------
    float or None
        Seconds. None if there are fewer than `FEWEST_REQUESTS` requests, or if too many lie above the last edge.

    Notes
    -----
    The nearest by the logarithm of the share above. An edge with more than five times `rare` above it is never taken,
    as a doubled quantile would not be seen there; one with nothing above it only if there is no other.
    """
    total = sum(histogram.values())
    if total < FEWEST_REQUESTS:
        return None
    shared = set(edges)
    best, best_distance = None, math.inf
    above = 0
    for edge in sorted(histogram, reverse=True):
        if floor <= edge < math.inf and edge in shared:
            if above > _MOST_SLOW * rare * total:
                break
            distance = abs(math.log(max(above, 0.01) / (rare * total)))
            if distance <= best_distance:
                best, best_distance = edge, distance
        above += histogram[edge]
    return best


def find_quantile(histogram: Histogram, quantile: float) -> float:
    """Return a quantile of a histogram, interpolated within its bucket; 0 without observations."""
    total = sum(histogram.values())
    if not total:
        return 0.0
    edges = sorted(histogram)
    cumulated = np.cumsum([histogram[edge] for edge in edges])
    place = int(np.searchsorted(cumulated, quantile * total))
    before = edges[place - 1] if place else 0.0
    if math.isinf(edges[place]):
        return before
    inside = (quantile * total - (cumulated[place - 1] if place else 0)) / histogram[edges[place]]
    return before + (edges[place] - before) * float(inside)


def _write_histogram(histogram: Histogram) -> list[list[float | None]]:
    return [[None if math.isinf(edge) else edge, count] for edge, count in histogram.items()]


def _read_histogram(pairs: Iterable[Sequence[Any]]) -> dict[float, int]:
    return {math.inf if edge is None else edge: count for edge, count in pairs}
