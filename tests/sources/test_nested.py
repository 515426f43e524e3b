"""Nested logs: paths into JSON lines, JSON arrays, Parquet and CSV columns of JSON, and what is no plain value."""

from __future__ import annotations

import csv
import gzip
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from endcap.errors import DataError
from endcap.events import ingest
from endcap.sources.formats.paths import EachStep, KeyStep, MatchStep, format_path, list_text_paths, parse_path
from endcap.store import Store, open_store
from tests.events.shops import facts, make_shop, open_snapshot, stored
from tests.refusals import refused

COLUMNS = {"session": "visit.id", "customer": "visit.who", "item": "goods[].sku", "time": "at", "type": "kind"}
EVENTS = {"columns": COLUMNS, "time": {"unit": "ms"}, "max_bad_share": 1.0}
T = 1_700_000_000_000
ROWS = [
    {"visit": {"id": "s1", "who": "u1"}, "at": T, "kind": "view", "goods": [{"sku": "a"}]},
    {"visit": {"id": "s1", "who": "u1"}, "at": T + 1, "kind": "buy", "goods": [{"sku": "b"}, {"sku": "a"}, {"n": 1}]},
    {"visit": {"id": "s2", "who": None}, "at": T + 2, "kind": "page", "goods": []},
    {"visit": {"id": "s2", "who": None}, "at": T + 3, "kind": "page", "goods": None},
    {"visit": {"id": "s2", "who": None}, "at": T + 4, "kind": "view", "goods": [{"sku": "c"}]},
]
STORED = [
    ("s1", "u1", "a", T, "view"),
    ("s1", "u1", "b", T + 1, "buy"),
    ("s1", "u1", "a", T + 1, "buy"),
    ("s2", None, "c", T + 4, "view"),
]
SCHEMA = pa.schema(
    [
        ("visit", pa.struct([("id", pa.string()), ("who", pa.string())])),
        ("at", pa.int64()),
        ("kind", pa.string()),
        ("goods", pa.list_(pa.struct([("sku", pa.string()), ("n", pa.int64())]))),
    ]
)


def write(folder: Path, form: str, rows: list[dict[str, Any]], schema: pa.Schema = SCHEMA) -> Path:
    """The rows as a file of this form."""
    if form == "parquet":
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), folder / "log.parquet")
        return folder / "log.parquet"
    if form == "csv":
        with (folder / "log.csv").open("w", newline="") as handle:
            writer = csv.writer(handle)
            writer.writerow(schema.names)
            for row in rows:
                values = (row.get(name) for name in schema.names)
                writer.writerow(
                    "" if one is None else json.dumps(one) if isinstance(one, dict | list) else one for one in values
                )
        return folder / "log.csv"
    texts = {
        "lines": "".join(f"{json.dumps(row)}\n" for row in rows),
        "array": json.dumps(rows),
        "pretty array": json.dumps(rows, indent=2),
        "pretty objects": "\n".join(json.dumps(row, indent=1) for row in rows),
        "arrays": "\n".join(json.dumps([row]) for row in rows),
    }
    (folder / "log.json").write_text(texts[form])
    return folder / "log.json"


def bad(store: Store, address: str) -> list[dict[str, Any]]:
    """The rows that were set aside."""
    return [json.loads(line) for line in open_snapshot(store, address).quarantine.read_text().splitlines()]


@pytest.mark.parametrize(
    ("form", "lines"),
    [
        ("lines", [2, 3, 4]),
        ("array", [1, 1, 1]),
        ("pretty array", [15, 34, 43]),
        ("pretty objects", [14, 33, 42]),
        ("arrays", [2, 3, 4]),
        ("parquet", [2, 3, 4]),
        ("csv", [3, 4, 5]),
    ],
)
def test_a_row_of_a_list_becomes_a_row_for_each_element(
    tmp_path: Path, store: Store, form: str, lines: list[int]
) -> None:
    address = ingest(make_shop(write(tmp_path, form, ROWS), events=EVENTS), store)
    assert stored(store, address) == STORED
    assert facts(store, address)["bad"] == {"events": {"item is empty": 3}}
    assert [row["line"] for row in bad(store, address)] == lines


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("a.b", [(KeyStep("a"), KeyStep("b"))]),
        ("a[]", [(KeyStep("a"), EachStep())]),
        ("a[k=v].b[].c d", [(KeyStep("a"), MatchStep("k", "v"), KeyStep("b"), EachStep(), KeyStep("c d"))]),
        ("a[s=iglu:x/y/1-0-0].b", [(KeyStep("a"), MatchStep("s", "iglu:x/y/1-0-0"), KeyStep("b"))]),
        ('"a.b".c', [(KeyStep("a.b"), KeyStep("c"))]),
        ("a.b | c", [(KeyStep("a"), KeyStep("b")), (KeyStep("c"),)]),
    ],
)
def test_paths_are_written_as_they_are_read(name: str, path: list[Any]) -> None:
    assert parse_path(name) == path
    assert " | ".join(map(format_path, path)) == name


@pytest.mark.parametrize("name", ["item", "user_id:token", "price (EUR)", "a..b", "a[", "weight [kg]", ".a", "a|b", ""])
def test_other_names_are_plain(name: str) -> None:
    assert parse_path(name) == []


def test_the_paths_of_a_file_are_listed_as_one_would_write_them() -> None:
    texts = ['{"a": {"b": 1}, "p": [{"key": "id", "value": {"int": "7"}}]}', "no json", '{"l": [1], "c": 1}']
    assert list_text_paths(texts) == ["a.b", "p[key=id].value.int", "l[]"]


@pytest.mark.parametrize("form", ["lines", "parquet", "csv"])
def test_a_column_that_is_literally_so_named_comes_first(tmp_path: Path, store: Store, form: str) -> None:
    rows = [{"visit.id": "right", "visit": {"id": "wrong"}, "goods[].sku": "x", "at": T, "goods": [{"sku": "y"}]}]
    schema = pa.schema([*SCHEMA, ("visit.id", pa.string()), ("goods[].sku", pa.string())])
    columns = {"session": "visit.id", "item": "goods[].sku", "time": "at"}
    address = ingest(make_shop(write(tmp_path, form, rows, schema), events=EVENTS | {"columns": columns}), store)
    assert stored(store, address, "session, item") == [("right", "x")]


@pytest.mark.parametrize("form", ["lines", "parquet", "csv"])
def test_an_element_by_its_key_and_the_first_path_with_a_value(tmp_path: Path, store: Store, form: str) -> None:
    def parameters(**values: Any) -> list[dict[str, Any]]:
        return [{"key": key, "value": {"int": one}} for key, one in values.items()]

    big = 2**62 + 1
    rows = [
        {"p": parameters(other=1, sid=big, more=2), "one": {"id": "x"}, "at": T},
        {"p": parameters(sid=7), "many": [{"id": "y"}, {"id": "z"}], "one": {"id": "x"}, "at": T},
        {"p": parameters(other=5), "one": {"id": "lost"}, "at": T},
        {"p": None, "one": None, "at": T},
    ]
    one = pa.struct([("id", pa.string())])
    values = pa.list_(pa.struct([("key", pa.string()), ("value", pa.struct([("int", pa.int64())]))]))
    schema = pa.schema([("p", values), ("one", one), ("many", pa.list_(one)), ("at", pa.int64())])
    columns = {"session": "p[key=sid].value.int", "item": "many[].id | one.id", "time": "at"}
    address = ingest(make_shop(write(tmp_path, form, rows, schema), events=EVENTS | {"columns": columns}), store)
    assert stored(store, address, "session, item") == [(str(big), "x"), ("7", "y"), ("7", "z")]
    assert facts(store, address)["bad"] == {
        "events": {"session is empty, and sessions.by is 'given'": 1, "item is empty": 1}
    }


@pytest.mark.parametrize("form", ["lines", "pretty array", "parquet"])
def test_a_list_within_a_list(tmp_path: Path, store: Store, form: str) -> None:
    line = pa.struct([("sku", pa.int64())])
    order = pa.struct([("id", pa.string()), ("at", pa.int64()), ("lines", pa.list_(line))])
    schema = pa.schema([("who", pa.string()), ("orders", pa.list_(order))])
    rows = [
        {"who": "u", "orders": [{"id": "o1", "at": T, "lines": [{"sku": 1}, {"sku": 2**60}]}, {"id": "o2", "at": T}]},
        {"who": "v", "orders": []},
        {"who": "w", "orders": [{"id": "o3", "at": T + 1, "lines": [{"sku": 3}]}]},
    ]
    columns = {"session": "orders[].id", "customer": "who", "item": "orders[].lines[].sku", "time": "orders[].at"}
    address = ingest(make_shop(write(tmp_path, form, rows, schema), events=EVENTS | {"columns": columns}), store)
    assert stored(store, address, "session, customer, item, time") == [
        ("o1", "u", "1", T),
        ("o1", "u", str(2**60), T),
        ("o3", "w", "3", T + 1),
    ]
    assert facts(store, address)["bad"] == {"events": {"item is empty": 2}}


def test_lists_of_plain_values_and_json_within_json(tmp_path: Path, store: Store) -> None:
    rows = [
        {"s": "s", "t": T, "ids": ["a", "b"]},
        {"s": "s", "t": T + 1, "ids": '["c", 4]'},
        {"s": "s", "t": T + 2, "ids": {"not": "a list"}},
        {"s": "s", "t": T + 3, "ids": "none"},
    ]
    log = tmp_path / "log.jsonl"
    log.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    columns = {"session": "s", "item": "ids[]", "time": "t"}
    address = ingest(make_shop(log, events=EVENTS | {"columns": columns}), store)
    assert [item for (item,) in stored(store, address, "item")] == ["a", "b", "c", "4"]
    reasons = {"ids is no list but an object": 1, "ids is no list but a plain value": 1}
    assert facts(store, address)["bad"] == {"events": reasons}


def test_columns_that_walk_different_lists_are_refused(tmp_path: Path, store: Store) -> None:
    columns = {"session": "s", "item": "goods[].sku", "time": "times[]"}
    log = tmp_path / "log.jsonl"
    log.write_text(json.dumps({"s": "s", "goods": [{"sku": 1}], "times": [T]}))
    with refused(DataError, "events.lists-differ", path=str(log), lists=["goods[]", "times[]"]):
        ingest(make_shop(log, events=EVENTS | {"columns": columns}), store)


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_typed_times_in_a_list_are_instants_whatever_their_unit(tmp_path: Path, store: Store, unit: str) -> None:
    at = datetime(2024, 3, 1, 10, tzinfo=UTC)
    kind = pa.list_(pa.struct([("id", pa.uint64()), ("at", pa.timestamp(unit, tz="UTC"))]))
    schema = pa.schema([("s", pa.int64()), ("events", kind)])
    rows = [{"s": 2**62 + 1, "events": [{"id": 2**64 - 1, "at": at}, {"id": 5, "at": at + timedelta(seconds=1)}]}]
    columns = {"session": "s", "item": "events[].id", "time": "events[].at"}
    shop = make_shop(write(tmp_path, "parquet", rows, schema), events={"columns": columns, "time": {"unit": "s"}})
    assert stored(store, ingest(shop, store), "session, item, time") == [
        (str(2**62 + 1), str(2**64 - 1), 1709287200000),
        (str(2**62 + 1), "5", 1709287201000),
    ]


def test_parquet_of_other_writers(tmp_path: Path, store: Store) -> None:
    """Structs round lists and elements, maps, dictionaries, and texts that hold JSON."""
    wrapped = pa.struct([("list", pa.list_(pa.struct([("element", pa.struct([("sku", pa.string())]))])))])
    table = pa.table(
        {
            "goods": pa.array([{"list": [{"element": {"sku": "a"}}, {"element": {"sku": "b"}}]}, None], wrapped),
            "params": pa.array([[("sid", "s1"), ("x", "y")], [("x", "y")]], pa.map_(pa.string(), pa.string())),
            "kind": pa.array(["view", "page"]).dictionary_encode(),
            "payload": ['{"at": 1700000000000, "who": {"id": 12345678901234567890}}', '{"at": 1700000000001}'],
        }
    )
    pq.write_table(table, tmp_path / "log.parquet")
    columns = {"session": "params.sid", "customer": "payload.who.id", "item": "goods[].sku", "time": "payload.at"}
    shop = make_shop(tmp_path / "log.parquet", events=EVENTS | {"columns": columns | {"type": "kind"}})
    address = ingest(shop, store)
    assert stored(store, address) == [
        ("s1", "12345678901234567890", "a", T, "view"),
        ("s1", "12345678901234567890", "b", T, "view"),
    ]
    physical = columns | {"item": "goods.list[].element.sku"}
    shop = make_shop(tmp_path / "log.parquet", events=EVENTS | {"columns": physical | {"type": "kind"}})
    assert stored(store, ingest(shop, store)) == stored(store, address)


def test_float_ids_in_parquet_are_refused_at_any_depth(tmp_path: Path, store: Store) -> None:
    kind = pa.list_(pa.struct([("id", pa.float32()), ("at", pa.int64())]))
    ids = [16_777_217.0, 5.0, float("nan"), None]
    rows = [{"s": "s", "events": [{"id": one, "at": T} for one in ids]}]
    schema = pa.schema([("s", pa.string()), ("events", kind)])
    columns = {"session": "s", "item": "events[].id", "time": "events[].at"}
    with refused(DataError, "events.bad-rows", table="events", bad=4):
        ingest(make_shop(write(tmp_path, "parquet", rows, schema), events=EVENTS | {"columns": columns}), store)


def test_texts_of_a_csv_column_that_are_no_json_are_bad_rows(tmp_path: Path, store: Store) -> None:
    log = tmp_path / "log.csv"
    log.write_text(
        f's,t,goods\ns,{T},"[{{""sku"": ""a""}}, {{""sku"": ""b""}}]"\ns,{T},"[{{\'sku\': \'python\'}}]"\ns,{T},\n'
    )
    columns = {"session": "s", "item": "goods[].sku", "time": "t"}
    address = ingest(make_shop(log, events=EVENTS | {"columns": columns}), store)
    assert [item for (item,) in stored(store, address, "item")] == ["a", "b"]
    assert [(row["line"], row["reason"]) for row in bad(store, address)] == [
        (3, "goods is not JSON"),
        (4, "item is empty"),
    ]


@pytest.mark.parametrize("form", ["lines", "csv"])
def test_a_list_or_an_object_is_no_id(tmp_path: Path, store: Store, form: str) -> None:
    good = ["{6F9619FF-8B86-D011-B42D-00C04FC964FF}", "[draft", "{", "[]x", "a[1]"]
    rows = [{"s": "s", "i": item, "t": T} for item in good]
    rows += [{"s": "s", "i": item, "t": T} for item in ([{"item_id": "A0"}], {"id": 1}, [], {}, ["x"])]
    rows += [{"s": ["s"], "i": "i", "t": T}, {"s": "s", "i": "i", "t": {"$date": "2024-03-01"}}]
    schema = pa.schema([("s", pa.string()), ("i", pa.string()), ("t", pa.int64())])
    columns = {"session": "s", "item": "i", "time": "t"}
    address = ingest(make_shop(write(tmp_path, form, rows, schema), events=EVENTS | {"columns": columns}), store)
    assert [item for (item,) in stored(store, address, "item")] == good
    counts = {reason.split()[0]: count for reason, count in facts(store, address)["bad"]["events"].items()}
    assert counts == {"item": 5, "session": 1, "time": 1}
    assert all("name a path into it" in reason for reason in facts(store, address)["bad"]["events"])


@pytest.mark.parametrize("form", ["lines", "csv"])
def test_a_value_that_is_no_list_where_a_path_has_one_is_a_bad_row(tmp_path: Path, store: Store, form: str) -> None:
    goods = [ROWS[0]["goods"], {"sku": "x"}, "x", 7, None, "", [], [{"sku": "y"}]]
    rows = [{**ROWS[0], "at": T + place, "goods": value} for place, value in enumerate(goods)]
    address = ingest(make_shop(write(tmp_path, form, rows), events=EVENTS), store)
    assert [item for (item,) in stored(store, address, "item")] == ["a", "y"]
    start = 2 if form == "csv" else 1
    reasons = {row["line"] - start: row["reason"] for row in bad(store, address)}
    # In CSV a text that is no JSON at all is refused for that.
    plain = {"lines": "goods is no list but a plain value", "csv": "goods is not JSON"}[form]
    no_list = {1: "goods is no list but an object", 2: plain, 3: "goods is no list but a plain value"}
    empty = "item is empty"
    assert reasons == no_list | {4: empty, 5: empty, 6: empty}


def test_a_list_within_a_list_that_is_none_is_a_bad_row(tmp_path: Path, store: Store) -> None:
    goods = [{"ids": ["a", "b"]}, {"ids": {"of": "c"}}, {"ids": "d"}, {"ids": ["e"]}]
    file = write(tmp_path, "lines", [{**ROWS[0], "goods": goods}])
    address = ingest(make_shop(file, events={**EVENTS, "columns": COLUMNS | {"item": "goods[].ids[]"}}), store)
    assert [item for (item,) in stored(store, address, "item")] == ["a", "b", "e"]
    reasons = ["goods[].ids is no list but an object", "goods[].ids is no list but a plain value"]
    assert [(row["line"], row["reason"]) for row in bad(store, address)] == [(1, reason) for reason in reasons]


def test_a_path_of_its_own_for_a_value_that_is_no_list(tmp_path: Path, store: Store) -> None:
    rows = [{**ROWS[0], "at": T + place, "ids": value} for place, value in enumerate([["a", "b"], "c", 7])]
    file = write(tmp_path, "lines", rows)
    address = ingest(make_shop(file, events={**EVENTS, "columns": COLUMNS | {"item": "ids[] | ids"}}), store)
    assert [item for (item,) in stored(store, address, "item")] == ["a", "b", "c", "7"]


def test_rows_that_have_a_key_more_than_once_are_bad(tmp_path: Path, store: Store) -> None:
    whole = json.dumps({**ROWS[0], "extra": 1})
    twice = [whole[:-1] + more for more in (', "goods": [{"sku": "b"}]}', ', "at": 1}', ', "extra": 2}')]
    (tmp_path / "log.jsonl").write_text("\n".join([whole, *twice]))
    address = ingest(make_shop(tmp_path / "log.jsonl", events=EVENTS), store)
    assert [(row["line"], row["reason"][:30]) for row in bad(store, address)] == [
        (line, "a key is there more than once,") for line in (2, 3)
    ]
    assert len(stored(store, address, "item")) == 2  # nobody reads what the last row has twice


def test_a_list_in_an_item_table_and_its_own_rows(tmp_path: Path, store: Store) -> None:
    log = tmp_path / "log.jsonl"
    goods = [[{"sku": "a", "p": {"eur": 1.5}, "tags": ["x"]}, {"sku": "b", "p": None}], []]
    rows = [{"s": "s", "t": T, "goods": one} for one in goods]
    log.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    columns = {"session": "s", "item": "goods[].sku", "time": "t"}
    items = {"sources": [{"path": str(log)}], "columns": {"item": "goods[].sku", "price": "goods[].p.eur"}}
    address = ingest(make_shop(log, events=EVENTS | {"columns": columns}, items=items), store)
    file = open_snapshot(store, address).items
    assert file is not None
    assert pq.read_table(file).to_pylist() == [{"item": "a", "price": 1.5}, {"item": "b", "price": None}]
    assert facts(store, address)["left_out"] == {"items": {"without_item": 1}}


@pytest.mark.parametrize("form", ["lines", "parquet", "csv"])
def test_names_that_are_missing_are_answered_with_paths(tmp_path: Path, store: Store, form: str) -> None:
    log = write(tmp_path, form, ROWS)
    columns = COLUMNS | {"item": "goods.sku", "session": "visit_id", "customer": "who"}
    with refused(DataError, "events.column-missing", path=str(log)) as caught:
        ingest(make_shop(log, events=EVENTS | {"columns": columns}), store)
    near = {one["column"]: one["near"] for one in caught.value.fields["missing"]}
    assert near["goods.sku"] == "goods[].sku"
    assert near["visit_id"] == "visit.id"
    assert {"visit.id", "visit.who", "goods[].sku"} <= set(caught.value.fields["paths"])


def test_a_nested_column_of_parquet_is_refused_with_its_paths(tmp_path: Path, store: Store) -> None:
    log = write(tmp_path, "parquet", ROWS)
    for item, paths in (("goods", ["goods[].sku", "goods[].n"]), ("goods[]", ["goods[].sku", "goods[].n"])):
        columns = COLUMNS | {"item": item}
        with refused(DataError, "events.column-nested", column=item, paths=paths):
            ingest(make_shop(log, events=EVENTS | {"columns": columns}), store)


def test_a_path_that_no_row_has_is_refused_at_the_end(tmp_path: Path, store: Store) -> None:
    log = write(tmp_path, "lines", ROWS)
    with refused(DataError, "events.column-empty", columns={"goods[].ean": "events.columns.item"}) as caught:
        ingest(make_shop(log, events=EVENTS | {"columns": COLUMNS | {"item": "goods[].ean"}}), store)
    assert "goods[].sku" in caught.value.fields["paths"]


def test_a_path_may_have_its_first_value_late(tmp_path: Path, store: Store) -> None:
    """In a file of its own, or far down: pages without goods come first."""
    for at in range(2):
        rows = [{"visit": {"id": "s"}, "at": T, "kind": "page"}] * 12_000 + [ROWS[0]] * at
        (tmp_path / f"{at}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    address = ingest(make_shop(tmp_path, events=EVENTS), store)
    assert stored(store, address) == STORED[:1]


@pytest.mark.parametrize("between", ["", "\n\n", ",\n", ", ", "\r\n"])
@pytest.mark.parametrize("indent", [None, 1])
def test_objects_one_after_another_however_they_are_parted(
    tmp_path: Path, store: Store, between: str, indent: int | None
) -> None:
    rows = [{"s": "s", "i": f"i{at}", "t": T} for at in range(3)]
    (tmp_path / "log.json").write_bytes(between.join(json.dumps(row, indent=indent) for row in rows).encode())
    shop = make_shop(tmp_path / "log.json", events=EVENTS | {"columns": {"session": "s", "item": "i", "time": "t"}})
    assert stored(store, ingest(shop, store), "item") == [("i0",), ("i1",), ("i2",)]


@pytest.mark.parametrize("first", ['{"s": "s", ', '{"s": "s"} {"t": 1}', "[1]", "broken", '"x"', ""])
def test_a_broken_first_line_of_json_lines_costs_no_other(tmp_path: Path, store: Store, first: str) -> None:
    row = json.dumps({"s": "s", "i": "i", "t": T})
    (tmp_path / "log.jsonl").write_text(f"{first}\n{row}\n")
    shop = make_shop(tmp_path / "log.jsonl", events=EVENTS | {"columns": {"session": "s", "item": "i", "time": "t"}})
    address = ingest(shop, store)
    assert stored(store, address, "item") == [("i",)]
    assert facts(store, address)["bad"] == ({"events": {"not a JSON object": 1}} if first else {})


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('[{"a": 1},\n {"a" 2}]', 2),
        ('[{"a": 1},\n {"a": 2}\n {"a": 3}]', 3),
        ('[{"a": 1},\n {"a": 2},\n', 3),
        ('[{"a": 1},\n {"a": "open\n', 2),
        ('[\n{"a": 1},\n]', 3),
        ('{\n "a": 1\n}\n{\n "a": ,\n}', 5),
    ],
)
def test_broken_json_is_told_with_its_line(tmp_path: Path, store: Store, text: str, line: int) -> None:
    (tmp_path / "log.json").write_text(text)
    shop = make_shop(tmp_path / "log.json", events={"columns": {"session": "a", "item": "a", "time": "a"}})
    with refused(DataError, "events.json-broken", line=line):
        ingest(shop, store)


def test_what_is_no_object_in_an_array_is_a_bad_row(tmp_path: Path, store: Store) -> None:
    row = {"s": "s", "i": 12345678901234567890123, "t": T}
    text = f'[\n 17,\n {json.dumps(row)},\n null, "x", ["y"]\n]\n'
    (tmp_path / "log.json").write_text(text, encoding="utf-8-sig")
    shop = make_shop(tmp_path / "log.json", events=EVENTS | {"columns": {"session": "s", "item": "i", "time": "t"}})
    address = ingest(shop, store)
    assert stored(store, address, "item") == [("12345678901234567890123",)]
    assert [(one["line"], one["reason"]) for one in bad(store, address)] == [
        (line, "not a JSON object") for line in (2, 4, 4, 4)
    ]


def test_bytes_that_are_no_utf8_in_an_array_cost_their_element(tmp_path: Path, store: Store) -> None:
    rows = [{"s": "s", "i": item, "t": T} for item in ("a", "M\xfcnchen", "b")]
    (tmp_path / "log.json").write_bytes(json.dumps(rows, ensure_ascii=False, indent=1).encode("latin-1"))
    shop = make_shop(tmp_path / "log.json", events=EVENTS | {"columns": {"session": "s", "item": "i", "time": "t"}})
    address = ingest(shop, store)
    assert stored(store, address, "item") == [("a",), ("b",)]
    assert [one["line"] for one in bad(store, address)] == [7]


def test_an_array_is_read_in_pieces(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("endcap.sources.formats.read_json.BLOCK", 300)
    rows = [{"s": "s", "i": f"ünï✓🛒{at}", "t": T + at, "long": "x" * 17 * at} for at in range(50)]
    for name, text in (("one.json", json.dumps(rows, ensure_ascii=False)), ("pretty.json", json.dumps(rows, indent=3))):
        (tmp_path / name).write_text(text)
        columns = {"session": "s", "item": "i", "time": "t"}
        address = ingest(make_shop(tmp_path / name, events=EVENTS | {"columns": columns}), store)
        assert stored(store, address, "item, time") == [(row["i"], row["t"]) for row in rows]


def test_characters_are_whole_where_a_long_line_is_cut(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("endcap.sources.utf8.CHUNK", 13)
    monkeypatch.setattr("endcap.sources.utf8.LONGEST", 26)
    rows = [{"s": "s", "i": f"ünï✓🛒{at}", "t": T + at} for at in range(50)]
    (tmp_path / "log.json").write_text(json.dumps(rows, ensure_ascii=False))
    columns = {"session": "s", "item": "i", "time": "t"}
    address = ingest(make_shop(tmp_path / "log.json", events=EVENTS | {"columns": columns}), store)
    assert [item for (item,) in stored(store, address, "item")] == [row["i"] for row in rows]


def test_a_wrapped_list_is_read_by_a_path_and_a_long_one_is_refused(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log.json"
    log.write_text(json.dumps({"page": 1, "data": [{"s": "s", "i": f"i{at}", "t": T} for at in range(9)]}, indent=2))
    columns = {"session": "data[].s", "item": "data[].i", "time": "data[].t"}
    shop = make_shop(log, events=EVENTS | {"columns": columns})
    assert [item for (item,) in stored(store, ingest(shop, store), "item")] == [f"i{at}" for at in range(9)]
    monkeypatch.setattr("endcap.sources.formats.json_values.LONGEST", 100)
    monkeypatch.setattr("endcap.sources.formats.read_json.BLOCK", 50)
    log.write_text(log.read_text() + "\n")
    with refused(DataError, "events.row-too-long", line=1, limit=100):
        ingest(shop, store)


def test_json_files_are_read_where_they_are_meant(tmp_path: Path, store: Store) -> None:
    row = json.dumps({"s": "s", "i": "i", "t": T})
    events = EVENTS | {"columns": {"session": "s", "item": "i", "time": "t"}}
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a.json").write_text(row)
    (folder / "b.json.gz").write_bytes(gzip.compress(row.encode()))
    for path, count in ((folder, 2), (f"{folder}/*.json", 1), (folder / "b.json.gz", 1)):
        assert facts(store, ingest(make_shop(path, events=events), store))["events"] == count
    # Beside files of known formats it may be anything, such as what a writer says of them.
    (folder / "c.jsonl").write_text(json.dumps({"s": "s", "i": "j", "t": T}))
    address = ingest(make_shop(folder, events=events), store)
    assert facts(store, address)["events"] == 1
    assert [Path(name).name for name in facts(store, address)["sources"][0]["skipped"]] == ["a.json", "b.json.gz"]


PLAIN = st.none() | st.text(
    st.characters(exclude_characters=".+nN[{", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=3
)
ELEMENTS = st.lists(
    st.none() | st.fixed_dictionaries({}, optional={"sku": PLAIN, "n": st.integers(-5, 2**62)}), max_size=4
)
LOGS = st.lists(
    st.fixed_dictionaries(
        {"at": st.integers(T, T + 10**9), "visit": st.none() | st.fixed_dictionaries({"id": PLAIN, "who": PLAIN})},
        optional={"goods": st.none() | ELEMENTS, "kind": PLAIN},
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=25, deadline=None)
@given(log=LOGS, form=st.sampled_from(["lines", "pretty array", "parquet", "csv"]))
@pytest.mark.slow
def test_ingest_flattens_as_plain_python_does(tmp_path_factory: Any, log: list[dict[str, Any]], form: str) -> None:
    folder = tmp_path_factory.mktemp("log")
    # A row that has all, so that no column is without a value.
    log = [ROWS[0], *log]
    expected = []
    for row in log:
        visit = row.get("visit") or {}
        for element in row.get("goods") or [None]:
            item = (element or {}).get("sku")
            if item and visit.get("id"):
                expected.append((visit["id"], visit.get("who"), item, row["at"], row.get("kind")))
    store = open_store(str(folder / "store"))
    address = ingest(make_shop(write(folder, form, log), events=EVENTS), store)
    assert stored(store, address) == expected
    rows = sum(len(row.get("goods") or [None]) for row in log)
    assert facts(store, address)["rows"] == rows
