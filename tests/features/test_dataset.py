"""Datasets from hand-made logs whose answer is known by hand."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from endcap.errors import DataError, NotFoundError, StorageError
from endcap.features import build
from endcap.features.daily import assembly
from endcap.features.engines.duckdb import DuckDBTables
from endcap.store import Store
from tests.features.logs import DAY, MONDAY, dataset, event, sessions, shop, snapshot, table, words
from tests.refusals import misspelt, refused

pytestmark = pytest.mark.usefixtures("engine")
MINUTE = 60_000


def filters(**minimums: int) -> dict[str, dict[str, int]]:
    return {"filters": {f"min_{name}_events": minimum for name, minimum in minimums.items()}}


def facts(store: Store, folder: Path) -> dict[str, object]:
    return store.manifest(f"file://{folder}")["facts"]


def test_events_lie_by_session_start_then_id_and_then_time(store: Store) -> None:
    rows = [
        event("z", "a", 5),
        event("late", "b", 9),
        event("z", "b", 7),
        event("a", "b", 5),
        event("late", "a", 8),
        event("a", "a", 20),
    ]
    folder = dataset(store, rows)
    assert words(folder) == {"a": "ba", "z": "ab", "late": "ab"}
    assert [row["id"] for row in table(folder, "sessions")] == ["a", "z", "late"]
    assert table(folder, "sessions")[2] == {
        "session": 2,
        "id": "late",
        "customer": -1,
        "start": MONDAY + 8,
        "end": MONDAY + 9,
        "events": 2,
    }


def test_columns_and_types_are_those_that_readers_rely_on(store: Store) -> None:
    folder = dataset(store, sessions("ab"), shop(features={"events": [{"name": "place", "kind": "position"}]}))
    types = {"session": "int64", "item": "int32", "customer": "int32", "time": "int64", "place": "float"}
    for name in ("events", "test_events"):
        assert {field.name: str(field.type) for field in pq.read_schema(folder / f"{name}.parquet")} == types


def test_equal_times_keep_the_reading_order(store: Store) -> None:
    rows = [event("s", letter, 0) for letter in "dbcaebd"]
    folder = store.fetch(build(shop(), snapshot(store, rows, files=3), store))
    assert words(folder) == {"s": "dbcaebd"}


def test_items_are_ordered_by_events_and_then_by_id(store: Store) -> None:
    folder = dataset(store, sessions("cab cbd dcx"))
    assert [(row["item"], row["events"]) for row in table(folder, "items")] == [
        ("c", 3),
        ("b", 2),
        ("d", 2),
        ("a", 1),
        ("x", 1),
    ]
    assert table(folder, "items")[0]["first_seen"] == MONDAY


def test_filters_run_to_a_fixed_point(store: Store) -> None:
    # x is rare and falls; that leaves s1 too short; then c is rare, which leaves s2 too short, and then d is rare.
    folder = dataset(store, sessions("abab xc cd dab ab"), shop(**filters(session=2, item=2)))
    assert words(folder) == {"s0": "abab", "s3": "ab", "s4": "ab"}
    told = facts(store, folder)
    assert told["rounds"] == 5
    assert told["dropped"] == {
        "outside_window": 0,
        "without_session": 0,
        "min_session_events": 2,
        "min_item_events": 3,
    }
    assert (told["events"], told["sessions"], told["items"]) == (8, 3, 2)
    assert told["before_filters"] == {"events": 13, "sessions": 5, "items": 5, "customers": 0}


def test_an_event_that_two_filters_take_in_turn_is_counted_once(store: Store) -> None:
    # Round 1 takes s0 (short) with one of a's two events; a is then rare in round 2, and s1 goes with it in round 3.
    folder = dataset(store, sessions("a ab bcbc bcb"), shop(**filters(session=2, item=2)))
    assert words(folder) == {"s2": "bcbc", "s3": "bcb"}
    counts = {row["item"]: row["events"] for row in table(folder, "items")}
    assert counts == {"b": 4, "c": 3}


def test_a_session_that_loses_its_first_event_starts_later(store: Store) -> None:
    rows = [event("early", "rare", 0), event("other", "a", 5), event("other", "b", 6)]
    rows += [event("early", "a", 10), event("early", "b", 11)]
    folder = dataset(store, rows, shop(**filters(session=2, item=2)))
    spans = {row["id"]: (row["start"] - MONDAY, row["end"] - MONDAY) for row in table(folder, "sessions")}
    assert list(spans.items()) == [("other", (5, 6)), ("early", (10, 11))]


def test_rare_customers_fall_and_events_without_one_are_not_judged(store: Store) -> None:
    rows = [event("s", item, place, "once") for place, item in enumerate("ab")]
    rows += [event("t", item, place, "often") for place, item in enumerate("abc")]
    rows += [event("u", item, place) for place, item in enumerate("ab")]
    folder = dataset(store, rows, shop(**filters(customer=3)))
    assert sorted(words(folder)) == ["often|t", "|u"]
    assert [(row["customer"], row["events"]) for row in table(folder, "customers")] == [("often", 3)]
    assert {row["id"]: row["customer"] for row in table(folder, "sessions")} == {"often|t": 0, "|u": -1}


def test_a_pause_longer_than_the_gap_cuts_and_one_as_long_does_not(store: Store) -> None:
    rows = [
        event(None, "a", 0, "c"),
        event(None, "b", 30 * MINUTE, "c"),
        event(None, "c", 60 * MINUTE + 1, "c"),
        event(None, "d", 60 * MINUTE + 2, "c"),
        event(None, "a", 2, "other"),
        event(None, "b", 3, "other"),
        event(None, "x", 4),
    ]
    folder = dataset(store, rows, shop(sessions={"by": "gap", "gap": "30m"}))
    assert words(folder) == {
        f"c@{MONDAY}": "ab",
        f"other@{MONDAY + 2}": "ab",
        f"c@{MONDAY + 60 * MINUTE + 1}": "cd",
    }
    assert facts(store, folder)["dropped"]["without_customer"] == 1


def test_sessions_by_gap_are_found_whatever_the_order_of_the_rows(store: Store) -> None:
    rows = [event(None, "abc"[place % 3], place * 20 * MINUTE, f"c{place % 2}") for place in range(40)]
    random.Random(1).shuffle(rows)
    folder = dataset(store, rows, shop(sessions={"by": "gap", "gap": "40m"}))
    assert [row["events"] for row in table(folder, "sessions")] == [20, 20]


def test_sessions_by_gap_are_filtered_like_others(store: Store) -> None:
    rows = [event(None, letter, place, "c") for place, letter in enumerate("abxab")]
    rows += [event(None, letter, place * 60 * MINUTE, "d") for place, letter in enumerate("abab")]
    chosen = shop(sessions={"by": "gap"}, **filters(session=2, item=2, customer=2))
    assert words(dataset(store, rows, chosen)) == {f"c@{MONDAY}": "abab"}


def test_the_window_is_cut_before_sessions_and_filters(store: Store) -> None:
    rows = [event("s", letter, day * DAY) for day, letter in enumerate("abcd")]
    rows += [event("t", letter, 3 * DAY + place) for place, letter in enumerate("ab")]
    address = snapshot(store, rows)
    until = datetime(2024, 6, 6, tzinfo=UTC)  # Thursday: the three days before it count
    folder = store.fetch(build(shop(window="2d"), address, store, until=until))
    assert words(folder) == {"s": "bc"}
    assert facts(store, folder)["dropped"]["outside_window"] == 4
    assert (facts(store, folder)["from"], facts(store, folder)["until"]) == (MONDAY + DAY, MONDAY + 3 * DAY)


def test_without_a_date_the_window_ends_just_after_the_last_event(store: Store) -> None:
    rows = [event("s", letter, day * DAY) for day, letter in enumerate("abcd")]
    assert words(store.fetch(build(shop(window="1d"), snapshot(store, [*rows, event("s", "e", 3 * DAY)]), store))) == {
        "s": "de"
    }


def test_the_test_part_is_not_filtered_nor_cut_at_the_windows_start(store: Store) -> None:
    rows = [event("t", letter, 0, "c", part="test") for letter in "axb"]
    rows += [event("lone", "y", 1, part="test")]
    rows += [event(f"s{number}", letter, 5 * DAY + number) for number in range(3) for letter in "ab"]
    folder = dataset(store, rows, shop(window="1d", **filters(session=2, item=2)))
    assert words(folder, "test_") == {"c|t": "axb", "|lone": "y"}
    assert sorted(words(folder)) == ["|s0", "|s1", "|s2"]
    assert [(row["item"], row["events"]) for row in table(folder, "items")] == [("a", 3), ("b", 3), ("x", 0), ("y", 0)]
    assert [row["customer"] for row in table(folder, "test_sessions")] == [0, -1]


def test_items_and_customers_carry_their_attributes(store: Store) -> None:
    items = {"item": ["a", "b", "never"], "title": ["A", "B", "N"], "price": [1.5, None, 2.0]}
    customers = {"customer": ["c"], "country": ["CH"]}
    rows = [event("s", "b", 0, "c"), event("s", "b", 1, "c"), event("s", "a", 2, "c"), event("t", "unlisted", 3, "d")]
    chosen = shop(**filters(session=1))
    folder = store.fetch(build(chosen, snapshot(store, rows, items=items, customers=customers), store))
    assert [(row["item"], row["title"], row["price"]) for row in table(folder, "items")] == [
        ("b", "B", None),
        ("a", "A", 1.5),
        ("unlisted", None, None),
    ]
    assert [(row["customer"], row["country"]) for row in table(folder, "customers")] == [("c", "CH"), ("d", None)]


def test_odd_ids_stay_what_they_are(store: Store) -> None:
    odd = ["a'b", 'say "x"', "two\nlines", "größe 🛒", " ", "NULL", "-1", "1.0", "a,b;c"]
    folder = dataset(store, [event(name, name, place) for name in odd for place in (0, 1)])
    assert sorted(row["item"] for row in table(folder, "items")) == sorted(odd)
    assert sorted(row["id"] for row in table(folder, "sessions")) == sorted(odd)


def test_the_same_rows_in_other_files_make_the_same_tables(store: Store) -> None:
    random_ = random.Random(7)
    rows = [
        event(f"s{random_.randrange(40)}", random_.choice("abcdefgh"), random_.randrange(3 * DAY), f"c{place % 5}")
        for place in range(400)
    ]
    declared = [{"name": kind, "kind": kind} for kind in ("position", "gap", "repeat")]
    chosen = shop(features={"events": declared}, **filters(item=3))
    folders = [store.fetch(build(chosen, snapshot(store, rows, files=files), store)) for files in (1, 3)]
    assert folders[0] != folders[1]
    for name in ("events", "sessions", "items", "customers"):
        assert table(folders[0], name) == table(folders[1], name)


def test_a_second_build_finds_the_first(store: Store) -> None:
    address = snapshot(store, sessions("abc abc"))
    first = build(shop(), address, store)
    assert build(shop(), address, store) == first
    assert store.list("datasets/shop") == [first]
    assert build(shop(**filters(item=2)), address, store) != first


def test_a_single_session_is_enough(store: Store) -> None:
    assert words(dataset(store, sessions("ab"))) == {"s0": "ab"}


@pytest.mark.usefixtures("colliding_hashes")
def test_ids_that_share_a_hash_are_told_apart(store: Store) -> None:
    rows = [event(session, item, place) for session in ("s1", "s2") for place, item in enumerate(["aa", "ab"])]
    folder = dataset(store, rows)
    assert [row["item"] for row in table(folder, "items")] == ["aa", "ab"]
    assert len(table(folder, "sessions")) == 2


@pytest.mark.parametrize(
    ("keys", "dropped"),
    [
        (filters(session=9), {"min_session_events": 6}),
        (filters(item=4), {"min_item_events": 6}),
        ({"window": "1d"}, {"outside_window": 6}),
        ({"sessions": {"by": "gap"}}, {"without_customer": 6}),
    ],
)
def test_nothing_left_says_what_took_it(store: Store, keys: dict[str, object], dropped: dict[str, int]) -> None:
    address = snapshot(store, sessions("abc abc"))
    until = datetime(2024, 7, 1, tzinfo=UTC)
    with refused(DataError, "features.none-left", shop="shop", rows=6, dropped=dropped):
        build(shop(**keys), address, store, until=until)
    assert store.list("datasets/shop") == []


def test_an_empty_snapshot_and_an_unknown_one_are_errors(store: Store) -> None:
    with refused(DataError, "features.snapshot-empty", shop="shop"):
        build(shop(), snapshot(store, []), store)
    with refused(NotFoundError, "store.not-found", address=f"{store.root}/snapshots/shop/gone"):
        build(shop(), f"{store.root}/snapshots/shop/gone", store)


def test_names_that_the_tables_need_cannot_be_features_or_attributes(store: Store) -> None:
    source = {"sources": [{"path": "items.csv"}], "numeric": ["events"]}
    taken = shop(features={"events": [{"name": "time", "kind": "gap"}]}, items=source)
    with misspelt(("items", "not-allowed"), ("features.events", "not-allowed")):
        build(taken, snapshot(store, sessions("ab")), store)


def test_a_full_disk_is_a_storage_error(store: Store, engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    address = snapshot(store, sessions("abc abc"))
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full on this system")
    written: list[str] = []

    def choose(file: Path) -> Path:
        written.append(file.name)
        return full if file.name == "items.parquet" else file

    by_days, by_tables = assembly.write_table, DuckDBTables.write
    monkeypatch.setattr(assembly, "write_table", lambda file, blocks: by_days(choose(file), blocks))
    monkeypatch.setattr(DuckDBTables, "write", lambda self, table, file: by_tables(self, table, choose(file)))
    with refused(StorageError, "features.disk-refused"):
        build(shop(), address, store)
    assert "items.parquet" in written
    assert store.list("datasets/shop") == []


KILLED = """
import os, signal, sys
from endcap.features.daily import assembly
from endcap.features.dataset import build
from endcap.store import open_store
from tests.features.logs import shop
write = assembly.write_table
def wait(file, blocks):
    write(file, blocks)
    if file.name == "items.parquet":
        print("writing", flush=True)
        signal.pause()
assembly.write_table = wait
build(shop(), sys.argv[2], open_store(sys.argv[1]))
"""


def test_a_build_that_is_killed_leaves_nothing_half_written(store: Store) -> None:
    address = snapshot(store, sessions("abc abc"))
    command = [sys.executable, "-c", KILLED, store.root, address]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        os.kill(process.pid, signal.SIGKILL)
    assert store.list("datasets/shop") == []
    begun = time.monotonic()
    folder = store.fetch(build(shop(), address, store), verify=True)
    assert words(folder) == {"s0": "abc", "s1": "abc"}
    assert time.monotonic() - begun < 60
    assert list((Path(store.root.removeprefix("file://")) / ".drafts").iterdir()) == []


def test_parts_that_lie_in_one_file_are_kept_apart(store: Store) -> None:
    folder = dataset(store, sessions("ab cd") + sessions("abc", part="test"))
    assert words(folder) == {"s0": "ab", "s1": "cd"}
    assert words(folder, "test_") == {"ts0": "abc"}


def test_an_item_that_fell_stays_away_from_training_where_the_test_part_has_it(store: Store) -> None:
    rows = sessions("abxab ab") + sessions("xa", part="test")
    folder = dataset(store, rows, shop(**filters(item=2)))
    assert words(folder) == {"s0": "abab", "s1": "ab"}
    assert words(folder, "test_") == {"ts0": "xa"}
