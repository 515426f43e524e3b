"""Metrics of A/B tests: where each stands, why it holds, which version is most probably the best, and by how much."""

from __future__ import annotations

import math
from collections.abc import Callable

from prometheus_client.core import Metric

from endcap.experiments.ab_log import AbLog, AbLogEntry
from endcap.experiments.ab_state import AbPolicy
from endcap.experiments.splits import TOTAL_WEIGHT
from endcap.monitoring.families import Families
from endcap.store import Store

_NAME = ("recommender",)
_VERSION = ("recommender", "version")
_METRIC = (*_VERSION, "metric")
_DECLARED = (
    ("endcap_ab_info", "1 for the latest A/B test", (*_NAME, "stable_version", "phase", "reason")),
    ("endcap_ab_running", "1 while the test is looked at, 0 when it is over", _NAME),
    ("endcap_ab_epoch", "The number of the present epoch, from 1 on", _NAME),
    ("endcap_ab_begin_timestamp_seconds", "When the test began", _NAME),
    ("endcap_ab_look_timestamp_seconds", "When the last look was", _NAME),
    ("endcap_ab_look_every_seconds", "The policy's look_every", _NAME),
    ("endcap_ab_share", "Of the shoppers, 0 to 1, as the log has it; none when the test is over", _VERSION),
    (
        "endcap_ab_best_probability",
        "How probable the version is the best; none if the last look could not tell",
        _VERSION,
    ),
    ("endcap_ab_effect", "Relative effect on the deciding metric, against the stable version", _METRIC),
    ("endcap_ab_effect_lower", "Its lower bound, which holds at every look; none where nothing is known", _METRIC),
    ("endcap_ab_effect_upper", "Its upper bound, which holds at every look; none where nothing is known", _METRIC),
)


class AbMetrics:
    """Reads the last entry of each recommender's log of A/B tests.

    Parameters
    ----------
    store
        The store.
    list_names
        Returns the recommenders.

    Notes
    -----
    What a test has won against an equal split follows from all of its looks, which are too many to read at each
    scrape. `endcap ab report` has it.
    """

    def __init__(self, store: Store, list_names: Callable[[], list[str]]) -> None:
        self._store, self._list_names = store, list_names
        self._logs: dict[str, AbLog] = {}
        """A log that did not grow since the last scrape is not read again."""
        self._policies: dict[tuple[str, str], AbPolicy] = {}

    def read(self) -> list[Metric]:
        """Return the metrics. Raises EndcapError for a store that does not answer, or a damaged document."""
        families = Families(_DECLARED)
        for name in self._list_names():
            log = self._logs.setdefault(name, AbLog(self._store, name))
            if (entry := log.find_last()) is not None:
                _add_test(families, entry, self._find_policy(log, entry.policy))
        return families.list_metrics()

    def _find_policy(self, log: AbLog, digest: str) -> AbPolicy:
        key = (log.recommender, digest)
        if key not in self._policies:
            self._policies[key] = log.read_policy(digest)
        return self._policies[key]


def _add_test(families: Families, entry: AbLogEntry, policy: AbPolicy) -> None:
    state = entry.after
    name = state.recommender
    families.add("endcap_ab_info", 1, name, state.stable_version, state.phase, state.reason)
    families.add("endcap_ab_running", not state.is_over, name)
    families.add("endcap_ab_epoch", state.epoch + 1, name)
    families.add("endcap_ab_begin_timestamp_seconds", state.created, name)
    families.add("endcap_ab_look_timestamp_seconds", state.looked or state.created, name)
    families.add("endcap_ab_look_every_seconds", policy.ab.look_every.total_seconds(), name)
    for arm, weight in () if state.is_over else state.weights.items():
        families.add("endcap_ab_share", weight / TOTAL_WEIGHT, name, state.name_version(arm))
    for version, chance in entry.best.items():
        families.add("endcap_ab_best_probability", chance, name, version)
    if entry.evidence is None:
        return
    deciding = policy.rollout.deciding_metric.name
    for challenger in entry.evidence.challengers:
        for effect in challenger.effects:
            if effect.metric != deciding:
                continue
            of = (name, challenger.version, deciding)
            families.add("endcap_ab_effect", effect.effect, *of)
            for side, bound in (("lower", effect.lower), ("upper", effect.upper)):
                families.add(f"endcap_ab_effect_{side}", bound if math.isfinite(bound) else None, *of)
