"""What a request sees of a shopper is what the dataset of the same events calls the shopper's session."""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import orjson
import pytest

from endcap.events import ingest
from endcap.features import build
from endcap.features.vocabulary import Vocabulary
from endcap.online import GuardedStore, OnlineStore, Visits, open_online
from endcap.online.record_updates import Retention
from endcap.ranking.request import RankRequest
from endcap.ranking.session import RequestReader, ShopperContext
from endcap.store import Store
from endcap_serving.intake.online_writer import EVENTS, OnlineWriter
from tests.events.shops import make_shop
from tests.features.logs import table

MINUTE = 60_000
GAP = 30 * MINUTE
ITEMS = "abcdef"
Row = dict[str, Any]
Place = tuple[str, int]
"""An event: its item and time, which no other has."""


def random_log(seed: int) -> list[Row]:
    """Events of few customers and few session ids, so that they are shared, with pauses on either side of the gap."""
    drawn = random.Random(seed)
    clock, rows = time.time_ns() // 1_000_000 - 5 * 86_400_000, []
    for number in range(250):
        clock += drawn.choice([1, MINUTE, 4 * MINUTE, 12 * MINUTE]) + drawn.randrange(3)
        kind = drawn.choices(["view", "cart", "search"], [6, 2, 2])[0]
        row = {"id": f"e{number}", "time": clock, "type": kind, "item": drawn.choice(ITEMS)}
        row["customer"] = drawn.choice(["c1", "c2", "c3", "c|4", None])
        alone = ["s4", "s5"] if row["customer"] in (None, "c1") else []
        row["session"] = drawn.choice(["s1", "s2", "s|3", *alone])
        if kind == "search":
            row["item"] = None
        rows.append(row)
    return rows


def dataset(store: Store, folder: Path, rows: list[Row], by: str) -> Path:
    """The dataset of the rows' views, all sessions in it."""
    file = folder / "log.jsonl"
    file.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    its = make_shop(
        file,
        events={"types": ["view"], "time": {"unit": "ms"}},
        sessions={"by": by, "gap": "30m"},
        filters={"min_session_events": 1},
    )
    return store.fetch(build(its, ingest(its, store), store))


def its_sessions(folder: Path) -> tuple[dict[Place, int], dict[int, list[Place]]]:
    """The session of each event, and the events of each session."""
    items = [row["item"] for row in table(folder, "items")]
    of: dict[Place, int] = {}
    events: dict[int, list[Place]] = defaultdict(list)
    for row in table(folder, "events"):
        place = (items[row["item"]], row["time"])
        of[place] = row["session"]
        events[row["session"]].append(place)
    return of, events


class Shop:
    """An online store that is told of events one by one, and asked as a predictor asks it."""

    def __init__(self, store: OnlineStore, visits: Visits) -> None:
        self._follower = OnlineWriter(store, Retention())
        self._follower.start()
        self._guarded = GuardedStore(store, visits=visits, timeout=10)
        self._reader = RequestReader(Vocabulary(list(ITEMS)), event_types=visits.types)

    def tell(self, row: Row) -> None:
        self._follower.offer(EVENTS, [row])
        while self._follower.lag:
            time.sleep(0.0002)

    def sees(self, customer: str | None, session: str | None) -> list[Place]:
        """The session that a model is asked about."""
        (events,) = self._guarded.look_up([customer], [session], 1000).events
        asked = self._reader.read([RankRequest(customer=customer, session=session)], [ShopperContext(events)], 0)
        return list(zip(asked.item_ids[0], asked.sessions.times.tolist(), strict=True))

    def end(self) -> None:
        self._follower.end(10)


@pytest.fixture
def online(tmp_path: Path) -> OnlineStore:
    return open_online(f"sqlite://{tmp_path}/online.sqlite", shop="test", timeout=5)


@pytest.mark.parametrize("seed", range(3))
def test_by_gap_a_request_sees_the_customers_last_session(
    seed: int, store: Store, online: OnlineStore, tmp_path: Path
) -> None:
    rows = random_log(seed)
    of, events = its_sessions(dataset(store, tmp_path, rows, "gap"))
    shop, last, seen = Shop(online, Visits(frozenset(["view"]), GAP)), dict[str, Place](), 0
    for row in rows:
        shop.tell(row)
        if row["type"] == "view" and row["customer"] is not None:
            last[row["customer"]] = (row["item"], row["time"])
        for customer, place in last.items():
            until = events[of[place]].index(place) + 1
            assert shop.sees(customer, None) == events[of[place]][:until]
            seen += until > 1
    shop.end()
    assert seen > 100


@pytest.mark.parametrize("seed", range(3))
def test_by_given_a_request_sees_the_customers_session_of_that_id(
    seed: int, store: Store, online: OnlineStore, tmp_path: Path
) -> None:
    """The log knows of customers who come later; a request of those that were known, of any type of event, alone."""
    rows = random_log(seed)
    of, events = its_sessions(dataset(store, tmp_path, rows, "given"))
    shop = Shop(online, Visits(frozenset(["view"])))
    owners = customers_of(row for row in rows if row["type"] == "view")
    known: dict[str, set[str]] = defaultdict(set)
    nobodys: dict[str, list[Place]] = defaultdict(list)
    alike = apart = 0
    for row in rows:
        shop.tell(row)
        customer, session, place = row["customer"], row["session"], (row["item"], row["time"])
        if row["item"] is not None and customer is not None:
            known[session].add(customer)
        if row["type"] != "view":
            continue
        if customer is None:
            nobodys[session].append(place)
        found = shop.sees(customer, session)
        session_then = [one for one in events[of[place]] if one[1] <= row["time"]]
        if customer is None:
            expected, same = nobodys[session], len(owners[session]) > 1 or not known[session]
        else:
            adopts = known[session] == {customer}
            theirs = [one for one in session_then if one not in nobodys[session]]
            expected = sorted([*theirs, *(nobodys[session] if adopts else [])], key=lambda one: one[1])
            same = adopts == (owners[session] == {customer})
        assert found == expected
        if same:
            assert found == session_then
        alike, apart = alike + same, apart + (not same)
    shop.end()
    assert alike > 100
    assert apart


def customers_of(rows: Iterable[Row]) -> dict[str, set[str]]:
    """The customers of each session's id."""
    found: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if row["customer"] is not None:
            found[row["session"]].add(row["customer"])
    return found
