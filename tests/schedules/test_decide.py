"""What is due: each skip has its reason, and a version of the data makes at most one run due."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from endcap.errors import IntegrityError
from endcap.schedules.decide import decide
from endcap.schedules.ledger import ScheduleLedger, read_ledger, update_ledger
from endcap.schedules.ledger_records import DueRun, RunClaim
from endcap.spec.schedule import ArrivalSpec, PartSchedule
from endcap.store import Store

NOW = datetime(2026, 3, 2, 3, 0, 5, tzinfo=UTC)
DAY = timedelta(days=1)
NIGHTLY = PartSchedule(cron="0 3 * * *")
POLLED = PartSchedule(arrival=ArrivalSpec())


def _begun(**values: object) -> ScheduleLedger:
    return ScheduleLedger(cursor=NOW - timedelta(minutes=1)).change(**values)


def _busy(version: str = "v0") -> RunClaim:
    due = DueRun(number=1, cause="arrival", at=NOW - DAY, version=version)
    return RunClaim(due=due, run="shop-1", attempt=1, host="here", pid=7)


def _list_due(ledger: ScheduleLedger) -> list[tuple[str, str]]:
    return [(due.cause, due.version) for due in ledger.queue]


def _list_skips(ledger: ScheduleLedger) -> list[str]:
    return [entry.reason for entry in ledger.entries if entry.step == "skipped"]


def test_a_new_schedule_begins_now() -> None:
    ledger = decide(NOW, NIGHTLY, ScheduleLedger(), "v1")
    assert (ledger.cursor, ledger.queue) == (NOW, ())
    assert _list_due(decide(NOW + DAY, NIGHTLY, ledger, "v1")) == [("cron", "v1")]


def test_data_are_new_once() -> None:
    ledger = decide(NOW, POLLED, _begun(), "v1")
    assert _list_due(ledger) == [("arrival", "v1")]
    assert decide(NOW, POLLED, ledger, "v1") == ledger
    claimed = ledger.claim_next("run", "here", 7, NOW)
    assert decide(NOW, POLLED, claimed, "v1") == claimed
    over = claimed.settle("run", "succeeded", "", NOW)
    assert decide(NOW, POLLED, over, "v1") == over
    # A version that comes back, after a file went, has run.
    assert decide(NOW, POLLED, over.change(arrived="v2"), "v1").queue == ()


def test_what_failed_has_another_chance_at_a_time_and_not_at_each_poll() -> None:
    failed = _begun().mark("v1", "failed")
    assert decide(NOW, POLLED, failed, "v1").queue == ()
    assert _list_due(decide(NOW, NIGHTLY, failed, "v1")) == [("cron", "v1")]
    assert _list_skips(decide(NOW, NIGHTLY, _begun().mark("v1", "ran"), "v1")) == ["no-new-data"]
    assert _list_skips(decide(NOW, NIGHTLY, _begun(), "")) == ["no-data"]


@pytest.mark.parametrize(
    ("catch_up", "due", "skips"),
    [
        ("skip", 1, ["missed", "missed"]),
        ("last", 1, ["superseded", "superseded"]),
        ("all", 3, []),
    ],
)
def test_times_that_passed_are_caught_up_as_the_spec_says(catch_up: str, due: int, skips: list[str]) -> None:
    schedule = NIGHTLY.model_copy(update={"catch_up": catch_up})
    ledger = decide(NOW, schedule, _begun(cursor=NOW - 3 * DAY), "v1")
    assert (len(ledger.queue), _list_skips(ledger)) == (due, skips)
    if catch_up == "all":
        assert [due.until for due in ledger.queue] == [entry.at for entry in ledger.queue]
    late = decide(NOW + DAY / 2, schedule, _begun(cursor=NOW - DAY / 2), "v1")
    assert (len(late.queue), _list_skips(late)) == ((0, ["missed"]) if catch_up == "skip" else (1, []))


@pytest.mark.parametrize(
    ("concurrency", "due", "skips", "end"),
    [
        ("wait", [("arrival", "v1")], [], ""),
        ("skip", [], ["run-goes-on"], ""),
        ("replace", [("arrival", "v1")], [], "replaced"),
    ],
)
def test_a_run_that_goes_on_is_met_as_the_spec_says(
    concurrency: str, due: list[tuple[str, str]], skips: list[str], end: str
) -> None:
    schedule = POLLED.model_copy(update={"concurrency": concurrency})
    ledger = decide(NOW, schedule, _begun(claim=_busy()), "v1")
    assert (_list_due(ledger), _list_skips(ledger)) == (due, skips)
    assert ledger.claim is not None
    assert ledger.claim.end == end
    # Each poll meets the same data, which are decided on once.
    assert decide(NOW, schedule, ledger, "v1") == ledger
    newer = decide(NOW, schedule, ledger, "v2")
    if concurrency != "skip":
        assert (_list_due(newer), _list_skips(newer)) == ([("arrival", "v2")], ["superseded"])


def test_new_data_must_settle() -> None:
    schedule = POLLED.model_copy(update={"settle": timedelta(minutes=5)})
    ledger = decide(NOW, schedule, _begun(), "v1")
    ledger = decide(NOW + timedelta(minutes=4), schedule, ledger, "v2")
    ledger = decide(NOW + timedelta(minutes=8), schedule, ledger, "v2")
    assert (ledger.queue, ledger.counts["skipped:not-settled"]) == ((), 3)
    assert _list_due(decide(NOW + timedelta(minutes=9), schedule, ledger, "v2")) == [("arrival", "v2")]


def test_a_retriggered_run_is_due_whatever_ran() -> None:
    ledger = _begun().mark("v1", "ran").retrigger("jane", "a bug in the rules", "v1", NOW)
    assert _list_due(ledger) == [("retrigger", "v1")]
    assert (ledger.entries[-1].step, ledger.entries[-1].by) == ("retriggered", "jane")
    # Newer data do not push it out.
    assert _list_due(decide(NOW, POLLED, ledger, "v2")) == [("retrigger", "v1"), ("arrival", "v2")]


def test_a_process_that_was_replaced_cannot_take_its_claim_back() -> None:
    ledger = decide(NOW, POLLED, _begun(), "v1").claim_next("run-1", "here", 7, NOW)
    claim = ledger.claim
    assert claim is not None
    taken = ledger.take_over(claim, "run-2", "there", 8, NOW)
    assert taken.confirm("run-1", "here", 9, NOW, DAY) == taken
    assert taken.settle("run-1", "succeeded", "", NOW) == taken
    assert taken.take_over(claim, "run-3", "here", 7, NOW) == taken
    confirmed = taken.confirm("run-2", "there", 10, NOW, DAY)
    assert confirmed.claim is not None
    assert (confirmed.claim.pid, confirmed.claim.attempt, confirmed.claim.ends_by) == (10, 1, NOW + DAY)


def test_a_run_that_is_always_killed_fails_in_the_end() -> None:
    ledger, attempts = decide(NOW, POLLED, _begun(), "v1").claim_next("run", "here", 7, NOW), 0
    while ledger.claim is not None:
        attempts += 1
        ledger = ledger.confirm(ledger.claim.run, "here", 8, NOW, DAY)
        assert ledger.claim is not None
        ledger = ledger.take_over(ledger.claim, f"run-{attempts}", "here", 7, NOW)
    assert (attempts, ledger.entries[-1].step, ledger.entries[-1].reason) == (5, "failed", "killed-too-often")


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 90), st.integers(0, 5), st.booleans()), max_size=40),
    st.sampled_from(["skip", "last", "all"]),
)
def test_a_version_runs_at_most_once_and_each_time_is_decided_on(
    looks: list[tuple[int, int, bool]], catch_up: str
) -> None:
    schedule = PartSchedule(cron="*/30 * * * *", arrival=ArrivalSpec(), catch_up=catch_up)
    now, ledger, runs = NOW, _begun(), 0
    for minutes, data, is_done in looks:
        now += timedelta(minutes=minutes)
        ledger = decide(now, schedule, ledger, f"v{data}")
        assert decide(now, schedule, ledger, f"v{data}") == ledger
        if ledger.claim is None and ledger.queue:
            runs += 1
            ledger = ledger.claim_next(f"run-{runs}", "here", 7, now)
        if ledger.claim is not None and is_done:
            ledger = ledger.settle(ledger.claim.run, "succeeded", "", now)
    begun = [entry for entry in ledger.entries if entry.step == "started"]
    numbers = [entry.number for entry in begun]
    assert numbers == sorted(set(numbers))
    # With `all`, a time has a run of its own: it reads the events before it.
    plain = [entry.version for entry in begun if not (catch_up == "all" and entry.cause == "cron")]
    assert len(plain) == len(set(plain))


def test_a_damaged_ledger_is_refused(store: Store) -> None:
    update_ledger(store, "shoes", "train", lambda ledger: ledger.change(cursor=NOW))
    store.write_document("schedules/shoes/train", {"queue": 3})
    with pytest.raises(IntegrityError) as caught:
        read_ledger(store, "shoes", "train")
    assert caught.value.code == "schedule.ledger-damaged"
