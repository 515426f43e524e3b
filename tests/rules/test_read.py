"""Rule data and the item table as they lie in a shop's files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from endcap.errors import DataError
from endcap.rules.read import read_catalogue
from endcap.spec.shop import Shop
from tests.events.shops import make_shop, write_csv
from tests.refusals import refused

ITEMS = ["tent,Camp,10.5,3", "knife,Blade,5,", "tent,Camp,12,0"]


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    write_csv(tmp_path / "items.csv", ITEMS, "item,category,price,stock")
    write_csv(tmp_path / "black.csv", ["rope", "knife"], "sku")
    return make_shop(
        "nothing-is-read-of-it.csv",
        items={
            "sources": [{"path": str(tmp_path / "items.csv")}],
            "columns": {"category": "category", "price": "price"},
            "numeric": ["stock"],
        },
        rules={"blacklist": {"sources": [{"path": str(tmp_path / "black.csv")}], "column": "sku"}, "stock": {}},
    )


def test_the_files_are_read_as_they_are_now(shop: Shop, tmp_path: Path) -> None:
    first = read_catalogue(shop)
    assert first.items.to_pylist() == [
        {"item": "knife", "category": "Blade", "price": 5.0, "stock": None},
        {"item": "tent", "category": "Camp", "price": 12.0, "stock": 0.0},  # the later row
    ]
    assert (first.blacklist, first.rules) == ({"rope", "knife"}, shop.rules)
    write_csv(tmp_path / "black.csv", [], "sku")
    second = read_catalogue(shop)
    assert second.blacklist == frozenset()
    assert second.read_time >= first.read_time
    assert second.version != first.version


def test_a_shop_without_items_has_a_blacklist_all_the_same(shop: Shop) -> None:
    found = read_catalogue(shop.model_copy(update={"items": None}))
    assert (len(found.items), found.blacklist) == (0, {"rope", "knife"})


@pytest.mark.parametrize(
    ("name", "text", "code", "where"),
    [
        ("black.csv", "item\nrope\n", "events.column-missing", "rules.blacklist.column"),
        ("black.csv", "sku\nrope\n\n12.0\n", "events.bad-rows", "black.csv, line 4: item is a float"),
        ("black.csv", "", "rules.blacklist-without-header", "black.csv"),
        ("items.csv", "item,category,price,stock\n", "events.table-empty", "items.csv"),
        ("items.csv", "item,category,price,stock\ntent,Camp,cheap,3\n", "events.bad-rows", "items.csv, line 2: price"),
        ("items.csv", "item,category,price\ntent,Camp,3\n", "events.column-missing", "items.numeric"),
    ],
)
def test_mistakes_are_told_with_their_place(
    shop: Shop, tmp_path: Path, name: str, text: str, code: str, where: str
) -> None:
    (tmp_path / name).write_text(text)
    with refused(DataError, code) as caught:
        read_catalogue(shop)
    document = json.dumps(caught.value.fields)
    assert where in document
    assert "endcap-rules-" not in document + str(caught.value)  # a folder that is gone when this is read


def test_a_few_bad_rows_of_the_item_table_are_left_out_and_told(shop: Shop, tmp_path: Path) -> None:
    rows = [f"i{number},Camp,1,1" for number in range(200)]
    write_csv(tmp_path / "items.csv", [*rows, "odd,Camp,cheap,1"], "item,category,price,stock")
    told: list[str] = []
    assert len(read_catalogue(shop, told.append).items) == 200
    assert told == ["rows of the item table that are left out: 1 because price is not a number"]


def test_a_missing_file_is_named(shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "black.csv").unlink()
    with refused(DataError, "events.file-not-found", path=str(tmp_path / "black.csv")):
        read_catalogue(shop)
