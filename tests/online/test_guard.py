"""An online store as serving asks it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from endcap.errors import OnlineStoreError
from endcap.online import (
    CUSTOMERS,
    OWNED,
    GuardedRows,
    GuardedStore,
    OnlineQuery,
    OnlineResult,
    OnlineStore,
    RecentEvent,
    ShopperData,
    open_online,
)
from tests.serving.pod import wait_for

DAY = timedelta(days=1)
AWAY = ShopperData([[], []], [set(), set()], True, [False, False], ["none", "none"])


@pytest.fixture
def store(tmp_path: Path) -> Iterator[OnlineStore]:
    with open_online(f"sqlite://{tmp_path}/online.sqlite", shop="shop", timeout=5) as opened:
        yield opened


class Fault:
    """Makes a store's reading fail, or hang until `over` is set; counts the calls."""

    def __init__(self, store: OnlineStore, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls, self.hangs, self.error = 0, False, None
        self.over = threading.Event()
        self._read = store.read
        monkeypatch.setattr(store, "read", self)

    error: Exception | None

    def __call__(self, wanted: OnlineQuery) -> OnlineResult:
        self.calls += 1
        if self.hangs:
            self.over.wait(60)
        if self.error is not None:
            raise self.error
        return self._read(wanted)


@pytest.fixture
def fault(store: OnlineStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fault]:
    fault = Fault(store, monkeypatch)
    yield fault
    fault.over.set()


def guarded(store: OnlineStore, **keys: Any) -> GuardedStore:
    return GuardedStore(store, **{"timeout": 20.0, "rest": 600, **keys})


def test_a_session_comes_before_its_customer_and_both_own(store: OnlineStore, fault: Fault) -> None:
    for owner, item in (("customer:1", "a"), ("customer:2", "b"), ("session:2|s", "c"), ("session:|s", "d")):
        store.append({owner: [RecentEvent(item, 1), RecentEvent(item, 2)]}, DAY)
    store.add(CUSTOMERS, {"session:|s": ["2", "3"]}, DAY)
    store.add(OWNED, {"customer:1": ["x"], "customer:2": ["y"], "session:2|s": ["z"], "session:|s": ["n"]}, None)
    found = guarded(store).look_up(["1", "2", "2", None, "9", None], [None, None, "s", "s", "t", None], 1)
    a, b, c, d = ([RecentEvent(item, 2)] for item in "abcd")
    assert found == ShopperData(
        [a, b, c, d, [], []],
        [{"x"}, {"y"}, {"y", "z"}, {"n"}, set(), set()],
        False,
        [True, True, True, True, False, False],
        ["customer", "customer", "session", "session", "none", "none"],
    )
    assert fault.calls == 1


@pytest.mark.parametrize(
    ("known", "theirs", "nobodys", "most", "expected"),
    [
        ([], "", "ab", 9, "ab"),  # who has just said who they are
        (["1"], "c", "ab", 9, "abc"),
        (["1"], "ac", "bd", 3, "bcd"),
        (["1", "2"], "c", "ab", 9, "c"),
        (["2"], "", "ab", 9, "z"),  # nobody's may be the other's: the customer's own, of another session
        (["1"], "c", "ab", 0, ""),
    ],
)
def test_a_customers_session_has_nobodys_events_where_no_other_customer_has_its_id(
    store: OnlineStore, known: list[str], theirs: str, nobodys: str, most: int, expected: str
) -> None:
    seen = {"session:1|s": theirs, "session:|s": nobodys, "session:2|s": "xy", "customer:1": "z"}
    store.append({owner: [RecentEvent(item, ord(item)) for item in items] for owner, items in seen.items()}, DAY)
    store.add(CUSTOMERS, {"session:|s": known}, DAY)
    (found,) = guarded(store).look_up(["1"], ["s"], most).events
    assert "".join(event.item for event in found) == expected
    (alone,) = guarded(store).look_up([None], ["s"], 9).events
    assert "".join(event.item for event in alone) == nobodys


def test_requests_without_ids_do_not_ask_the_store(store: OnlineStore, fault: Fault) -> None:
    fault.error = OnlineStoreError("down", code="online.unavailable")
    assert guarded(store).look_up([None], [None], 5) == ShopperData([[]], [set()], False, [False], ["none"])
    assert fault.calls == 0


def test_an_id_that_is_not_a_text_is_ignored_and_no_failure(store: OnlineStore, fault: Fault) -> None:
    store.append({"session:|1": [RecentEvent("a", 1)]}, DAY)
    found = guarded(store, history="features/customers/k").look_up(["\ud800", "\ud800"], ["1", None], 5)
    assert found == ShopperData([[RecentEvent("a", 1)], []], [set(), set()], False, [True, False], ["session", "none"])


@pytest.mark.parametrize(
    "error", [OnlineStoreError("down", code="online.unavailable"), RuntimeError("a mistake in the store")]
)
def test_after_a_failure_the_store_is_left_alone_for_a_while(
    store: OnlineStore, fault: Fault, error: Exception
) -> None:
    seen: list[str] = []
    asked = guarded(store, observe=lambda outcome, seconds: seen.append(outcome))
    fault.error = error
    assert [asked.look_up(["1", "2"], [None, None], 5) for _ in range(3)] == [AWAY] * 3
    assert asked.rows("lists", ["1"]) == GuardedRows([None], True)
    assert (fault.calls, seen) == (1, ["failed", "skipped", "skipped", "skipped"])
    assert asked.degraded
    assert asked.error == str(error)
    soon = guarded(store, rest=0.01, observe=lambda outcome, seconds: seen.append(outcome))
    wait_for(lambda: soon.look_up(["1", "2"], [None, None], 5).degraded and fault.calls == 3, "it is asked again")
    fault.error = None
    wait_for(lambda: not soon.look_up(["1", "2"], [None, None], 5).degraded, "it is well again")
    assert (soon.degraded, soon.error, seen[-1]) == (False, "", "ok")


def test_a_slow_store_costs_its_time_once(store: OnlineStore, fault: Fault) -> None:
    asked = guarded(store, timeout=0.05)
    fault.hangs = True
    begun = time.monotonic()
    for _ in range(100):
        assert asked.look_up(["1", "2"], [None, None], 5) == AWAY
    assert 0.05 <= time.monotonic() - begun < 30
    assert fault.calls == 1
    assert asked.error == "no answer in 0.05 s"


def test_one_of_many_tries_the_store_again(store: OnlineStore, fault: Fault) -> None:
    asked = guarded(store, rest=0.5)
    fault.error = OnlineStoreError("down", code="online.unavailable")
    asked.rows("lists", ["1"])
    time.sleep(0.6)
    fault.hangs, fault.calls = True, 0
    together = threading.Barrier(16)
    threads = [threading.Thread(target=lambda: together.wait() and asked.rows("lists", ["1"])) for _ in range(16)]
    for thread in threads:
        thread.start()
    wait_for(lambda: sum(thread.is_alive() for thread in threads) == 1, "the others go on without it")
    fault.over.set()
    for thread in threads:
        thread.join()
    assert fault.calls == 1


def test_rows_are_those_of_the_published_version(store: OnlineStore) -> None:
    store.write("lists", "v1", {"1": b"one"})
    store.publish("lists", "v1")
    store.write("lists", "v2", {"1": b"two"})
    assert guarded(store).rows("lists", ["2", "1"]) == GuardedRows([None, b"one"], False)
