"""Numbers with a decimal comma, and with marks of thousands: read as the source says, or refused with what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pytest

from endcap.errors import DataError
from endcap.events import ingest
from endcap.sources.values import numbers
from endcap.store import Store
from tests.events.shops import make_shop, open_snapshot, stored, write_csv
from tests.refusals import refused


def shop_with_prices(tmp_path: Path, price: str, **source: Any) -> Any:
    log = write_csv(tmp_path / "log.csv", ["s,c,i,2024-03-01,view", "s,c,i,2024-03-02,view"])
    items = write_csv(tmp_path / "items.csv", [f'i;"{price}";7'], header="item;price;weight")
    table = {"path": str(items), "delimiter": ";"} | source
    return make_shop(
        log, items={"sources": [table], "columns": {"item": "item", "price": "price"}, "numeric": ["weight"]}
    )


@pytest.mark.parametrize(
    ("decimal", "price", "expected"),
    [
        (".", "12.5", 12.5),
        (".", " 12 ", 12.0),
        (".", "1.25e2", 125.0),
        (",", "12,5", 12.5),
        (",", " -0,5 ", -0.5),
        (",", "1299", 1299.0),
        (",", "1,25E2", 125.0),
        (",", "", None),
    ],
)
def test_a_number_is_read(tmp_path: Path, store: Store, decimal: str, price: str, expected: float | None) -> None:
    address = ingest(shop_with_prices(tmp_path, price, decimal=decimal), store)
    items = open_snapshot(store, address).items
    assert duckdb.sql(f"SELECT price, weight FROM read_parquet('{items}')").fetchall() == [(expected, 7.0)]


@pytest.mark.parametrize(
    ("decimal", "price", "reason"),
    [
        (".", "12,50", numbers.COMMA),
        (".", "1,299", numbers.COMMA),
        (".", "1.299,00", numbers.COMMA),
        (".", "1,299.00", numbers.THOUSANDS),
        (".", "1,299,000", numbers.THOUSANDS),
        (".", "1 299.00", numbers.THOUSANDS),
        (".", "1'299.00", numbers.THOUSANDS),
        (".", "€ 9", numbers.NOT_NUMBER),
        (".", "9, new", numbers.NOT_NUMBER),
        (",", "12.50", numbers.POINT),
        (",", "1.299", numbers.POINT),
        (",", "1.299,00", numbers.THOUSANDS),
        (",", "1.299.000", numbers.THOUSANDS),
        (",", "1 299,00", numbers.THOUSANDS),
        (",", "1,2,3", numbers.NOT_NUMBER),
        (",", "9 euros", numbers.NOT_NUMBER),
    ],
)
def test_a_number_of_another_form_is_refused(
    tmp_path: Path, store: Store, decimal: str, price: str, reason: str
) -> None:
    with refused(DataError, "events.bad-rows", table="items", reasons={f"price {reason}": 1}) as stopped:
        ingest(shop_with_prices(tmp_path, price, decimal=decimal), store)
    assert stopped.value.fields["examples"][f"price {reason}"]["value"] == price


@pytest.mark.parametrize("unit", ["s", "ms", "us"])
def test_epoch_times_with_a_decimal_comma(tmp_path: Path, store: Store, unit: str) -> None:
    number = {"s": "1700000000,25", "ms": "1700000000250,0", "us": "1700000000250000,0"}[unit]
    log = write_csv(tmp_path / "log.csv", [f's,c,i,"{number}",view'] * 2)
    rule = {"time": {"unit": unit}}
    with refused(DataError, "events.bad-rows", reasons={f"time {numbers.COMMA}": 2}) as stopped:
        ingest(make_shop(log, events=rule), store)
    assert stopped.value.fields["advice"].endswith("set the source's decimal to ','")
    shop = make_shop({"path": str(log), "decimal": ","}, events=rule)
    assert stored(store, ingest(shop, store), "time") == [(1700000000250,)] * 2


def test_numbers_of_json_are_read_with_a_point(tmp_path: Path, store: Store) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text('{"session": "s", "item": "i", "time": 1700000000.25}\n')
    shop = make_shop(
        {"path": str(log), "decimal": ","}, events={"columns": {"session": "session"}, "time": {"unit": "s"}}
    )
    assert stored(store, ingest(shop, store), "time") == [(1700000000250,)]
