"""Item and customer tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from endcap.errors import DataError
from endcap.events import ingest
from endcap.spec.shop import Shop
from endcap.store import Store
from tests.events.shops import ROWS, facts, make_shop, open_snapshot, write_csv
from tests.refusals import refused

ITEMS = ["sku,name,price,brand,weight", "i2,Two,2.50,b,", "i1,One,1,,7", 'i1,"One, ""new""",1.5,c,8']


def shop_with_items(tmp_path: Path, lines: list[str], **more: Any) -> Shop:
    items = {
        "sources": [{"path": str(write_csv(tmp_path / "items" / "a.csv", lines[1:], header=lines[0]).parent)}],
        "columns": {"item": "sku", "title": "name", "price": "price"},
        "categorical": ["brand"],
        "numeric": ["weight"],
    }
    return make_shop(write_csv(tmp_path / "log.csv", ROWS), items=items | more)


def test_items_one_row_an_id_the_last_read_and_ordered(tmp_path: Path, store: Store) -> None:
    snapshot = open_snapshot(store, ingest(shop_with_items(tmp_path, ITEMS), store))
    assert snapshot.items is not None
    assert pq.read_table(snapshot.items).to_pylist() == [
        {"item": "i1", "title": 'One, "new"', "brand": "c", "weight": 8.0, "price": 1.5},
        {"item": "i2", "title": "Two", "brand": "b", "weight": None, "price": 2.5},
    ]
    assert snapshot.customers is None
    assert snapshot.facts["items"]["rows"] == 2


def test_items_are_of_the_fingerprint_and_their_order_and_files_are_not(tmp_path: Path, store: Store) -> None:
    first = ingest(shop_with_items(tmp_path, ITEMS), store)
    write_csv(tmp_path / "items" / "b.csv", ITEMS[1:2] + ITEMS[3:], header=ITEMS[0])
    assert ingest(shop_with_items(tmp_path, ITEMS[:3]), store) == first
    assert ingest(shop_with_items(tmp_path, [*ITEMS[:3], "i3,Three,,,"]), store) != first
    assert ingest(make_shop(tmp_path / "log.csv"), store) != first


def test_bad_item_rows(tmp_path: Path, store: Store) -> None:
    bad = [",No id,1,,", "7.0,Float,1,,", "i4,Price,free,,", "i5,Weight,1,,inf", "i6,Short"]
    with refused(DataError, "events.bad-rows", table="items", bad=5, rows=8) as stopped:
        ingest(shop_with_items(tmp_path, [*ITEMS, *bad]), store)
    for reason in ("item is empty", "item is a float", "price is not a number", "weight is not a number", "2 columns"):
        assert any(one.startswith(reason) for one in stopped.value.fields["reasons"])


def test_an_item_table_without_rows_or_with_a_name_twice(tmp_path: Path, store: Store) -> None:
    with refused(DataError, "events.table-empty", table="item", later=False):
        ingest(shop_with_items(tmp_path, ITEMS[:1]), store)
    with refused(DataError, "events.columns-clash", table="item", columns=["title"]):
        ingest(shop_with_items(tmp_path, [f"{ITEMS[0]},title"], categorical=["title"]), store)
    missing = [{"column": "colour", "key": "items.categorical", "near": None}]
    with refused(DataError, "events.column-missing", missing=missing):
        ingest(shop_with_items(tmp_path, ITEMS, categorical=["colour"]), store)


def test_columns_called_like_anything(tmp_path: Path, store: Store) -> None:
    lines = ["sku,name,price,brand,weight,c0,from,Sku", "i1,One,1,b,7,zero,here,5"]
    shop = shop_with_items(tmp_path, lines, categorical=["brand", "c0", "from"], numeric=["weight", "Sku"])
    snapshot = open_snapshot(store, ingest(shop, store))
    assert snapshot.items is not None
    (row,) = pq.read_table(snapshot.items).to_pylist()
    assert row == {"item": "i1", "title": "One", "brand": "b", "c0": "zero", "from": "here"} | {
        "weight": 7.0,
        "Sku": 5.0,
        "price": 1.0,
    }


def test_customers(tmp_path: Path, store: Store) -> None:
    source = tmp_path / "customers.jsonl"
    source.write_text('{"id": "c1", "age": 30, "city": "Zürich"}\n{"id": "c2", "age": null}\n')
    customers = {
        "sources": [{"path": str(source)}],
        "columns": {"customer": "id"},
        "categorical": ["city"],
        "numeric": ["age"],
    }
    snapshot = open_snapshot(
        store, ingest(make_shop(write_csv(tmp_path / "log.csv", ROWS), customers=customers), store)
    )
    assert snapshot.customers is not None
    assert pq.read_table(snapshot.customers).to_pylist() == [
        {"customer": "c1", "city": "Zürich", "age": 30.0},
        {"customer": "c2", "city": None, "age": None},
    ]
    assert facts(store, snapshot.address)["customers"]["schema"] == {
        "customer": "string",
        "city": "string",
        "age": "double",
    }
