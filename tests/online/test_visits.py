"""Which of a shopper's recent events a ranking reads."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from unittest.mock import Mock

import orjson
import pytest

from endcap.online import (
    CUSTOMERS,
    OWNED,
    GuardedStore,
    OnlineQuery,
    OnlineStore,
    RecentEvent,
    ShopperData,
    Visits,
    open_online,
)

DAY = timedelta(days=1)
GAP = 30
VIEWS = Visits(frozenset(["view"]), GAP)


def did(text: str) -> list[RecentEvent]:
    """Events from words: an item at a time, ``s`` a search without one, ``x`` something else with an item."""
    events = []
    for word in text.split():
        kind, time = word[0], int(word[1:])
        type_ = {"s": "search", "x": "cart"}.get(kind, "view")
        events.append(RecentEvent("" if kind == "s" else kind, time, type_))
    return events


@pytest.mark.parametrize(
    ("visits", "text", "expected"),
    [
        (VIEWS, "a0 b30 c60", "abc"),
        (VIEWS, "a0 b31 c60", "bc"),
        (VIEWS, "a0 s20 b40", "ab"),
        (VIEWS, "a0 x20 b40", "ab"),
        (VIEWS, "a0 s20 s51 b70", "b"),
        (VIEWS, "a0 b10 s90 s100", "ab"),  # a visit of searches alone is no session
        (VIEWS, "s0 x10", ""),
        (VIEWS, "", ""),
        (Visits(gap=GAP), "a0 s20 x40 b70", "axb"),
        (Visits(frozenset(["view"])), "a0 s20 x40 b900", "ab"),
        (Visits(), "a0 s20 x40 b900", "axb"),
    ],
)
def test_a_visit_goes_back_to_the_last_pause_in_all_that_was_done(visits: Visits, text: str, expected: str) -> None:
    assert "".join(event.item for event in visits.find_last_visit(did(text))) == expected


def test_an_event_that_says_no_type_counts() -> None:
    assert VIEWS.select_session_events([RecentEvent("a", 1), RecentEvent("", 2)]) == [RecentEvent("a", 1)]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[OnlineStore]:
    with open_online(f"sqlite://{tmp_path}/online.sqlite", shop="shop", timeout=5) as opened:
        yield opened


@pytest.mark.parametrize("visits", [VIEWS, Visits(frozenset(["view"]))])
def test_events_that_do_not_count_do_not_displace_those_that_do(
    store: OnlineStore, visits: Visits, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside = " ".join(f"s{time}" for time in range(20, 900, 10))
    store.append({"customer:1": did(f"a0 b10 c15 {beside}"), "session:1|s": did(f"d0 {beside}")}, DAY)
    found = GuardedStore(store, visits=visits, timeout=5).look_up(["1", "1", "1"], [None, "s", "t"], 2).events
    assert ["".join(event.item for event in one) for one in found] == ["bc", "d", "bc"]
    first = store.read(OnlineQuery(["customer:1"], 8, [(OWNED, ["customer:1"]), (CUSTOMERS, [])]))
    asked = Mock(side_effect=[first, OSError])
    monkeypatch.setattr(store, "read", asked)
    assert GuardedStore(store, visits=visits, timeout=5).look_up(["1"], [None], 2) == ShopperData(
        [[]], [set()], True, [True], ["none"]
    )
    assert asked.call_count == 2


def test_a_named_session_is_not_cut_its_customers_events_are(store: OnlineStore) -> None:
    store.append({"customer:1": did("a0 b10 c900 d910"), "session:1|s": did("a0 b10 c900 d910")}, DAY)
    store.append({"session:1|idle": did("s0 s10")}, DAY)
    found = GuardedStore(store, visits=VIEWS, timeout=5).look_up(["1", "1", "1"], ["s", None, "idle"], 9).events
    assert ["".join(event.item for event in one) for one in found] == ["abcd", "cd", "cd"]


def test_where_nothing_recent_counts_the_dataset_s_last_visit_does(store: OnlineStore) -> None:
    rows = {name: orjson.dumps({"recent": [["h", 1, "view"], ["i", 500]]}) for name in ("1", "2")}
    store.write("features/customers/k", "v", rows)
    store.publish("features/customers/k", "v")
    store.append({"customer:1": did("s0 s10")}, DAY)
    guarded = GuardedStore(store, visits=VIEWS, history="features/customers/k", timeout=5)
    found = guarded.look_up(["1", "2", "2"], [None, None, "s"], 9).events
    # As it is: the dataset knows what kept that visit alive.
    assert ["".join(event.item for event in one) for one in found] == ["hi"] * 3
    assert guarded.look_up(["1"], [None], 0).events == [[]]
