"""What a description says of logs whose values are known by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from endcap.description import build_tables, describe, read_newest_items
from endcap.errors import NotFoundError
from endcap.events import ingest
from endcap.features import build
from endcap.rules.read import read_rules
from endcap.store import Store
from tests.events.shops import make_shop, write_csv
from tests.refusals import refused

LOG = [
    "s1,c1,i1,2024-03-01T10:00:00Z,view",
    "s1,c1,i2,2024-03-01T10:02:00Z,view",
    "s1,c1,i2,2024-03-01T10:02:00Z,cart",
    "s2,,i1,2024-03-01T12:00:00Z,view",
    "s2,,i3,2024-03-01T12:01:00Z,view",
    "s3,c3,i3,2024-03-05T08:00:00Z,view",
    "s4,c4,NULL,2024-03-05T09:00:00Z,view",
    "s4,c4,i1,2024-03-05T09:04:00Z,view",
]


class Made:
    """A shop with its snapshot and dataset; `describe` describes them."""

    def __init__(self, store: Store, folder: Path, rows: Sequence[str], items: Sequence[str] = (), **more: Any) -> None:
        log = write_csv(folder / "log.csv", list(rows))
        if items:
            table = write_csv(folder / "items.csv", list(items), "item,category")
            more["items"] = {"sources": [{"path": str(table)}], "columns": {"category": "category"}}
        self.store, self.shop = store, make_shop(log, **more)
        self.snapshot = ingest(self.shop, store)
        self.dataset = build(self.shop, self.snapshot, store)

    def describe(self) -> dict[str, Any]:
        return describe(self.snapshot, self.dataset, self.store, read_rules(self.shop))


def warned(told: dict[str, Any]) -> list[str]:
    return [warning["name"] for warning in told["warnings"]]


def test_a_log_is_told_by_its_numbers(store: Store, tmp_path: Path) -> None:
    rows = [*LOG, "s5,c5,i1,never,view", "s5,c5,,2024-03-05T09:04:00Z,view"]
    made = Made(
        store, tmp_path, rows, ["i1,shoe", "i2,hat", "i9,bag", "i9,sack"], events={"max_bad_share": 0.5}
    )  # fmt: skip
    told = made.describe()
    data, sessions = told["data"], told["sessions"]
    assert (data["events"], data["first"], data["last"]) == (8, 1709287200000, 1709629440000)
    assert data["days"] == {"first": "2024-03-01", "events": [5, 0, 0, 0, 3]}
    assert data["types"] == {"view": 7, "cart": 1}
    assert (data["anonymous"], data["day_only"]) == (2, False)
    assert (data["items"]["log"], data["items"]["words"]) == (4, {"NULL": 1})
    assert data["items"]["table"] == {
        "ids": 4, "missing": 2, "examples": ["i3", "NULL"], "likely": None, "events": 3,
    }  # fmt: skip
    assert data["items"]["unused"] == {"ids": 3, "missing": 1, "examples": ["i9"], "likely": None}
    assert told["rows"]["events"]["read"] == 10
    assert sum(told["rows"]["events"]["bad"].values()) == 2
    assert (told["rows"]["items"]["read"], told["rows"]["items"]["repeated"], told["rows"]["items"]["good"]) == (
        4,
        1,
        3,
    )
    # s3 has one event, and falls to the filter.
    assert (sessions["single"], sessions["before_filters"]["sessions"], sessions["after"]["sessions"]) == (1, 4, 3)
    assert sessions["dropped"] == {"outside_window": 0, "without_session": 0, "min_session_events": 1}
    assert {name: count for name, count in sessions["lengths"]["bands"].items() if count} == {"2": 2, "3": 1}
    assert (sessions["lengths"]["median"], sessions["minutes"]["max"]) == (2, 4)
    assert (sessions["transitions"], sessions["equal_times"], sessions["one_moment"]) == (4, 1, 0)
    assert warned(told) == ["items_without_row", "items_named_missing", "bad_rows", "days_without_events"]
    assert json.loads(json.dumps(told)) == told


def test_a_description_is_read_once_and_names_the_items_that_can_be_recommended(store: Store, tmp_path: Path) -> None:
    made = Made(store, tmp_path, LOG)
    assert read_newest_items("test", store) is None
    first = made.describe()
    (kept,) = store.list("descriptions/test")
    assert made.describe() == first
    assert store.list("descriptions/test") == [kept]
    items = read_newest_items("test", store)
    assert items is not None
    assert sorted(items.to_pylist()) == ["NULL", "i1", "i2", "i3"]


def test_names_of_the_shop_that_the_log_lacks_are_noticed(store: Store, tmp_path: Path) -> None:
    table = write_csv(tmp_path / "customers.csv", ["C1", "C3", "C4"], "customer")
    types = {"types": ["view", "purchse"]}
    told = Made(store, tmp_path, LOG[:5], events=types, customers={"sources": [{"path": str(table)}]}).describe()
    assert warned(told) == ["customers_without_row", "types_unmatched"]
    assert told["sessions"]["customer_table"]["likely"]["reason"] == "case"


ZEROS = [f"s{n // 3},c{n // 3},0{100 + n % 7},2024-03-{1 + n // 10:02}T{10 + n % 10}:00:00Z,view" for n in range(30)]
CATEGORIES = ["Home", "Food", "Home", "Toys", "Food", "Home", "Home"]


@pytest.mark.parametrize(
    ("lost", "warnings"),
    [
        (0, []),
        # One item's zero is lost: few events, but the reason is plain.
        (1, ["items_without_row"]),
        (7, ["rule_unmatched", "item_table_unmatched"]),
    ],
)
def test_an_item_table_whose_zeros_were_lost_is_noticed(
    lost: int, warnings: list[str], store: Store, tmp_path: Path
) -> None:
    items = [f"{'' if n < lost else '0'}{100 + n},{category}" for n, category in enumerate(CATEGORIES)]
    rules = {"attributes": [{"name": "no-food", "attribute": "category", "never": ["Food"]}]}
    told = Made(store, tmp_path, ZEROS, items, rules=rules).describe()
    assert warned(told) == warnings
    table = told["data"]["items"]["table"]
    assert (table["missing"], told["data"]["items"]["unused"]["missing"]) == (lost, lost)
    if lost:
        assert table["likely"] == {"reason": "leading_zeros", "ids": lost, "example": ["0100", "100"]}


@pytest.mark.parametrize(
    ("listed", "missing", "warnings"),
    [
        (["0102"], 0, []),
        (["0102", "gone", "gone2"], 2, []),  # a list may name what is sold no more
        (["102"], 1, ["blacklist_unmatched"]),
        (["0102", "103", "104"], 2, ["blacklist_unmatched"]),
        (["gone"], 1, ["blacklist_unmatched"]),
        ([], 0, []),
    ],
)
def test_a_blacklist_that_bars_nothing_is_noticed(
    listed: list[str], missing: int, warnings: list[str], store: Store, tmp_path: Path
) -> None:
    file = write_csv(tmp_path / "black.csv", listed, "item")
    told = Made(store, tmp_path, ZEROS, rules={"blacklist": {"sources": [{"path": str(file)}]}}).describe()
    assert told["rules"]["blacklist"]["missing"] == missing
    assert warned(told) == warnings


def of(count: int, row: str) -> list[str]:
    return [row.format(n=n, s=n // 2, h=n % 24, d=n // 24 + 1) for n in range(count)]


@pytest.mark.parametrize(
    ("rows", "warnings"),
    [
        (of(48, "s{s},c{s},i{n},2024-03-{d:02}T{h:02}:10Z,view"), []),
        (of(48, "s{s},c{s},i{n},2024-03-{d:02},view"), ["day_only_times", "one_moment_sessions"]),
        # Midnight of a zone is another hour in UTC after the clocks change.
        (
            of(24, "s{s},c{s},i{n},2024-03-30T23:00:00Z,view") + of(24, "t{s},c{s},i{n},2024-03-31T22:00:00Z,view"),
            ["day_only_times", "one_moment_sessions"],
        ),
        (of(48, "s{s},,i{n},2024-03-{d:02}T{h:02}:10Z,view"), []),  # nobody is named
        (
            of(30, "s{s},,i{n},2024-03-{d:02}T{h:02}:10Z,view")
            + of(10, "t{s},c{s},i{n},2024-03-{d:02}T{h:02}:10Z,view"),
            ["many_anonymous"],
        ),
        (
            of(48, "s{s},c{s},i{n},2024-03-01T{s:02}:10Z,view") + of(24, "s{n},c{n},i{n},2024-03-01T{n:02}:20Z,view"),
            ["equal_times"],
        ),
        (of(48, "s{s},c{s},i{n},2024-03-01T{s:02}:10Z,view"), ["equal_times", "one_moment_sessions"]),
        (
            of(30, "s{n},c{s},i{n},2024-03-01T{h:02}:10Z,view") + of(20, "t{s},c1,i{n},2024-03-01T{h:02}:10Z,view"),
            ["single_sessions", "busy_customer"],
        ),
        (
            of(24, "s{s},c{s},i{n},2024-03-01T{h:02}:10Z,view") + of(24, "t{s},c{s},i{n},2024-03-04T{h:02}:10Z,view"),
            ["days_without_events"],
        ),
        # The shop is closed on a Sunday.
        (
            of(24, "s{s},c{s},i{n},2024-03-01T{h:02}:10Z,view") + of(24, "t{s},c{s},i{n},2024-03-03T{h:02}:10Z,view"),
            [],
        ),
    ],
)  # fmt: skip
def test_what_looks_odd_is_warned_of_and_what_does_not_is_not(
    rows: list[str], warnings: list[str], store: Store, tmp_path: Path
) -> None:
    assert warned(Made(store, tmp_path, rows).describe()) == warnings


@pytest.mark.parametrize(
    ("item", "customer", "warnings"),
    [
        ("i1 ", "c1", ["items_alike"]),
        ("\u00a0i1", "c1", ["items_alike"]),
        ("I1", "c1", ["items_alike"]),
        ("i1", " c1", ["customers_alike"]),
        ("i1", "C1", ["customers_alike"]),
        ("I1 ", "c 1", []),  # more than one thing differs, or it is within the id
    ],
)
def test_ids_that_differ_in_blanks_or_capitals_alone_are_noticed(
    item: str, customer: str, warnings: list[str], store: Store, tmp_path: Path
) -> None:
    of_minutes = "s{0},{1},{2},2024-03-01T10:0{3}:00Z,view"
    whose = [("c1", "i1"), ("c2", "i2"), (customer, item)]
    told = Made(store, tmp_path, [of_minutes.format(n, *whose[n], at) for n in range(3) for at in range(2)]).describe()
    assert warned(told) == warnings
    ids = {"items_alike": ["i1", item], "customers_alike": ["c1", customer]}
    alike = {"items_alike": told["data"]["items"]["alike"], "customers_alike": told["sessions"]["customers_alike"]}
    for name, ways in alike.items():
        assert [(same["ids"], sorted(same["example"])) for same in ways.values()] == [
            (2, sorted(ids[name])) for warning in warnings if warning == name
        ]
    rows = [row for table in build_tables(told).values() for row in table.rows if "alone" in str(row[0])]
    assert len(rows) == len(warnings)


def test_few_ids_that_differ_in_capitals_are_counted_alone(store: Store, tmp_path: Path) -> None:
    rows = [f"s{n // 2},c{n // 2},i{n},2024-03-01T10:00:{n % 60:02}Z,view" for n in range(250)]
    told = Made(store, tmp_path, [*rows, "s1,c1,I1,2024-03-01T11:00:00Z,view"]).describe()
    assert told["data"]["items"]["alike"] == {"case": {"ids": 2, "example": ["I1", "i1"]}}
    assert "items_alike" not in warned(told)


@pytest.mark.parametrize("by", ["given", "gap"])
def test_the_share_without_a_customer_is_of_all_rows_however_sessions_are_made(
    by: str, store: Store, tmp_path: Path
) -> None:
    rows = of(30, "s{s},,i{n},2024-03-{d:02}T{h:02}:10Z,view") + of(10, "t{s},c{s},i{n},2024-03-02T{h:02}:10Z,view")
    told = Made(store, tmp_path, rows, sessions={"by": by, "gap": "2h"}).describe()
    assert told["sessions_by"] == by
    (warning,) = (warning for warning in told["warnings"] if warning["name"] == "many_anonymous")
    assert (warning["anonymous"], warning["share"], warning["sessions_by"]) == (30, 0.75, by)


def test_what_steps_note_is_told_and_what_older_ones_do_not_is_left_out(store: Store, tmp_path: Path) -> None:
    made = Made(store, tmp_path, LOG)
    noted = store.manifest(made.snapshot)["facts"]
    cut = {name: noted[name] for name in ("events", "days", "first", "last", "bad", "rows", "duplicates", "sources")}
    full = {
        **noted,
        "bad": {"events": {"time is no ISO 8601 time": 3}},
        "examples": {"events": {"time is no ISO 8601 time": {"source": "/in/log.csv", "line": 7, "value": "12/31"}}},
        "left_out": {"events": {"other_types": 4, "returns": 2}},
        "times": {"ambiguous": 5, "shifted": 1},
        "missing": {"customer": 9},
        "activity": {"rows": 11, "bytes": 100},
    }
    older, newer = (_copied(store, made.snapshot, facts, name) for name, facts in (("0" * 20, cut), ("1" * 20, full)))
    told = describe(older, None, store)
    assert told["rows"]["events"] == {
        "read": None, "bad": {}, "left_out": {}, "examples": {}, "repeated": 0, "good": 8,
    }  # fmt: skip
    assert "sessions" not in told
    told = describe(newer, None, store)
    assert told["rows"]["events"]["left_out"] == {"other_types": 4, "returns": 2}
    assert warned(told)[:2] == ["items_named_missing", "bad_rows"]
    shown = build_tables(told)
    assert ["events", 3, "time is no ISO 8601 time", "12/31", "log.csv, line 7"] in shown["Bad rows"].rows
    assert [row[:2] for row in shown["Rows left out"].rows] == [["events", 4], ["events", 2]]
    assert {"5", "1", "9", "11 rows"} <= {value for _, value in shown["The log"].rows}


def _copied(store: Store, snapshot: str, facts: dict[str, Any], key: str) -> str:
    """The same tables as a snapshot that notes other things."""
    with store.publish("snapshots/test", key) as draft:
        for file in sorted(store.fetch(snapshot).rglob("*.parquet")):
            copy = draft.path / file.relative_to(store.fetch(snapshot))
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(file.read_bytes())
        draft.facts |= facts
    return draft.address


def test_a_snapshot_that_is_no_more_is_named(store: Store) -> None:
    with refused(NotFoundError, "description.no-snapshot"):
        describe(None, f"{store.root}/datasets/test/1", store)
