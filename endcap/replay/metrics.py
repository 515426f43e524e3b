"""The result of the latest replay, kept in the store for a monitor."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from prometheus_client.core import Metric

from endcap.monitoring.families import Families
from endcap.replay.reasons import UNEXPLAINED
from endcap.replay.report import ReplayReport
from endcap.store import Store

_FOLDER = "replays"
_KIND = ("recommender",)
_DECLARED = (
    ("endcap_replay_answers", "Answers of the latest replay, by outcome", (*_KIND, "check", "outcome")),
    ("endcap_replay_changed_answers", "Those that would have been others", (*_KIND, "check", "outcome")),
    ("endcap_replay_passed", "1 if no more answers than allowed were unexplained", _KIND),
    ("endcap_replay_timestamp_seconds", "When the latest replay ended", _KIND),
    ("endcap_replay_seconds", "What it took", _KIND),
)


def keep_report(store: Store, report: ReplayReport, allowed: float) -> None:
    """Keep a report in the store as `replays/<recommender>`, in place of an older one.

    Parameters
    ----------
    store
        The store.
    report
        The report.
    allowed
        The share of answers that may be unexplained.
    """
    document = {**report.to_json(), "passed": report.unexplained_share <= allowed}

    def replace(before: dict[str, Any] | None) -> dict[str, Any]:
        return before if before is not None and before["ended"] > document["ended"] else document

    store.update_document(f"{_FOLDER}/{report.recommender}", replace)


class ReplayMetrics:
    """Reads the latest replay of each recommender of a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def read(self) -> list[Metric]:
        """Return the metrics. Raises EndcapError for a store that does not answer."""
        families = Families(_DECLARED)
        for name in sorted(self._store.list_documents(_FOLDER)):
            document = self._store.read_document(name)
            if document is not None:
                _add_replay(families, name.partition("/")[2], document)
        return families.list_metrics()


def _add_replay(families: Families, recommender: str, document: dict[str, Any]) -> None:
    families.add("endcap_replay_passed", document["passed"], recommender)
    families.add("endcap_replay_timestamp_seconds", datetime.fromisoformat(document["ended"]), recommender)
    families.add("endcap_replay_seconds", document["seconds"], recommender)
    for check, counts in document["checks"].items():
        for outcome, count in {UNEXPLAINED: 0, **counts["answers"]}.items():
            families.add("endcap_replay_answers", count, recommender, check, outcome)
        for outcome, count in counts["changed"].items():
            families.add("endcap_replay_changed_answers", count, recommender, check, outcome)
