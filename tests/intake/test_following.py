"""The online store follows, and where it does not nobody waits for it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from endcap.errors import OnlineStoreError
from endcap.online import KeyFault, OnlineStore, RecentEvent, open_online
from endcap.online.record_updates import Retention
from endcap.online.sqlite import SQLiteStore
from endcap_serving.intake import metrics, online_writer
from endcap_serving.intake.online_writer import EVENTS, ORDERS, OnlineWriter
from tests.intake.servers import Server, event, eventually, run_server


class Flaky(SQLiteStore):
    """A store that is away while it is told to be."""

    away = True

    def append(self, events: Mapping[str, Sequence[RecentEvent]], keep: timedelta) -> Mapping[str, KeyFault]:
        if self.away:
            raise OnlineStoreError("it is away", code="online.unavailable")
        return super().append(events, keep)

    def add(
        self, name: str, members: Mapping[str, Iterable[str]], keep: timedelta | None, most: int | None = None
    ) -> Mapping[str, KeyFault]:
        if self.away:
            raise OnlineStoreError("it is away", code="online.unavailable")
        return super().add(name, members, keep, most)


@pytest.fixture
def flaky(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Flaky:
    monkeypatch.setattr(online_writer, "WAITS", (0.02,))
    return Flaky(tmp_path / "online.sqlite", "shop", 5.0)


def now() -> int:
    return time.time_ns() // 1_000_000


def make_view(item: str, **more: Any) -> dict[str, Any]:
    return {"id": item, "item": item, "customer": "c1", "session": "s1", "time": now(), "type": "view", **more}


def items(store: OnlineStore, owner: str) -> list[str]:
    return [one.item for one in store.recent([owner], 10)[0]]


def test_events_are_recent_and_orders_are_owned(tmp_path: Path) -> None:
    store = open_online(f"sqlite://{tmp_path}/online.sqlite", shop="shop", timeout=5.0)
    follower = OnlineWriter(store, Retention(owned_types=["rent"]))
    follower.start()
    second, moment = 1000, now()
    follower.offer(
        EVENTS, [make_view("p1", time=moment - 3 * second), make_view("p2", time=moment - 2 * second, type="rent")]
    )
    follower.offer(EVENTS, [make_view("p3", time=moment - second, customer=None)])
    follower.offer(EVENTS, [make_view("old", time=moment - 8 * 86_400_000)])
    order = {"id": "o", "customer": "c1", "items": [{"item": "p4"}, {"item": "p5"}], "time": moment}
    follower.offer(ORDERS, [order])
    follower.end(10)
    store = open_online(f"sqlite://{tmp_path}/online.sqlite", shop="shop", timeout=5.0)
    assert items(store, "session:c1|s1") == ["p1", "p2"]
    assert items(store, "session:|s1") == ["p3"]
    assert store.members("customers", ["session:|s1"]) == [{"c1"}]
    assert items(store, "customer:c1") == ["p1", "p2", "p4", "p5"]
    assert store.recent(["customer:c1"], 1)[0][0].type == "purchase"
    assert store.members("owned", ["customer:c1"]) == [{"p2", "p4", "p5"}]


def test_an_event_without_an_item_is_only_activity_of_its_customer(tmp_path: Path) -> None:
    store = open_online(f"sqlite://{tmp_path}/online.sqlite", shop="shop", timeout=5.0)
    follower = OnlineWriter(store, Retention(owned_types=["search"]))
    follower.start()
    search = {"id": "e", "customer": "c1", "session": "s1", "time": now(), "type": "search"}
    follower.offer(EVENTS, [search, {**search, "item": None, "time": now() + 1}, {**search, "customer": None}])
    follower.end(10)
    store = open_online(f"sqlite://{tmp_path}/online.sqlite", shop="shop", timeout=5.0)
    assert [(one.item, one.type) for one in store.recent(["customer:c1"], 9)[0]] == [("", "search")] * 2
    assert items(store, "session:c1|s1") == items(store, "session:|s1") == []
    assert store.members("customers", ["session:|s1"]) == store.members("owned", ["customer:c1"]) == [set()]


def test_customers_of_one_session_id_are_kept_apart_and_two_of_them_are_enough_to_know(tmp_path: Path) -> None:
    store = open_online(f"sqlite://{tmp_path}/online.sqlite", shop="shop", timeout=5.0)
    follower = OnlineWriter(store, Retention())
    follower.start()
    follower.offer(EVENTS, [make_view(f"p{at}", customer=f"c{at}") for at in range(1, 6)])
    follower.offer(ORDERS, [{"id": "o", "customer": "c|7", "session": "s2", "items": [{"item": "q"}], "time": now()}])
    follower.offer(EVENTS, [make_view("p8", customer="c8", session=None)])
    follower.end(10)
    store = open_online(f"sqlite://{tmp_path}/online.sqlite", shop="shop", timeout=5.0)
    assert [items(store, f"session:c{at}|s1") for at in range(1, 6)] == [[f"p{at}"] for at in range(1, 6)]
    assert items(store, "session:|s1") == items(store, "session:s1") == []
    assert items(store, "session:c\\|7|s2") == items(store, "customer:c|7") == ["q"]
    assert [len(some) for some in store.members("customers", ["session:|s1", "session:|s2"])] == [2, 1]


def test_a_store_that_was_away_catches_up(flaky: Flaky) -> None:
    follower = OnlineWriter(flaky, Retention())
    follower.start()
    begun = time.monotonic()
    follower.offer(EVENTS, [make_view(f"p{at}") for at in range(5)])
    assert time.monotonic() - begun < 0.1
    time.sleep(0.1)
    assert follower.lag >= 0.1
    flaky.away = False
    eventually(lambda: follower.lag == 0)
    assert items(flaky, "customer:c1") == [f"p{at}" for at in range(5)]
    follower.end(5)


def test_past_its_bound_the_oldest_are_dropped_and_counted(flaky: Flaky) -> None:
    before = metrics.ONLINE_DROPPED._value.get()
    follower = OnlineWriter(flaky, Retention(), max_waiting=10)
    follower.start()
    for at in range(25):
        follower.offer(EVENTS, [make_view(f"p{at:02}", time=1000 * at + now())])
        time.sleep(0.002)
    flaky.away = False
    eventually(lambda: follower.lag == 0)
    assert metrics.ONLINE_DROPPED._value.get() - before == 15
    assert items(flaky, "session:c1|s1")[-10:] == [f"p{at}" for at in range(15, 25)]
    follower.end(5)


def test_a_new_process_sends_the_online_store_what_a_killed_one_had_not(tmp_path: Path) -> None:
    nobody = "redis://127.0.0.1:1/0"
    server = Server(tmp_path, "--online", nobody, "--shop", "shop", "--segment-age", "1h")
    begun = time.monotonic()
    assert server.post("events", event("e1", customer="c1")).status_code == 200
    assert server.post("orders", {"id": "o", "customer": "c1", "items": [{"item": "p7"}]}).status_code == 200
    assert time.monotonic() - begun < 2
    assert server.metric("endcap_intake_online_waiting") == 2
    eventually(lambda: server.metric("endcap_intake_online_failures_total") >= 1)
    server.kill()
    server.client.close()
    address = f"sqlite://{tmp_path}/online.sqlite"
    store = open_online(address, shop="shop", timeout=5.0)
    with run_server(tmp_path, "--online", address, "--shop", "shop"):
        eventually(lambda: store.members("owned", ["customer:c1"]) == [{"p7"}])
        assert items(store, "session:c1|s1") == ["p1"]
    store.close()
