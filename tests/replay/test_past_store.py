"""What the log says of a moment is what the online store said then, and what a dataset of the log has."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from endcap.online import OnlineStore, ShopperReader, Visits, open_online, sqlite
from endcap.online.record_updates import Retention
from endcap.replay.event_log import EventLog
from endcap.replay.past_store import PastStore, PastView
from endcap.store import Store
from endcap_serving.intake import online_writer
from endcap_serving.intake.online_writer import EVENTS, ORDERS, OnlineWriter
from tests.intake.test_same_sessions import GAP, dataset, its_sessions, random_log

DAY = 86_400_000
START = 1_711_108_800_000
KEEP = Retention(timedelta(days=7), timedelta(days=20), ["rent"])
VISITS = Visits(frozenset(["view"]), GAP)
Row = dict[str, Any]


def random_records(seed: int, count: int = 150) -> list[Row]:
    """Records in the order of their arrival, each with `received`: some are late, early, twice, or at one time."""
    drawn = random.Random(seed)
    clock, rows = START, list[Row]()
    for number in range(count):
        clock += drawn.choices([0, 1, 60_000, GAP, GAP + 1, DAY, 8 * DAY], [2, 2, 6, 2, 2, 1, 0.3])[0]
        late = drawn.choices([0, 1, 60_000, 7 * DAY, 7 * DAY + 1, 10 * DAY, -60_000], [12, 1, 3, 1, 1, 1, 1])[0]
        kind = drawn.choices(["view", "cart", "search", "rent", "order"], [6, 2, 2, 1, 1])[0]
        customer = drawn.choice(["c1", "c2", "c|3", None])
        row: Row = {"id": f"e{number}", "time": clock - late, "type": kind, "received": clock}
        row |= {
            "item": drawn.choice("abcdef"),
            "customer": customer,
            "session": drawn.choice(["s1", "s2", "s|3", None]),
        }
        if kind == "search":
            row["item"] = None
        if kind == "order":
            row["customer"] = customer or "c1"
        if row["customer"] is None and row["session"] is None:
            row["session"] = "s1"
        if rows and drawn.random() < 0.1:
            row = {**rows[-1], "id": row["id"], "received": clock}
        rows.append(row)
    return rows


def add_row(log: EventLog, row: Row) -> None:
    is_order = row["type"] == "order"
    log.add(
        row["item"],
        row["time"],
        row["type"],
        customer=row["customer"],
        session=row["session"],
        received=row["received"],
        is_order=is_order,
    )


class Intake:
    """A real intake's writer with an online store in a file, at a clock of the test."""

    def __init__(self, store: OnlineStore) -> None:
        self.now = START
        self._writer = OnlineWriter(store, KEEP)
        self._writer.start()

    def accept(self, row: Row) -> None:
        self.now = row["received"]
        kept = {key: value for key, value in row.items() if key != "received"}
        if row["type"] == "order":
            kept["items"] = [{"item": kept.pop("item"), "quantity": 1}]
        self._writer.offer(ORDERS if row["type"] == "order" else EVENTS, [kept])
        while self._writer.lag:
            time.sleep(0.0002)

    def end(self) -> None:
        self._writer.end(10)


@pytest.fixture
def online(tmp_path: Path) -> OnlineStore:
    return open_online(f"sqlite://{tmp_path}/online.sqlite", shop="test", timeout=5)


@pytest.fixture
def intake(online: OnlineStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[Intake]:
    made = Intake(online)
    monkeypatch.setattr(sqlite, "_get_epoch_ms", lambda: made.now)
    clock = SimpleNamespace(time=lambda: made.now / 1000, monotonic=time.monotonic)
    monkeypatch.setattr(online_writer, "time", clock)
    yield made
    made.end()


@pytest.mark.parametrize("seed", range(4))
def test_the_log_says_what_the_online_store_said(seed: int, online: OnlineStore, intake: Intake) -> None:
    rows = random_records(seed)
    log = EventLog(KEEP)
    for row in rows:
        add_row(log, row)
    past = PastStore(log, {})
    from_store, from_log = ShopperReader(online, visits=VISITS), ShopperReader(past, visits=VISITS)
    drawn, events, owned = random.Random(seed), 0, 0
    arrivals = sorted({row["received"] for row in rows})
    for arrival in arrivals:
        for row in (row for row in rows if row["received"] == arrival):
            intake.accept(row)
        for moment in (arrival, arrival + drawn.choice([1, DAY, 7 * DAY - 1, 7 * DAY, 20 * DAY])):
            intake.now = moment
            customers, sessions = ["c1", "c2", "c|3", "c1", None], [None, "s1", "s2", "s|3", "s1"]
            past.set_moment(PastView.KEPT, moment, cutoff=arrival)
            said, computed = (reader.look_up(customers, sessions, 10) for reader in (from_store, from_log))
            assert computed == said
            events += sum(map(len, said.events))
            owned += sum(map(len, said.owned))
        # The owner may have been forgotten by a look from later, which does not change the store.
        intake.now = arrival
    assert events > 500
    assert owned > 100


@pytest.mark.parametrize("seed", range(2))
def test_a_dataset_has_the_same_session_whatever_came_late(seed: int, store: Store, tmp_path: Path) -> None:
    rows = random_log(seed)
    of, events = its_sessions(dataset(store, tmp_path, rows, "gap"))
    drawn, log = random.Random(seed), EventLog(Retention())
    for row in drawn.sample(rows, len(rows)):
        add_row(log, {**row, "received": row["time"] + drawn.choice([0, 1, DAY])})
    past = PastStore(log, {})
    reader, compared = ShopperReader(past, visits=VISITS), 0
    for row in rows:
        if row["type"] == "view" and row["customer"] is not None:
            past.set_moment(PastView.HAPPENED, row["time"])
            (seen,) = reader.look_up([row["customer"]], [None], 1000).events
            place = (row["item"], row["time"])
            session = events[of[place]]
            assert [(event.item, event.time) for event in seen] == session[: session.index(place) + 1]
            compared += 1
    assert compared > 50
