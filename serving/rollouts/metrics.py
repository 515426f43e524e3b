"""The rollout controller's metrics for Prometheus. What the rollouts themselves do, `endcap metrics` tells."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import Counter, Gauge

from endcap.rollout.cluster_loop import RecommenderReport

LEADER = Gauge("endcap_rollout_controller_leader", "1 if this process holds the Lease and acts.")
ROUNDS = Counter("endcap_rollout_controller_rounds_total", "Rounds over all recommenders that came to their end.")
LAST_ROUND = Gauge("endcap_rollout_controller_last_round_seconds", "When the last of these ended, since 1970.")
ERRORS = Counter(
    "endcap_rollout_controller_errors_total",
    "Attempts that failed, and are repeated, by place and code.",
    ["place", "code"],
)


def count_errors(reports: Iterable[RecommenderReport]) -> None:
    """Count what went wrong with each recommender in an attempt."""
    for report in reports:
        for place, error in report.errors.items():
            ERRORS.labels(place, error.code).inc()


def count_round() -> None:
    """Count a round that came to its end."""
    ROUNDS.inc()
    LAST_ROUND.set_to_current_time()
