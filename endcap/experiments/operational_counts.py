"""What predictors and Envoy counted in one stretch of time, by arm: plain values that guardrails read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

Histogram = Mapping[float, int]
"""Observations by the upper edge of their bucket (``inf`` for the last). Each is counted in one bucket alone."""


@dataclass(frozen=True)
class ArmCounts:
    """What one arm answered in one window.

    Attributes
    ----------
    requests, errors
        Requests, and those that ended with a server error or not in time.
    rankings, empty, fallbacks
        Rankings in the answers, those without an item, and those with items that the model did not choose.
    seconds
        How long requests took, by bucket.
    top_scores
        The score of each ranking's first item, by bucket.
    """

    requests: int = 0
    errors: int = 0
    rankings: int = 0
    empty: int = 0
    fallbacks: int = 0
    seconds: Histogram = field(default_factory=dict)
    top_scores: Histogram = field(default_factory=dict)


@dataclass(frozen=True)
class OperationsWindow:
    """What all arms answered in the same seconds.

    Attributes
    ----------
    begin, end
        The window, UTC.
    arms
        The counts by the arm's name. An arm is absent if none of its sources could be read.
    """

    begin: datetime
    end: datetime
    arms: Mapping[str, ArmCounts]

    @property
    def length(self) -> float:
        """The window's length in seconds."""
        return (self.end - self.begin).total_seconds()


def add_histograms(histograms: Iterable[Histogram]) -> dict[float, int]:
    """Add histograms up, bucket by bucket."""
    total: dict[float, int] = {}
    for histogram in histograms:
        for edge, count in histogram.items():
            total[edge] = total.get(edge, 0) + count
    return dict(sorted(total.items()))


def count_above(histogram: Histogram, threshold: float) -> int:
    """Count observations above a threshold, which is an edge of the histogram."""
    return sum(count for edge, count in histogram.items() if edge > threshold)
