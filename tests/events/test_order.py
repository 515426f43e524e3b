"""The order of events of one time: the declared column, then the place in the files, then the bytes of their ids."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from endcap.events import ingest
from endcap.events.frames import write_table
from endcap.features import build
from endcap.store import Store
from tests.events.shops import COLUMNS, make_shop, open_snapshot, write_csv
from tests.features import logs
from tests.features.logs import table, words

HEADER = "session,customer,item,time,type,line"
ORDERED = {"columns": {**COLUMNS, "order": "line"}}


def write_items(file: Path, items: str, lines: Sequence[Any] = ()) -> Path:
    """A log of one session and one time: a row for each letter."""
    numbers = lines or range(len(items))
    rows = [f"s,,{item},2024-03-01T10:00:00Z,view,{line}" for item, line in zip(items, numbers, strict=True)]
    return write_csv(file, rows, HEADER)


def make(store: Store, *sources: Any, **keys: Any) -> Path:
    """The folder of the dataset of a shop over these sources."""
    shop = make_shop(*sources, **keys)
    return store.fetch(build(shop, ingest(shop, store), store))


def read_order(store: Store, *sources: Any, **keys: Any) -> str:
    """The items of the one session, in their order."""
    (items,) = words(make(store, *sources, **keys)).values()
    return items


def test_rows_of_one_time_keep_their_order_in_a_file_and_files_go_by_name(store: Store, tmp_path: Path) -> None:
    log = tmp_path / "log"
    write_items(log / "m.csv", "dbc")
    assert read_order(store, log) == "dbc"
    write_items(log / "b.csv", "xa")
    write_items(log / "z.csv", "y")
    assert read_order(store, log) == "xadbcy"
    (log / "b.csv").rename(log / "n.csv")
    assert read_order(store, log) == "dbcxay"
    # Which other files there are does not matter to those that stay.
    (log / "m.csv").unlink()
    assert read_order(store, log) == "xay"


def test_sources_go_by_their_number_in_the_spec(store: Store, tmp_path: Path) -> None:
    first, second = write_items(tmp_path / "z.csv", "ab"), write_items(tmp_path / "a.csv", "cd")
    assert read_order(store, first, second) == "abcd"
    assert read_order(store, second, first) == "cdab"


def test_the_declared_column_comes_before_the_place(store: Store, tmp_path: Path) -> None:
    first = write_items(tmp_path / "a.csv", "dbca", [10, 2, 2, -1])
    second = write_items(tmp_path / "b.csv", "xy", [2, 1])
    assert read_order(store, first, second, events=ORDERED) == "aybcxd"
    assert read_order(store, first, second) == "dbcaxy"


def test_rows_of_other_numbers_are_no_duplicates(store: Store, tmp_path: Path) -> None:
    file = write_items(tmp_path / "a.csv", "aaab", [2, 1, 2, 3])
    assert read_order(store, file, events={**ORDERED, "drop_duplicates": True}) == "aab"
    assert read_order(store, file, events={"drop_duplicates": True}) == "ab"


def test_events_of_layouts_have_no_number_and_come_first(store: Store, tmp_path: Path) -> None:
    own = write_csv(tmp_path / "own.csv", ["7,,9,2024-03-01T10:00:00Z,view,-5"], HEADER)
    clicks = tmp_path / "clicks.dat"
    clicks.write_text("7,2024-03-01T10:00:00.000Z,8,0\n")
    published = {"path": str(clicks), "layout": "yoochoose-clicks", "type": "view"}
    items = [row["item"] for row in table(make(store, own, published, events=ORDERED), "items")]
    assert [items[row["item"]] for row in table(make(store, own, published, events=ORDERED), "events")] == ["8", "9"]


def test_the_same_rows_in_csv_parquet_and_a_frame_make_the_same_dataset(store: Store, tmp_path: Path) -> None:
    numbers = random.Random(5)
    lines = [numbers.randrange(4) for _ in range(40)]
    letters = "".join(numbers.choice("abcdefgh") for _ in lines)
    text = write_items(tmp_path / "log.csv", letters, lines)
    typed = pyarrow.csv.read_csv(text)
    pq.write_table(typed, tmp_path / "log.parquet")
    # As pandas holds whole numbers if any is missing.
    write_table(pd.read_csv(text).astype({"line": float}), tmp_path / "frame.parquet")
    features = {"features": {"events": [{"name": "repeat", "kind": "repeat"}]}}
    places = [text, tmp_path / "log.parquet", tmp_path / "frame.parquet"]
    contents = {
        store.manifest(f"file://{make(store, place, events=ORDERED, **features)}")["facts"]["content"]
        for place in places
    }
    assert len(contents) == 1


@pytest.mark.parametrize("by", ["given", "gap"])
def test_rows_without_a_place_go_by_the_bytes_of_session_item_and_type(store: Store, by: str) -> None:
    # UTF-16 would put the last before the one before it, and languages would put Z after a.
    items = ["Z", "a", "aa", "ä", "\uff5e", "\U0001f600"]
    rows = [logs.event("s", item, 0, "c") for item in [*items, "a"]]
    rows += [logs.event("s", "b", 1000, "c") | {"sequence": number} for number in (3, None, -4)]
    rows = [{**row, "file": None, "position": None, "type": "view"} for row in rows]
    features = {"features": {"events": [{"name": kind, "kind": kind} for kind in ("repeat", "position")]}}
    shop = logs.shop(sessions={"by": by}, **features)
    contents = set()
    for seed in range(4):
        random.Random(seed).shuffle(rows)
        folder = store.fetch(build(shop, logs.snapshot(store, rows, files=1 + seed), store))
        ids = [row["item"] for row in table(folder, "items")]
        events = table(folder, "events")
        assert [ids[row["item"]] for row in events] == ["Z", "a", "a", "aa", *items[3:], "b", "b", "b"]
        assert [row["repeat"] for row in events] == [0, 0, 1, 0, 0, 0, 0, 0, 1, 1]
        contents.add(store.manifest(f"file://{folder}")["facts"]["content"])
    assert len(contents) == 1


def test_a_row_without_a_whole_number_in_the_declared_column_is_bad(store: Store, tmp_path: Path) -> None:
    good = ["1", "-3", "+4", "12.0", " 7 ", "9223372036854775807", "000"]
    bad = ["", "  ", "x", "1.5", "1e3", "9223372036854775808", "1,000", "NULL"]
    rows = [f's,c,i{number},2024-03-01T10:00:00Z,view,"{line}"' for number, line in enumerate(good + bad)]
    file = write_csv(tmp_path / "log.csv", rows, HEADER)
    facts = open_snapshot(store, ingest(make_shop(file, events={**ORDERED, "max_bad_share": 1}), store)).facts
    assert facts["events"] == len(good)
    assert facts["bad"]["events"] == {
        "order is empty": 2,
        "order is not a whole number of at most 64 bits": len(bad) - 2,
    }
    assert facts["examples"]["events"]["order is not a whole number of at most 64 bits"]["value"] == "x"
