"""Gaps between a customer's events are cut on all that the customer did."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from endcap.events import ingest, snapshot_days
from endcap.events.query import query
from endcap.features import build
from endcap.store import Store
from tests.events.shops import make_shop, open_snapshot, write_csv
from tests.features.logs import MONDAY, event, shop, snapshot, table, words

pytestmark = pytest.mark.usefixtures("engine")
MINUTE = 60_000
GAP = {"by": "gap", "gap": "30m"}
ALONE = {"min_session_events": 1}


def log(folder: Path, *rows: tuple[str, int, str, str]) -> Path:
    """A log of customer, minute, item and type."""
    lines = [f",{customer},{item},{MONDAY + minute * MINUTE},{kind}" for customer, minute, item, kind in rows]
    return write_csv(folder / "log.csv", lines)


def sessions_of(store: Store, file: Path, types: list[str] | None, **keys: Any) -> dict[str, str]:
    """Sessions by customer and minute of their start, of views unless `types` says otherwise."""
    its = make_shop(file, events={"types": types, "time": {"unit": "ms"}}, sessions=GAP, filters=ALONE, **keys)
    found = words(store.fetch(build(its, ingest(its, store), store)))
    return {
        f"{name.partition('@')[0]}{(int(name.partition('@')[2]) - MONDAY) // MINUTE}": its
        for name, its in found.items()
    }


LOG = [
    ("a", 0, "A", "view"),
    ("a", 20, "A", "cart"),
    ("a", 40, "B", "view"),
    ("b", 0, "A", "view"),
    ("b", 40, "B", "view"),
    ("c", 20, "", "search"),
    ("", 20, "A", "cart"),
]


def test_other_activity_holds_a_session_together(tmp_path: Path, store: Store) -> None:
    assert sessions_of(store, log(tmp_path, *LOG), ["view"]) == {"a0": "AB", "b0": "A", "b40": "B"}


def test_a_row_without_an_item_is_activity_where_its_type_is_not_kept(tmp_path: Path, store: Store) -> None:
    rows = [("a", 0, "A", "view"), ("a", 20, "", "search"), ("a", 40, "B", "view")]
    assert sessions_of(store, log(tmp_path, *rows), ["view"]) == {"a0": "AB"}


def test_a_session_begins_with_its_first_event_and_none_is_of_activity_alone(tmp_path: Path, store: Store) -> None:
    rows = [
        ("a", 0, "", "search"),
        ("a", 20, "A", "view"),
        ("a", 45, "", "search"),
        ("a", 70, "", "search"),
        ("a", 200, "", "search"),
        ("a", 300, "B", "view"),
        ("a", 325, "", "search"),
    ]
    assert sessions_of(store, log(tmp_path, *rows), ["view"]) == {"a20": "A", "a300": "B"}


def test_events_that_only_make_an_item_a_customers_are_activity_too(tmp_path: Path, store: Store) -> None:
    owned = {"owned": {"types": ["cart"]}}
    assert sessions_of(store, log(tmp_path, *LOG), ["view"], rules=owned) == {"a0": "AB", "b0": "A", "b40": "B"}


def test_rows_that_are_not_the_shops_and_returns_are_no_activity(tmp_path: Path, store: Store) -> None:
    lines = ["a,0,A,view,1", "a,20,A,cart,1", "a,40,B,view,1", "b,0,A,view,1", "b,20,A,cart,-1", "b,40,B,view,1"]
    rows = [line.split(",") for line in lines]
    header = "customer,item,time,type,n"
    file = write_csv(
        tmp_path / "log.csv", [f"{c},{i},{MONDAY + int(t) * MINUTE},{k},{n}" for c, t, i, k, n in rows], header
    )
    events = {"types": ["view"], "time": {"unit": "ms"}, "columns": {"customer": "customer", "type": "type"}}
    for source, rule in (({}, {"returns": {"n": {"below": 0}}}), ({"where": {"n": {"above": 0}}}, {})):
        its = make_shop({"path": str(file), **source}, events=events | rule, sessions=GAP, filters=ALONE)
        assert sorted(words(store.fetch(build(its, ingest(its, store), store))).values()) == ["A", "AB", "B"]


def test_the_snapshot_counts_activity_and_keeps_it_apart(tmp_path: Path, store: Store) -> None:
    more = [("a", 21, "7.0", "cart"), ("7.0", 22, "A", "cart")]
    file = log(tmp_path, *LOG, *more)
    with file.open("a") as handle:
        handle.write(",a,A,never,cart\n,a,A,5,cart\n")
    its = make_shop(file, events={"types": ["view"], "time": {"unit": "ms"}}, sessions=GAP)
    first = open_snapshot(store, ingest(its, store))
    rows = query(
        "select customer, (time - 1717372800000) // 60000 as m, part from activity order by all", store, shop="test"
    )
    assert [tuple(row.values()) for row in rows.to_pylist()] == [
        ("a", 20, "train"),
        ("a", 21, "train"),
        ("c", 20, "train"),
    ]
    assert first.facts["activity"] == {"rows": 3}
    assert first.facts["left_out"] == {"events": {"other_types": 7}}
    # Activity is of the content: the same events with other activity are another snapshot's.
    lines = file.read_text().splitlines()
    contents = []
    for kept in (lines[:1] + lines[:0:-1], [line for line in lines if "search" not in line]):
        write_csv(file, kept[1:], kept[0])
        contents.append(open_snapshot(store, ingest(its, store)).facts["fingerprint"])
    assert contents[0] == first.facts["fingerprint"] != contents[1]


@pytest.mark.parametrize(
    "change", [{"types": None}, {"sessions": {"by": "given"}}, {"types": ["view", "cart", "search"]}]
)
def test_there_is_no_activity_where_no_gap_needs_it(change: dict[str, Any], tmp_path: Path, store: Store) -> None:
    rows = [f"s,c,{item},2024-03-01,{kind}" for item, kind in (("A", "view"), ("B", "cart"), ("C", "search"))]
    keys = {"types": ["view"], "sessions": GAP} | change
    its = make_shop(write_csv(tmp_path / "log.csv", rows), events={"types": keys["types"]}, sessions=keys["sessions"])
    address = ingest(its, store)
    assert "activity" not in open_snapshot(store, address).facts
    assert snapshot_days.open_snapshot(store, address).activity == []


def test_activity_is_written_in_bounded_parts(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("endcap.events.days.BUDGET", 1000)
    monkeypatch.setattr("endcap.sources.formats.read_csv.BLOCK", 1000)
    rows = [("a", minute, "A", "view" if minute % 10 == 0 else "cart") for minute in range(1000)]
    its = make_shop(log(tmp_path, *rows), events={"types": ["view"], "time": {"unit": "ms"}}, sessions=GAP)
    address = ingest(its, store)
    files = snapshot_days.open_snapshot(store, address).activity
    rows = [pq.read_metadata(file).num_rows for file in files]
    assert (sum(rows), open_snapshot(store, address).facts["activity"]["rows"]) == (900, 900)
    assert len(rows) > 5


def test_a_snapshot_without_the_file_is_cut_on_its_events(store: Store) -> None:
    rows = [event(None, "A", 0, "a"), event(None, "B", 40 * MINUTE, "a")]
    its = shop(sessions=GAP, filters=ALONE)
    assert sorted(words(store.fetch(build(its, snapshot(store, rows), store))).values()) == ["A", "B"]


@pytest.mark.usefixtures("colliding_hashes")
def test_a_stranger_whose_key_is_a_customers_is_another(store: Store) -> None:
    rows = [event(None, item, minute * MINUTE, "ann") for item, minute in (("a", 0), ("b", 40))]
    other = [event(None, "", 20 * MINUTE, "anonymous")]
    its = shop(sessions=GAP, filters=ALONE)
    folder = store.fetch(build(its, snapshot(store, rows, activity=other), store))
    assert sorted(words(folder).values()) == ["a", "b"]


# Against plain Python


def cut(events: list[dict[str, Any]], activity: list[dict[str, Any]], gap: int) -> dict[str, str]:
    """Sessions by id, of rows in the order of reading."""
    sessions: dict[str, str] = {}
    for customer in {row["customer"] for row in events}:
        its = [(row["time"], 0, place, row["item"]) for place, row in enumerate(events) if row["customer"] == customer]
        its += [(row["time"], 1, 0, None) for row in activity if row["customer"] == customer]
        last, name = None, None
        for time, _, _, item in sorted(its, key=lambda row: row[:3]):
            if last is not None and time - last > gap:
                name = None
            if item is not None:
                name = name or f"{customer}@{time}"
                sessions[name] = sessions.get(name, "") + item
            last = time
    return sessions


@pytest.mark.parametrize("seed", range(12))
def test_sessions_are_those_of_plain_python(seed: int, store: Store) -> None:
    draw = random.Random(seed)
    gap, end, start = 30, draw.choice([500, 1000]), draw.choice([0, 200])
    rows = [event(None, draw.choice("ABC"), draw.randrange(1000), f"c{draw.randrange(6)}") for _ in range(60)]
    other = [event(None, "", draw.randrange(1000), f"c{draw.randrange(8)}") for _ in range(draw.choice([1, 60, 300]))]
    for row in (*rows, *other):
        row["part"] = draw.choice(["train", "train", "test"])
    draw.shuffle(rows)
    its = shop(sessions={"by": "gap", "gap": f"{gap}ms"}, filters=ALONE, window=f"{end - start}ms")
    until = datetime.fromtimestamp(MONDAY / 1000, UTC) + timedelta(milliseconds=end)
    folder = store.fetch(build(its, snapshot(store, rows, activity=other), store, until=until))
    for part, prefix, begin in (("train", "", start), ("test", "test_", 0)):
        events, beside = (
            [row for row in kind if row["part"] == part and begin <= row["time"] - MONDAY < end]
            for kind in (rows, other)
        )
        expected = cut(events, beside, gap)
        assert words(folder, prefix) == expected
        starts = {row["id"]: row["start"] for row in table(folder, f"{prefix}sessions")}
        assert all(name.endswith(f"@{moment}") for name, moment in starts.items())
