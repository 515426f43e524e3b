"""A dataset's rows in the online store."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

import endcap.features.publishing as publishing
from endcap.errors import OnlineStoreError
from endcap.features import build, retention
from endcap.features.publishing import publish_features
from endcap.features.retention import publish_dataset_rows
from endcap.online import (
    ONLINE,
    GuardedStore,
    OnlineStore,
    RecentEvent,
    get_default_online_url,
    name_feature_table,
    open_online,
)
from endcap.spec.rules import Owned
from endcap.store import Store
from tests.features.logs import DAY, MONDAY, event, shop, snapshot

ITEMS = {"item": ["a", "b", "never seen"], "category": ["pans", None, "pots"], "price": [12.5, None, 1.0]}
ROWS = [
    {**event("s1", "a", 0, "ann"), "type": "view"},
    event("s2", "b", 5, "bob"),
    event("s2", "b", 6, "bob"),
    {**event("s1", "b", 10, "ann"), "type": "purchase"},
    event("s3", "c", 10),
    event("s3", "c", 11),
    {**event("s4", "c", DAY, "ann"), "type": "view"},
    {**event("s4", "a", DAY, "ann"), "type": "view"},
]
TYPED = shop(
    features={"events": [{"name": "kind", "kind": "type", "types": ["purchase", "view"]}]},
)

COLUMNS = {"session": "session", "customer": "customer", "type": "type"}
OWNING = {"owned": {"types": ["buy"]}}
OWNED_FOR = {"a": 6, "b": 4}
"""Items that were bought, by days ago."""


@pytest.fixture
def online(store: Store) -> Iterator[OnlineStore]:
    url = get_default_online_url(store.root)
    assert url is not None
    with open_online(url, shop="shop", timeout=5) as opened:
        yield opened


@pytest.fixture
def dataset(store: Store) -> Path:
    return store.fetch(build(TYPED, snapshot(store, ROWS, items=ITEMS), store))


def row(online: OnlineStore, of: str, key: str, id_: str) -> Any:
    (found,) = online.rows(name_feature_table(of, key), [id_])
    return found and orjson.loads(found)


def test_a_row_says_what_the_dataset_knows_of_an_item_or_a_customer(dataset: Path, online: OnlineStore) -> None:
    assert publish_features(dataset, "k1", online) == {"items": 3, "customers": 2}
    assert row(online, "items", "k1", "a") == {
        "attributes": {"category": "pans", "price": 12.5},
        "events": 2,
        "first_seen": MONDAY,
    }
    assert row(online, "items", "k1", "c")["attributes"] == {"category": None, "price": None}
    assert row(online, "customers", "k1", "ann") == {
        "attributes": {},
        "events": 4,
        "recent": [
            ["a", MONDAY, "view"],
            ["b", MONDAY + 10, "purchase"],
            ["c", MONDAY + DAY, "view"],
            ["a", MONDAY + DAY, "view"],
        ],
    }
    assert row(online, "customers", "k1", "bob")["recent"] == [["b", MONDAY + 5], ["b", MONDAY + 6]]
    assert row(online, "customers", "k1", "zoe") is None
    assert row(online, "customers", "k2", "ann") is None


def test_customers_that_do_not_fit_into_memory_together_are_gone_through_in_turn(
    dataset: Path, online: OnlineStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_features(dataset, "whole", online)
    monkeypatch.setattr(publishing, "EVENTS_AT_ONCE", 1)
    monkeypatch.setattr(publishing, "AT_ONCE", 1)
    assert publish_features(dataset, "parts", online) == {"items": 3, "customers": 2}
    for of, id_ in (("items", "a"), ("items", "c"), ("customers", "ann"), ("customers", "bob")):
        assert row(online, of, "parts", id_) == row(online, of, "whole", id_)


def test_only_a_customers_last_events_are_published(
    dataset: Path, online: OnlineStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "HISTORY", 2)
    publish_features(dataset, "k1", online)
    assert [item for item, *_ in row(online, "customers", "k1", "ann")["recent"]] == ["c", "a"]


def test_where_sessions_are_cut_by_gaps_a_customers_last_one_is_published(
    store: Store, online: OnlineStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search between two views, which the dataset has not, holds the last session together."""
    minutes = [("a", 0), ("b", 100), ("c", 125), ("d", 155)]
    rows = [event("", item, at * 60_000, "ann") for item, at in minutes]
    beside = [event("", "", 145 * 60_000, "ann")]
    its = shop(sessions={"by": "gap", "gap": "29m"}, filters={"min_session_events": 1})
    address = build(its, snapshot(store, rows, activity=beside), store)
    key = store.manifest(address)["facts"]["fingerprint"]
    publish_features(store.fetch(address), key, online)
    assert [item for item, _ in row(online, "customers", key, "ann")["recent"]] == ["a", "b", "c", "d"]
    # Such rows are of an Endcap that knew no better.
    publish_dataset_rows(its, address, store, online=str(get_default_online_url(store.root)))
    assert [item for item, _ in row(online, "customers", key, "ann")["recent"]] == ["b", "c", "d"]
    monkeypatch.setattr(publishing, "HISTORY", 2)
    publish_features(store.fetch(address), "short", online, by_gap=True)
    assert [item for item, _ in row(online, "customers", "short", "ann")["recent"]] == ["c", "d"]


def test_published_rows_are_not_written_again_and_an_interrupted_publication_continues(
    dataset: Path, online: OnlineStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "AT_ONCE", 1)
    write, calls = online.write, []

    def cut_off(*arguments: Any) -> bool:
        calls.append(arguments)
        if len(calls) == 3:
            raise OnlineStoreError("gone", code="online.unavailable")
        return write(*arguments)

    monkeypatch.setattr(online, "write", cut_off)
    with pytest.raises(OnlineStoreError):
        publish_features(dataset, "k1", online)
    assert row(online, "items", "k1", "a") is None
    assert publish_features(dataset, "k1", online) == {"items": 3, "customers": 2}
    calls.clear()
    assert publish_features(dataset, "k1", online) == {"items": 0, "customers": 0}
    assert calls == []


def test_a_predictor_finds_a_customers_history_where_nothing_more_recent_is_there(
    dataset: Path, online: OnlineStore
) -> None:
    publish_features(dataset, "k1", online)
    guarded = GuardedStore(online, history=name_feature_table("customers", "datasets/shop/k1"), timeout=5)
    found = guarded.look_up(["ann", "zoe"], [None, None], 2)
    assert found.events == [[RecentEvent("c", MONDAY + DAY, "view"), RecentEvent("a", MONDAY + DAY, "view")], []]
    online.append({"customer:ann": [RecentEvent("d", MONDAY)]}, timedelta(days=1))
    assert guarded.look_up(["ann"], [None], 2).events == [[RecentEvent("d", MONDAY)]]
    guarded.close()


def test_what_was_bought_is_owned_for_as_long_as_the_rule_says(store: Store, online: OnlineStore) -> None:
    now = int(time.time() * 1000)
    rows = [{**one, "time": one["time"] - MONDAY + now - 10 * DAY, "type": "view"} for one in ROWS]
    rows += [{**rows[0], "item": item, "time": now - days * DAY, "type": "buy"} for item, days in OWNED_FOR.items()]
    selling = shop(events={"sources": [{"path": "e.csv"}], "columns": COLUMNS, "types": ["view"]}, rules=OWNING)
    folder = store.fetch(build(selling, snapshot(store, rows), store))
    guarded = GuardedStore(online, history=name_feature_table("customers", "k1"), timeout=5)
    for keep, owned in ((None, {"a", "b"}), ("5d", {"b"})):
        rule = Owned.model_validate({"types": ["buy"], "keep": keep})
        assert publish_features(folder, "k1", online, owned=rule)["customers"] == 2
        online.add("owned", {"customer:bob": ["z"]}, None)
        assert guarded.look_up(["ann", "bob"], [None, None], 1).owned == [owned, {"z"}]
    guarded.close()


def test_the_step_publishes_in_the_store_that_is_named_else_in_the_default_one(
    store: Store, online: OnlineStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    dataset = build(TYPED, snapshot(store, ROWS), store)
    key = store.manifest(dataset)["facts"]["fingerprint"]
    monkeypatch.setenv(ONLINE, "none")
    assert publish_dataset_rows(TYPED, dataset, store) == ""
    monkeypatch.setenv(ONLINE, f"sqlite://{tmp_path}/named.sqlite")
    publish_dataset_rows(TYPED, dataset, store)
    assert row(online, "items", key, "a") is None
    with open_online(f"sqlite://{tmp_path}/named.sqlite", shop="shop", timeout=5) as named:
        assert row(named, "items", key, "a")["events"] == 2
    monkeypatch.delenv(ONLINE)
    assert "2 customers" in publish_dataset_rows(TYPED, dataset, store)
    assert row(online, "items", dataset, "a")["events"] == 2
    (tmp_path / "no-folder").touch()
    monkeypatch.setenv(ONLINE, f"sqlite://{tmp_path}/no-folder/online.sqlite")
    said: list[str] = []
    assert publish_dataset_rows(TYPED, dataset, store, said.append) == "; not in the online store, which failed"
    assert "the next run tries it again" in said[-1]


def test_what_serves_stays_published_and_what_is_lost_is_published_again(
    store: Store, online: OnlineStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = build(TYPED, snapshot(store, ROWS[:6]), store)
    newest = build(TYPED, snapshot(store, ROWS), store)
    gone = newest.rsplit("/", 1)[0] + "/removed"
    lines: list[str] = []
    publish_dataset_rows(TYPED, newest, store, lines.append, served=[gone, served, newest])
    assert [row(online, "customers", one, "ann")["events"] for one in (served, newest)] == [2, 4]
    assert any(gone in line for line in lines)
    # What is there is only kept for longer.
    monkeypatch.setattr(retention, "publish_features", None)
    assert publish_dataset_rows(TYPED, newest, store, served=[served]) == "; rows in the online store"
    monkeypatch.undo()
    online.drop(name_feature_table("customers", served), publishing.VERSION)
    publish_dataset_rows(TYPED, newest, store, served=[served])
    assert row(online, "customers", served, "ann")["events"] == 2


def test_more_customers_than_a_laptop_wants_are_published_only_where_a_store_is_named(
    store: Store, online: OnlineStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(retention, "MOST_BY_DEFAULT", 1)
    dataset = build(TYPED, snapshot(store, ROWS), store)
    said: list[str] = []
    publish_dataset_rows(TYPED, dataset, store, said.append)
    assert row(online, "customers", dataset, "ann") is None
    assert "--online" in said[-1]
    publish_dataset_rows(TYPED, dataset, store, online=f"sqlite://{tmp_path}/named.sqlite")
    with open_online(f"sqlite://{tmp_path}/named.sqlite", shop="shop", timeout=5) as named:
        assert row(named, "customers", dataset, "ann") is not None
