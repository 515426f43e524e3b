"""Rows that a shop's rules leave out: neither good nor bad, counted under the rule's name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from endcap.errors import DataError
from endcap.events import ingest
from endcap.rules.read import read_catalogue
from endcap.spec.load import load_documents
from endcap.spec.shop import Shop
from endcap.store import Store
from tests.events.shops import ROWS, facts, make_shop, open_snapshot, stored, write_csv
from tests.refusals import misspelt, mistaken, refused

GAP = {"by": "gap"}
DAY = "2024-03-01T10:00:00Z"
OWNED = {"owned": {"types": ["buy"]}}


def left_out(store: Store, address: str) -> dict[str, Any]:
    """What rules left out; every row of the files is good, bad, left out, or a duplicate of one."""
    its = facts(store, address)
    counts = {kind: sum(its[kind].get("events", {}).values()) for kind in ("left_out", "bad")}
    assert its["rows"] == its["events"] + its["duplicates"] + sum(counts.values())
    return dict(its["left_out"])


def where(conditions: dict[str, Any], rows: list[str], header: str, folder: Path, store: Store) -> list[str]:
    """The items of the rows that fit the conditions."""
    log = write_csv(folder / "log.csv", [f"s,{number},{DAY},{row}" for number, row in enumerate(rows)], header)
    shop = make_shop(
        {"path": str(log), "where": conditions}, events={"columns": {"session": "session"}, "max_bad_share": 0.9}
    )
    return [item for (item,) in stored(store, ingest(shop, store), "item")]


def test_rows_of_other_types_are_not_bad_whatever_they_lack(tmp_path: Path, store: Store) -> None:
    search = ["s1,c1,,2024-03-01T10:00:00Z,search"] * 5 + ["s1,c1,7.0,never,search", ",,,,search"]
    log = write_csv(tmp_path / "log.csv", [*ROWS, *search, "s1,c1,i1,never,view"])
    shop = make_shop(log, events={"types": ["view"], "max_bad_share": 0.25})
    address = ingest(shop, store)
    assert left_out(store, address) == {"events": {"other_types": 8}}
    assert list(facts(store, address)["bad"]["events"].values()) == [1]
    # The one bad row is one of four that are left, not of twelve.
    with refused(DataError, "events.bad-rows", bad=1, rows=4, left_out={"other_types": 8}):
        ingest(make_shop(log, events={"types": ["view"], "max_bad_share": 0.24}), store)


def test_types_of_a_published_layout_are_left_out_alike(tmp_path: Path, store: Store) -> None:
    log = write_csv(
        tmp_path / "log.csv",
        ["1433221332117,1,view,10,", "1433221332118,1,transaction,,5", "1433221332119,,addtocart,10,"],
        "timestamp,visitorid,event,itemid,transactionid",
    )
    source = {"path": str(log), "layout": "retailrocket"}
    address = ingest(make_shop(source, events={"types": ["view"]}, sessions=GAP), store)
    assert left_out(store, address) == {"events": {"other_types": 2}}
    assert facts(store, address)["bad"] == {}


def test_types_that_make_an_item_a_customers_are_kept(tmp_path: Path, store: Store) -> None:
    log = write_csv(tmp_path / "log.csv", [*ROWS, "s2,c2,i3,2024-03-02T09:00:00Z,buy"])
    address = ingest(make_shop(log, events={"types": ["cart"]}, rules=OWNED), store)
    assert sorted(stored(store, address, "type")) == [("buy",), ("cart",)]
    assert left_out(store, address) == {"events": {"other_types": 3}}
    values = {"type": [["view", 3], ["buy", 1], ["cart", 1]]}
    with refused(DataError, "events.none-left", rows=5, types=["look"], left_out={"other_types": 4}) as stopped:
        ingest(make_shop(log, events={"types": ["look"]}, rules=OWNED), store)
    with refused(DataError, "events.none-left", rows=5, left_out={"other_types": 5}, values=values) as stopped:
        ingest(make_shop(log, events={"types": ["look"]}), store)
    assert all(word in str(stopped.value) for word in ("'look'", "'view' 3"))
    with mistaken((("rules", "owned", "types"), "conflict")):
        make_shop(log, events={"columns": {"session": "session"}}, rules=OWNED)


def test_rows_without_customer_are_left_out_where_sessions_are_a_customers(tmp_path: Path, store: Store) -> None:
    rows = [f",{'' if number % 4 == 0 else 'c'},i{number},2024-03-01T10:{number}:00Z,view" for number in range(10, 50)]
    log = write_csv(tmp_path / "log.csv", rows)
    address = ingest(make_shop(log, sessions=GAP), store)
    assert left_out(store, address) == {"events": {"without_customer": 10}}
    assert (facts(store, address)["events"], facts(store, address)["bad"]) == (30, {})
    nobody = write_csv(tmp_path / "nobody.csv", [row.replace(",c,", ",,") for row in rows])
    with refused(DataError, "events.none-left", rows=40, left_out={"without_customer": 40}):
        ingest(make_shop(nobody, sessions=GAP), store)


def test_the_first_rule_that_holds_is_the_one_that_counts(tmp_path: Path, store: Store) -> None:
    rows = [
        "s,c,i,view,CH,1",
        "s,c,,view,AT,-1",
        "s,,,view,CH,-1",
        "s,c,,cart,CH,-1",
        "s,c,,cart,CH,1",
        "s,,,view,CH,1",
    ]
    log = write_csv(tmp_path / "log.csv", [f"{row},{DAY}" for row in rows], "session,customer,item,type,country,n,time")
    events = {"types": ["view"], "returns": {"n": {"below": 0}}}
    shop = make_shop({"path": str(log), "where": {"country": "CH"}}, events=events, sessions=GAP)
    address = ingest(shop, store)
    assert left_out(store, address) == {"events": {"where": 1, "returns": 2, "other_types": 1, "without_customer": 1}}
    assert stored(store, address, "item") == [("i",)]


@pytest.mark.parametrize(
    ("condition", "fitting"),
    [
        ("5", "0"),
        (5, "0"),
        (["5", "x"], "03"),
        ({"among": ["NULL"]}, "6"),
        ({"not_among": ["5", "x"]}, "1245"),
        ({"prefix": "5"}, "01"),
        ({"prefix": "N"}, ""),
        ({"min": 5}, "014"),
        ({"max": 5}, "02"),
        ({"above": 5}, "14"),
        ({"below": 5}, "2"),
        ({"min": -1, "below": 5.5, "not_among": ["5"]}, "2"),
        ({"present": True}, "012345"),
        ({"present": False}, "678"),
    ],
)
def test_a_condition_holds_for(condition: Any, fitting: str, tmp_path: Path, store: Store) -> None:
    values = ["5", "5.5", "-1", "x", "1e3", "inf", "NULL", "", " "]
    if not fitting:
        with refused(DataError, "events.none-left", rows=9, left_out={"where": 9}):
            where({"v": condition}, values, "session,item,time,v", tmp_path, store)
        return
    assert "".join(where({"v": condition}, values, "session,item,time,v", tmp_path, store)) == fitting


NO_NUMBERS = ["-1,234", "(4)", "-5 pcs", "inf", "1.5.2", "4-"]


@pytest.mark.parametrize("rule", ["returns", "where"])
def test_a_value_that_is_no_number_under_a_bound_is_a_bad_row(rule: str, tmp_path: Path, store: Store) -> None:
    read = ["4", "-3", "\u22123", "", "NULL"]
    rows = [f's,{place},{DAY},view,"{value}"' for place, value in enumerate([*read, *NO_NUMBERS])]
    log = write_csv(tmp_path / "log.csv", [*rows, f"s,other,{DAY},look,many"], "session,item,time,type,n")
    source = {"path": str(log), "where": {"n": {"above": 0}}} if rule == "where" else str(log)
    events = {"columns": {"session": "session", "type": "type"}, "types": ["view"], "max_bad_share": 0.9}
    address = ingest(
        make_shop(source, events=events | ({"returns": {"n": {"below": 0}}} if rule == "returns" else {})), store
    )
    kept = {"where": ["0"], "returns": ["0", "3", "4"]}[rule]
    assert [item for (item,) in stored(store, address, "item")] == kept
    assert left_out(store, address) == {"events": {rule: len(read) - len(kept), "other_types": 1}}
    its = facts(store, address)
    assert sum(its["bad"]["events"].values()) == len(NO_NUMBERS)
    assert its["examples"]["events"]["n is not a number"] == {"source": str(log), "line": 8, "value": "(4)"}


def test_what_another_condition_leaves_out_needs_no_number(tmp_path: Path, store: Store) -> None:
    conditions = {"of": "a", "n": {"min": 1, "not_among": ["x"]}}
    assert where(conditions, ["a,1", "b,y", "a,x"], "session,item,time,of,n", tmp_path, store) == ["0"]
    shop = make_shop(
        {"path": str(tmp_path / "log.csv"), "where": conditions}, events={"columns": {"session": "session"}}
    )
    assert left_out(store, ingest(shop, store)) == {"events": {"where": 2}}


def test_all_conditions_of_a_source_hold_and_quotes_are_text(tmp_path: Path, store: Store) -> None:
    conditions = {"it's": ["O'Neill", 'a "b"'], "n": {"above": 1}}
    rows = ["O'Neill,2", "O'Neill,1", '"a ""b""",3', "O,4"]
    assert where(conditions, rows, "session,item,time,it's,n", tmp_path, store) == ["0", "2"]


def test_numbers_of_conditions_have_the_decimal_mark_of_their_source(tmp_path: Path, store: Store) -> None:
    log = write_csv(tmp_path / "log.csv", [f"s;a;{DAY};0,5", f"s;b;{DAY};1,5"], "session;item;time;price")
    source = {"path": str(log), "delimiter": ";", "decimal": ",", "where": {"price": {"above": 1}}}
    address = ingest(make_shop(source, events={"columns": {"session": "session"}}), store)
    assert stored(store, address, "item") == [("b",)]


def test_a_column_that_only_a_condition_names_must_be_there(tmp_path: Path, store: Store) -> None:
    log = write_csv(tmp_path / "log.csv", ROWS)
    other = write_csv(tmp_path / "other.csv", ROWS)
    returns = {"returns": {"quantity": {"below": 0}}}
    missing = [{"column": "quantity", "key": "events.returns", "near": None}]
    with refused(DataError, "events.column-missing", missing=missing):
        ingest(make_shop(log, events=returns), store)
    with refused(DataError, "events.column-empty", columns={"quantity": "events.returns"}):
        ingest(make_shop(log, other, events=returns), store)
    missing = [{"column": "tipe", "key": "events.sources[1].where", "near": "type"}]
    with refused(DataError, "events.column-missing", path=str(other), missing=missing):
        ingest(make_shop(log, {"path": str(other), "where": {"tipe": "view"}}), store)


def test_conditions_see_json_and_parquet_as_they_see_csv(tmp_path: Path, store: Store) -> None:
    rows = [
        {"session": "s", "item": "a", "time": DAY, "live": True, "n": 2},
        {"session": "s", "item": "b", "time": DAY, "live": False, "n": 2},
        {"session": "s", "item": "c", "time": DAY, "n": 2},
        {"session": "s", "item": "d", "time": DAY, "live": True, "n": 0},
    ]
    (tmp_path / "log.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "log.parquet")
    for file in ("log.jsonl", "log.parquet"):
        source = {"path": str(tmp_path / file), "where": {"live": True, "n": {"above": 1}}}
        address = ingest(make_shop(source, events={"columns": {"session": "session"}}), store)
        assert stored(store, address, "item") == [("a",)]
        assert left_out(store, address) == {"events": {"where": 3}}


def test_item_and_customer_tables_and_blacklists_have_conditions(tmp_path: Path, store: Store) -> None:
    log = write_csv(tmp_path / "log.csv", ROWS)
    items = write_csv(tmp_path / "items.csv", ["i1,old,de", "i1,new,en", "i2,x,en", ",lost,de"], "item,title,language")
    clients = write_csv(tmp_path / "customers.csv", ["c1,1", "c2,0"], "customer,active")
    black = write_csv(tmp_path / "black.csv", ["i1,0", "i2,1"], "item,recalled")
    english = {"path": str(items), "where": {"language": "en"}}
    tables = {
        "items": {"sources": [english], "columns": {"title": "title"}},
        "customers": {"sources": [{"path": str(clients), "where": {"active": 1}}]},
        "rules": {"blacklist": {"sources": [{"path": str(black), "where": {"recalled": 1}}]}},
    }
    shop = make_shop(log, **tables)
    snapshot = open_snapshot(store, ingest(shop, store))
    assert pq.read_table(snapshot.items).column("title").to_pylist() == ["new", "x"]
    assert pq.read_table(snapshot.customers).column("customer").to_pylist() == ["c1"]
    assert snapshot.facts["left_out"] == {"items": {"where": 2}, "customers": {"where": 1}}
    catalogue = read_catalogue(shop)
    assert (catalogue.items.column("item").to_pylist(), catalogue.blacklist) == (["i1", "i2"], {"i2"})
    tables["items"]["sources"] = [english | {"where": {"language": "fr"}}]
    values = {"language": [["de", 2], ["en", 2]]}
    with refused(DataError, "events.table-empty", table="item", left_out=4, values=values):
        ingest(make_shop(log, **tables), store)


def test_the_count_of_what_is_left_out_is_of_the_snapshot(tmp_path: Path, store: Store) -> None:
    log, more = write_csv(tmp_path / "log.csv", ROWS), write_csv(tmp_path / "more.csv", [*ROWS, ROWS[0]])
    first, second = (ingest(make_shop(file, events={"types": ["cart"]}), store) for file in (log, more))
    assert (left_out(store, first), left_out(store, second)) == (
        {"events": {"other_types": 3}},
        {"events": {"other_types": 4}},
    )
    assert facts(store, first)["fingerprint"] == facts(store, second)["fingerprint"]


def test_a_file_whose_rows_are_all_left_out_is_not_empty(tmp_path: Path, store: Store) -> None:
    log, carts = write_csv(tmp_path / "a.csv", ROWS), write_csv(tmp_path / "b.csv", [ROWS[2]])
    nothing = write_csv(tmp_path / "c.csv", [])
    address = ingest(make_shop(log, carts, nothing, events={"types": ["view"]}), store)
    assert facts(store, address)["empty_files"] == [str(nothing)]


# The type of a source


def test_a_source_says_of_which_type_its_events_are(tmp_path: Path, store: Store) -> None:
    views = write_csv(tmp_path / "views.csv", ["s1,i1,2024-03-01", "s1,i2,2024-03-02"], "session,item,time")
    carts = write_csv(tmp_path / "carts.csv", ["s1,i1,2024-03-03"], "session,item,time")
    sources = [{"path": str(views), "type": "view"}, {"path": str(carts), "type": "cart"}]
    events = {"columns": {"session": "session"}}
    expected = [("i1", "view"), ("i2", "view"), ("i1", "cart")]
    assert stored(store, ingest(make_shop(*sources, events=events), store), "item, type") == expected
    only = ingest(make_shop(*sources, events=events | {"types": ["view"]}), store)
    assert left_out(store, only) == {"events": {"other_types": 1}}
    log = write_csv(tmp_path / "log.csv", ["s1,,i3,2024-03-03,buy"])
    typed = ingest(make_shop(*sources, log, events={"columns": events["columns"] | {"type": "type"}}), store)
    assert stored(store, typed, "item, type") == [*expected, ("i3", "buy")]


def test_the_type_of_a_source_is_above_the_column_and_the_layout(tmp_path: Path, store: Store) -> None:
    log = write_csv(tmp_path / "log.csv", ROWS)
    assert set(stored(store, ingest(make_shop({"path": str(log), "type": "hit"}), store), "type")) == {("hit",)}
    clicks = write_csv(tmp_path / "clicks.dat", ["1,2014-04-07T10:51:09.277Z,214536502,0"], "1,2014-04-07,2,0")
    visits = write_csv(
        tmp_path / "v.csv", ["1433221332117,1,view,10,"], "timestamp,visitorid,event,itemid,transactionid"
    )
    for file, layout, by in ((clicks, "yoochoose-clicks", "given"), (visits, "retailrocket", "gap")):
        source = {"path": str(file), "layout": layout, "type": "hit"}
        address = ingest(make_shop(source, events={"types": ["hit"]}, sessions={"by": by}), store)
        assert set(stored(store, address, "type")) == {("hit",)}


def test_types_to_keep_are_said_somewhere(tmp_path: Path) -> None:
    with mistaken((("events", "types"), "conflict")):
        make_shop("a.csv", {"path": "b.csv", "type": "cart"}, events={"columns": {"session": "s"}, "types": ["cart"]})


# Orders


INVOICES = [
    "1001,A,2,17000.0,12/1/2023 8:00",
    "1001,B,1,17000.0,12/1/2023 8:00",
    "1002,A,1,,12/1/2023 9:00",
    "1002,C,3,,12/1/2023 9:00",
    "C1003,A,-2,17000.0,12/2/2023 9:00",
    "1004,B,-5,17000.0,12/2/2023 9:00",
    "C1005,,4,17001.0,never",
]


def test_what_takes_an_order_back_is_no_order(tmp_path: Path, store: Store) -> None:
    header = "InvoiceNo,StockCode,Quantity,CustomerID,InvoiceDate"
    rows = [row.replace("12/1/2023", "2023-12-01").replace("12/2/2023", "2023-12-02") for row in INVOICES]
    log = write_csv(
        tmp_path / "invoices.csv", [row.replace(" 8:", " 08:").replace(" 9:", " 09:") for row in rows], header
    )
    columns = {"session": "InvoiceNo", "customer": "CustomerID", "item": "StockCode", "time": "InvoiceDate"}
    events = {
        "columns": columns,
        "returns": {"Quantity": {"below": 0}, "InvoiceNo": {"prefix": "C"}},
        "float_ids": "whole",
    }
    items = {
        "sources": [{"path": str(log), "where": {"StockCode": {"present": True}}}],
        "columns": {"item": "StockCode"},
    }
    snapshot = open_snapshot(store, ingest(make_shop(log, events=events, items=items), store))
    assert left_out(store, snapshot.address) == {"events": {"returns": 3}, "items": {"where": 1}}
    assert snapshot.facts["bad"] == {}
    sold = [("1001", "17000", "A"), ("1001", "17000", "B"), ("1002", None, "A"), ("1002", None, "C")]
    assert stored(store, snapshot.address, "session, customer, item") == sold
    assert snapshot.facts["items"]["rows"] == 3


@pytest.mark.parametrize("gone", [{"present": True}, {"not_among": ["no"]}, {"present": False}])
def test_only_sources_with_orders_have_returns(gone: dict[str, Any], tmp_path: Path, store: Store) -> None:
    views = write_csv(tmp_path / "views.csv", ROWS)
    orders = [{"session": "o", "item": item, "time": DAY, "gone": when} for item, when in (("x", "now"), ("y", None))]
    (tmp_path / "orders.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in orders))
    address = ingest(
        make_shop(
            views, tmp_path / "orders.jsonl", events={"columns": {"session": "session"}, "returns": {"gone": gone}}
        ),
        store,
    )
    assert left_out(store, address) == {"events": {"returns": 1}}
    sold = stored(store, address, "item")
    assert sold == [("i1",), ("i2",), ("i1",), ("i3",), ("x" if gone == {"present": False} else "y",)]


# Ids that were saved as floats


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("17000.0", "17000"),
        ("100.00", "100"),
        ("-1.0", "-1"),
        ("0.0", "0"),
        ("123456789012345.0", "123456789012345"),
        ("17000", "17000"),
        ("007", "007"),
        ("1.50", "1.50"),
        ("1.0.0", "1.0.0"),
        ("v1.0", "v1.0"),
        ("10", "10"),
        ("1234567890123456.0", "is a float of more than 15 digits"),
        ("1.7E+04", "is a number such as 1.2E+08"),
        ("nan", "is nan"),
    ],
)
def test_ids_that_were_saved_as_floats_are_read_as_whole_numbers(
    text: str, read: str, tmp_path: Path, store: Store
) -> None:
    log = write_csv(tmp_path / "log.csv", [f"s,c,{text},2024-03-01,view", "s,c,good,2024-03-01,view"])
    address = ingest(make_shop(log, events={"float_ids": "whole", "max_bad_share": 0.9}), store)
    if read.startswith("is "):
        (reason,) = facts(store, address)["bad"]["events"]
        assert reason.startswith(f"item {read}")
    else:
        assert stored(store, address, "item")[0] == (read,)


def test_each_value_of_an_id_out_of_several_columns_is_looked_at(tmp_path: Path, store: Store) -> None:
    rows = [f"2024-03-01,{user},a,2024-03-01" for user in ("7.0", "8", "1.7E+04")]
    log = write_csv(tmp_path / "log.csv", rows, "day,user,item,time")
    events = {"columns": {"session": ["day", "user"]}, "max_bad_share": 0.7}
    refusing, whole = (ingest(make_shop(log, events=events | more), store) for more in ({}, {"float_ids": "whole"}))
    assert stored(store, refusing, "session") == [("2024-03-01|8",)]
    assert stored(store, whole, "session") == [("2024-03-01|7",), ("2024-03-01|8",)]


def test_ids_meet_in_all_tables_of_the_shop(tmp_path: Path, store: Store) -> None:
    columns = {
        "session": [1.0, 1.0],
        "customer": [7.0, None],
        "item": [10.0, 11.0],
        "time": [DAY] * 2,
        "type": ["v"] * 2,
    }
    pq.write_table(pa.table(columns), tmp_path / "log.parquet")
    items = write_csv(tmp_path / "items.csv", ["10.0,5.0", "11,6.0"], "item,category")
    clients = write_csv(tmp_path / "customers.csv", ["7.0,1.0"], "customer,level")
    black = write_csv(tmp_path / "black.csv", ["10.0"], "item")
    shop = make_shop(
        tmp_path / "log.parquet",
        events={"float_ids": "whole"},
        items={"sources": [{"path": str(items)}], "columns": {"category": "category"}},
        customers={"sources": [{"path": str(clients)}], "categorical": ["level"]},
        rules={"blacklist": {"sources": [{"path": str(black)}]}},
    )
    snapshot = open_snapshot(store, ingest(shop, store))
    assert stored(store, snapshot.address, "session, customer, item") == [("1", "7", "10"), ("1", None, "11")]
    assert pq.read_table(snapshot.items).to_pylist() == [
        {"item": "10", "category": "5.0"},
        {"item": "11", "category": "6.0"},
    ]
    assert pq.read_table(snapshot.customers).to_pylist() == [{"customer": "7", "level": "1.0"}]
    catalogue = read_catalogue(shop)
    assert (catalogue.items.column("item").to_pylist(), catalogue.blacklist) == (["10", "11"], {"10"})


def test_32_bit_floats_that_may_have_lost_digits_are_no_ids(tmp_path: Path, store: Store) -> None:
    table = pa.table(
        {"session": ["s"] * 3, "item": pa.array([16_777_216.0, 16_777_218.0, 9.0], pa.float32()), "time": [DAY] * 3}
    )
    pq.write_table(table, tmp_path / "log.parquet")
    events = {"columns": {"session": "session"}, "float_ids": "whole", "max_bad_share": 0.7}
    address = ingest(make_shop(tmp_path / "log.parquet", events=events), store)
    assert stored(store, address, "item") == [("9",)]


# What the spec refuses


@pytest.mark.parametrize(
    ("condition", "at", "code"),
    [
        ({}, "", "missing"),
        ([], "", "wrong-type"),
        (None, "", "wrong-type"),
        (1.50, "", "wrong-type"),
        (["a", 1.0], "[1]", "wrong-type"),
        ({"among": ["a", 1.0]}, ".among[1]", "wrong-type"),
        ("", ".among[0]", "not-allowed"),
        ({"prefix": ""}, ".prefix", "not-allowed"),
        ({"min": 3, "max": 2}, ".max", "conflict"),
        ({"above": 3, "max": 3}, ".max", "conflict"),
        ({"min": 3, "above": 5, "below": 4}, ".below", "conflict"),
        ({"present": False, "min": 1}, ".present", "conflict"),
        ({"least": 1}, ".least", "unknown-key"),
        ({"min": "3"}, ".min", "wrong-type"),
    ],
)
def test_a_condition_that_cannot_be_meant_is_refused(condition: Any, at: str, code: Any) -> None:
    head = {"apiVersion": "endcap/v2", "name": "shop"}
    recommender = {**head, "kind": "Recommender", "shop": "shop", "model": {"name": "popularity"}}
    sources = [{"path": "a.csv", "where": {"price": condition}}]
    shop = {**head, "kind": "Shop", "events": {"columns": {"session": "s"}, "sources": sources}}
    with misspelt((f"events.sources[0].where.price{at}", code)):
        load_documents(recommender, shop)


def test_a_shop_with_conditions_is_the_same_after_a_trip_through_json() -> None:
    returns = {"n": {"below": 0}, "invoice": {"prefix": "C"}, "state": ["void", 7], "gone": {"present": True}}
    shop = make_shop({"path": "a.csv", "where": {"live": True}, "type": "view"}, events={"returns": returns})
    assert Shop.model_validate(json.loads(json.dumps(shop.model_dump(mode="json")))) == shop
    with pytest.raises(ValidationError):
        make_shop({"path": "a.csv", "type": ""})
