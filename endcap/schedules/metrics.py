"""Metrics of schedules for Prometheus: from their ledgers, and from what a scheduler says that it looks after."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from prometheus_client.core import Metric

from endcap.monitoring.families import Families
from endcap.schedules.ledger import read_ledger
from endcap.spec.schedule import PartSchedule
from endcap.store import Store

_FOLDER = "schedules"
_KIND = ("recommender", "part")
_DECLARED = (
    ("endcap_schedule_begin_timestamp_seconds", "When a schedule was looked after first", _KIND),
    ("endcap_schedule_last_success_timestamp_seconds", "When a schedule's run succeeded last", _KIND),
    ("endcap_schedule_late_after_seconds", "How long a schedule may be without a success, by its spec", _KIND),
    ("endcap_schedule_running", "1 while a schedule's run goes on", _KIND),
    ("endcap_schedule_waiting", "A schedule's runs that are due and wait", _KIND),
    ("endcap_schedule_steps_total", "What was decided and happened, with its reason", (*_KIND, "step", "reason")),
)


def declare_schedules(store: Store, recommender: str, schedules: Mapping[str, PartSchedule]) -> None:
    """Say in the store which schedules of a recommender are looked after, with the limits of their alert.

    A monitor reads no specs. The document, `schedules/<recommender>`, is replaced, so that a part that its spec no
    longer has ends here too.

    Parameters
    ----------
    store, recommender
        Where, and whose.
    schedules
        The schedules by their part.
    """

    def declare(before: dict[str, object] | None) -> dict[str, object]:
        old = (before or {}).get("parts")
        begun = {name: facts["begun"] for name, facts in old.items()} if isinstance(old, dict) else {}
        now = datetime.now(UTC).timestamp()
        parts = {
            name: {
                "begun": begun.get(name, now),
                "late_after": None if schedule.late_after is None else schedule.late_after.total_seconds(),
            }
            for name, schedule in schedules.items()
        }
        return before if before is not None and old == parts else {"parts": parts}

    store.update_document(f"{_FOLDER}/{recommender}", declare)


class ScheduleMetrics:
    """Reads which schedules of a store are looked after, and their ledgers.

    Parameters
    ----------
    store
        The store.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def read(self) -> list[Metric]:
        """Return the metrics. Raises EndcapError for a store that does not answer, or a damaged ledger."""
        families = Families(_DECLARED)
        for name in sorted(self._store.list_documents(_FOLDER)):
            document = self._store.read_document(name) or {}
            for part, facts in document["parts"].items():
                _add_schedule(families, self._store, name.partition("/")[2], part, facts)
        return families.list_metrics()


def _add_schedule(
    families: Families, store: Store, recommender: str, part: str, facts: Mapping[str, float | None]
) -> None:
    ledger, kind = read_ledger(store, recommender, part), (recommender, part)
    families.add("endcap_schedule_begin_timestamp_seconds", facts["begun"], *kind)
    families.add("endcap_schedule_last_success_timestamp_seconds", ledger.succeeded_at, *kind)
    families.add("endcap_schedule_late_after_seconds", facts["late_after"], *kind)
    families.add("endcap_schedule_running", ledger.claim is not None, *kind)
    families.add("endcap_schedule_waiting", len(ledger.queue), *kind)
    for name, count in ledger.counts.items():
        step, _, reason = name.partition(":")
        families.add("endcap_schedule_steps_total", count, *kind, step, reason)
