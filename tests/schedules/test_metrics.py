"""What a store's page says of schedules: limits by their specs, and what their ledgers have."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from endcap.monitoring import StoreCollector
from endcap.schedules.decide import decide
from endcap.schedules.ledger import update_ledger
from endcap.schedules.metrics import ScheduleMetrics, declare_schedules
from endcap.spec.schedule import PartSchedule
from endcap.store import Store

NOW = datetime(2026, 3, 2, 3, 0, 5, tzinfo=UTC)
NIGHTLY = PartSchedule(cron="0 3 * * *", late_after=timedelta(hours=26))
TRAIN = {"recommender": "home", "part": "train"}


def _read(store: Store) -> dict[str, list[tuple[dict[str, str], float]]]:
    collector = StoreCollector(store, more={"schedules": ScheduleMetrics(store).read})
    collector.read()
    return {metric.name: [(sample.labels, sample.value) for sample in metric.samples] for metric in collector.collect()}


def test_a_schedule_has_its_limit_and_its_last_success(store: Store) -> None:
    assert _read(store)["endcap_schedule_late_after_seconds"] == []
    declare_schedules(store, "home", {"train": NIGHTLY, "batch": PartSchedule(cron="0 5 * * *")})
    shown = _read(store)
    assert shown["endcap_schedule_late_after_seconds"] == [(TRAIN, 26 * 3600.0)]
    assert shown["endcap_schedule_last_success_timestamp_seconds"] == []
    assert len(shown["endcap_schedule_begin_timestamp_seconds"]) == 2
    update_ledger(store, "home", "train", lambda ledger: decide(NOW - timedelta(minutes=5), NIGHTLY, ledger))
    update_ledger(store, "home", "train", lambda ledger: decide(NOW, NIGHTLY, ledger).claim_next("r", "here", 7, NOW))
    assert (TRAIN, 1.0) in _read(store)["endcap_schedule_running"]
    update_ledger(store, "home", "train", lambda ledger: ledger.settle("r", "succeeded", "", NOW))
    shown = _read(store)
    assert shown["endcap_schedule_last_success_timestamp_seconds"] == [(TRAIN, NOW.timestamp())]
    assert ({**TRAIN, "step": "succeeded", "reason": ""}, 1.0) in shown["endcap_schedule_steps"]


def test_a_failure_leaves_the_last_success_and_a_part_that_is_gone_has_no_limit(store: Store) -> None:
    declare_schedules(store, "home", {"train": NIGHTLY})
    begun = _read(store)["endcap_schedule_begin_timestamp_seconds"]
    update_ledger(store, "home", "train", lambda ledger: ledger.retrigger("me", "a test", "", NOW))
    update_ledger(store, "home", "train", lambda ledger: ledger.claim_next("r", "here", 7, NOW))
    update_ledger(store, "home", "train", lambda ledger: ledger.settle("r", "failed", "deadline", NOW))
    declare_schedules(store, "home", {"train": NIGHTLY})
    shown = _read(store)
    assert shown["endcap_schedule_last_success_timestamp_seconds"] == []
    assert shown["endcap_schedule_begin_timestamp_seconds"] == begun
    declare_schedules(store, "home", {"batch": PartSchedule(cron="0 5 * * *")})
    assert _read(store)["endcap_schedule_late_after_seconds"] == []
