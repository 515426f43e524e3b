"""Datasets out of coded days: equal to those of the declared steps, whatever was kept of earlier ones."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import endcap.features.dataset
from endcap.errors import DataError
from endcap.events.snapshot import EVENTS
from endcap.features import build
from endcap.features.daily.arrays import sort_texts
from endcap.features.daily.coded_day import FILE
from endcap.features.daily.day_rows import read_day_rows
from endcap.spec import Shop
from endcap.store import Store, open_store
from tests.features.declared import open_declared_engine
from tests.features.logs import DAY, MONDAY, event, shop, snapshot, words
from tests.features.random_shops import RandomShop, Row

ALONE = {"filters": {"min_session_events": 1}}
OWN_FACTS = ("reuse", "snapshot", "fingerprint")
"""Facts that say how a dataset was made."""


def outcome(store: Store, shop_: Shop, address: str, until: datetime | None = None) -> Any:
    """Facts of a dataset, its content's digest among them, and its files; or the error's code and fields."""
    try:
        built = build(shop_, address, store, until=until)
    except DataError as error:
        return error.code, error.fields
    facts = store.manifest(built)["facts"]
    names = sorted(file.name for file in store.fetch(built).iterdir())
    return {name: value for name, value in facts.items() if name not in OWN_FACTS}, names


def outcome_of_declared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, publish: Callable[[Store], str], *rest: Any
) -> Any:
    """The same by the declared steps, in a store of its own."""
    store = open_store(str(tmp_path / "declared"))
    with monkeypatch.context() as patched:
        patched.setattr(endcap.features.dataset, "open_feature_engine", open_declared_engine)
        shop_, until = rest
        return outcome(store, shop_, publish(store), until)


@pytest.mark.parametrize("seed", range(24))
def test_a_dataset_of_days_is_that_of_the_declared_steps(
    seed: int, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = RandomShop(seed)

    def publish(into: Store) -> str:
        return snapshot(into, drawn.rows, items=drawn.items, activity=drawn.activity, files=1 + seed % 3)

    expected = outcome_of_declared(tmp_path, monkeypatch, publish, drawn.shop, drawn.until)
    assert outcome(store, drawn.shop, publish(store), drawn.until) == expected


def change(rows: Sequence[Row], draw: random.Random) -> list[Row]:
    """Rows after late ones, a replaced day or a deleted one."""
    day = draw.choice([row["time"] // DAY for row in rows])
    kind = draw.choice(["late", "replaced", "deleted", "more"])
    if kind == "late":
        return [*rows, *({**row, "time": day * DAY + 5, "item": "late"} for row in draw.sample(list(rows), 3))]
    if kind == "more":
        return [*rows, *({**row, "time": row["time"] + DAY} for row in draw.sample(list(rows), 5))]
    others = [row for row in rows if row["time"] // DAY != day]
    if kind == "deleted":
        return others
    return [*others, *({**row, "item": "again"} for row in rows if row["time"] // DAY == day)]


@pytest.mark.parametrize("seed", range(12))
def test_what_was_kept_makes_the_same_dataset_as_all_anew(seed: int, store: Store, tmp_path: Path) -> None:
    draw = random.Random(seed)
    drawn = next(shop_ for number in range(seed * 1000, 10**6) if len((shop_ := RandomShop(number)).rows) > 50)
    rows, its = drawn.rows, drawn.shop
    for step in range(4):
        address = snapshot(store, rows, items=drawn.items, activity=drawn.activity)
        incremental = outcome(store, its, address)
        anew = open_store(str(tmp_path / str(step)))
        assert incremental == outcome(anew, its, snapshot(anew, rows, items=drawn.items, activity=drawn.activity))
        rows = change(rows, draw) or drawn.rows
        if draw.random() < 0.3:
            filters = its.filters.model_copy(update={"min_item_events": draw.choice([1, 2, 4])})
            its = its.model_copy(update={"filters": filters})


def week(*extra: Row) -> list[Row]:
    return [event(f"s{day}", item, day * DAY + place) for day in range(5) for place, item in enumerate("abc")] + [
        *extra
    ]


def reuse(store: Store, rows: Sequence[Row], its: Shop, until: datetime | None = None) -> Any:
    return store.manifest(build(its, snapshot(store, rows), store, until=until))["facts"]["reuse"]


def test_a_run_says_how_many_days_were_kept_and_why_others_were_not(store: Store) -> None:
    lines: list[str] = []
    build(shop(**ALONE), snapshot(store, week()), store, progress=lines.append)
    assert any(line.startswith("5 days: 5 coded (5 new), 0 kept") for line in lines)
    late = week(event("s1", "d", DAY + 9))
    assert reuse(store, late, shop(**ALONE)) == {"days": 5, "kept": 4, "coded": {"new": 1}}
    assert reuse(store, late, shop(filters={"min_item_events": 2})) == {"days": 5, "kept": 5, "coded": {}}
    within = datetime(2024, 6, 7, microsecond=1000, tzinfo=UTC)  # after the first of the last day's events
    assert reuse(store, late, shop(window="2d", **ALONE), within) == {"days": 3, "kept": 1, "coded": {"cut": 2}}
    typed = shop(features={"events": [{"name": "type", "kind": "type", "types": ["view"]}]}, **ALONE)
    assert reuse(store, late, typed) == {"days": 5, "kept": 0, "coded": {"new": 5}}


@pytest.mark.parametrize("fault", ["changed", "cut", "gone"])
def test_a_damaged_coded_day_is_made_anew_and_said_so(fault: str, store: Store) -> None:
    expected = outcome(store, shop(**ALONE), snapshot(store, week()))
    file = store.fetch(store.list("coded/shop")[2]) / FILE
    content = file.read_bytes()
    file.write_bytes({"changed": content[:-700] + b"x" + content[-699:], "cut": content[:100]}.get(fault, b""))
    if fault == "gone":
        file.unlink()
    assert reuse(store, week(event("s4", "c", 4 * DAY + 7)), shop(**ALONE))["coded"] == {"damaged": 1, "new": 1}
    assert reuse(store, week(), shop(filters={"min_item_events": 2})) == {"days": 5, "kept": 5, "coded": {}}
    again = build(shop(**ALONE, window="9d"), snapshot(store, week()), store)
    assert store.manifest(again)["facts"]["content"] == expected[0]["content"]


def test_no_file_stays_open(store: Store) -> None:
    address = snapshot(store, week())
    build(shop(**ALONE), address, store)
    before = sorted(Path("/proc/self/fd").iterdir())
    build(shop(filters={"min_item_events": 2}), address, store)
    assert sorted(Path("/proc/self/fd").iterdir()) == before


def read_items(folder: Path, rows: Sequence[Row], files: int = 1) -> list[str | None]:
    """Items of rows that lie in files, in the order of events."""
    folder.mkdir()
    for number in range(files):
        pq.write_table(pa.Table.from_pylist(list(rows[number::files]), EVENTS), folder / f"{number}", row_group_size=70)
    read = read_day_rows(sorted(folder.iterdir()), ["session", "customer", "item"])
    ids = read.item.ids.to_pylist()
    return [ids[code] for code in read.item.codes]


def placed(item: str, sequence: int | None, position: int | None, time: int = 0) -> Row:
    return {**event("s", item, time), "sequence": sequence, "file": position, "position": position}


def test_equal_times_are_in_the_order_of_number_then_place_then_bytes(tmp_path: Path) -> None:
    rows = [placed("e", 2, 0, 1), placed("a", 1, 1, 1), placed("d", 2, 2, 1), placed("b", 1, 3, 1)]
    rows += [placed("f", None, 4, 1), placed("g", 9, 5, 0)]
    assert read_items(tmp_path / "numbers", rows) == list("gfabed")
    rows = [placed("b", None, 0, 1), placed("a", None, 1, 1), *(placed(item, None, None, 1) for item in "zéy")]
    assert read_items(tmp_path / "places", [*rows, placed("c", None, None, 0)]) == list("cyzéba")
    assert read_items(tmp_path / "files", [*rows, placed("c", None, None, 0)], 2) == list("cyzéba")


def test_rows_of_a_day_are_read_in_order_wherever_they_lie(tmp_path: Path) -> None:
    draw = random.Random(3)
    rows = [placed(str(n), None, n, draw.randrange(50)) for n in range(500)]
    by_time = sorted(rows, key=lambda row: row["time"])
    expected = [row["item"] for row in by_time]
    assert read_items(tmp_path / "by time", by_time) == read_items(tmp_path / "by session", rows) == expected


def test_a_session_over_several_midnights_is_one(store: Store) -> None:
    rows = [event("s", "abcdefgh"[n], n * DAY // 2 + 5, "c") for n in range(8)] + week()
    folder = store.fetch(build(shop(**ALONE), snapshot(store, rows), store))
    assert words(folder)["c|s"] == "abcdefgh"
    gap = shop(sessions={"by": "gap", "gap": "13h"}, **ALONE)
    named = [{**row, "customer": row["customer"] or "d"} for row in rows]
    assert words(store.fetch(build(gap, snapshot(store, named), store)))[f"c@{MONDAY + 5}"] == "abcdefgh"


def test_activity_of_a_whole_day_holds_the_days_around_it_together(store: Store) -> None:
    hour = DAY // 24
    rows = [event(None, "a", 23 * hour, "c"), event(None, "b", 49 * hour, "c"), event(None, "a", 0, "d")]
    busy = [event(None, "", n * hour, "c") for n in range(24, 49)]
    its = shop(sessions={"by": "gap", "gap": "1h"}, **ALONE)
    folder = store.fetch(build(its, snapshot(store, rows, activity=busy), store))
    assert words(folder) == {f"d@{MONDAY}": "a", f"c@{MONDAY + 23 * hour}": "ab"}
    pause = [row for row in busy if row["time"] != MONDAY + 30 * hour]
    folder = store.fetch(build(its, snapshot(store, rows, activity=pause), store))
    assert sorted(words(folder).values()) == ["a", "a", "b"]


def test_texts_are_sorted_by_their_bytes() -> None:
    chance = random.Random(1)
    for _ in range(300):
        begin, letters = chance.choice(["", "customer-", "ç"]), chance.choice(["01", "ab\0", "é\U0001f600z"])
        texts = {begin + "".join(chance.choices(letters, k=chance.choice([0, 1, 7, 8, 9, 20]))) for _ in range(30)}
        ids = pa.array(["before", *texts], pa.string()).slice(1)
        assert ids.take(pa.array(sort_texts(ids))).to_pylist() == sorted(texts, key=str.encode)
    assert len(sort_texts(pa.array([], pa.string()))) == 0
