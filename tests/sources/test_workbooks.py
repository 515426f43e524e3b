"""Workbooks as small tables: the cells' texts, the sheet, the limits, and what is refused."""

from __future__ import annotations

import json
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from endcap.errors import DataError
from endcap.events import ingest
from endcap.rules.read import read_blacklist
from endcap.spec.shop import Shop
from endcap.store import Store
from tests.events.shops import ROWS, facts, make_shop, open_snapshot, write_csv
from tests.refusals import refused
from tests.sources.test_archives import zipped
from tests.sources.workbooks import XLS, XLS_ROWS, encrypt_xls, encrypt_xlsx, make_ods, make_xlsb, make_xlsx

HEADER = ["item", "title", "price", "since"]
STORED = [
    {"item": "007", "title": "a", "since": "2024-03-01", "price": 12.5},
    {"item": "17000", "title": "b", "since": None, "price": 3.0},
    {"item": "i3", "title": "ä", "since": "2024-03-02", "price": 0.5},
]
BINARY_ROWS = [[str(cell) if isinstance(cell, date) else cell for cell in row] for row in XLS_ROWS]


def make_items_shop(tmp_path: Path, source: Any, **columns: Any) -> Shop:
    items = {
        "sources": [source if isinstance(source, dict) else {"path": str(source)}],
        "columns": {"item": "item", "title": "title", "price": "price"} | columns,
        "categorical": ["since"],
    }
    return make_shop(write_csv(tmp_path / "log.csv", ROWS), items=items, events={"max_bad_share": 0.9})


def ingest_items(tmp_path: Path, store: Store, source: Any) -> list[dict[str, Any]]:
    snapshot = open_snapshot(store, ingest(make_items_shop(tmp_path, source), store))
    assert snapshot.items is not None
    rows: list[dict[str, Any]] = pq.read_table(snapshot.items).to_pylist()
    return rows


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("items.xlsx", make_xlsx({"Products": XLS_ROWS})),
        ("items.xlsm", make_xlsx({"hidden": [["x"]], "Products": XLS_ROWS, "more": [["y"]]}, hidden=["hidden"])),
        ("items.xls", XLS),
        ("items.xlsb", make_xlsb("Products", BINARY_ROWS)),
        ("items.ods", make_ods({"Products": XLS_ROWS})),
        ("items.zip", zipped({"items.xlsx": make_xlsx({"Products": XLS_ROWS})})),
    ],
)
def test_a_workbook_as_item_table(tmp_path: Path, store: Store, name: str, data: bytes) -> None:
    (tmp_path / "items").mkdir()
    (tmp_path / "items" / name).write_bytes(data)
    assert ingest_items(tmp_path, store, tmp_path / "items") == STORED
    assert ingest_items(tmp_path, store, {"path": str(tmp_path / "items" / name), "sheet": "Products"}) == STORED


def test_a_sheet_without_header_and_one_that_begins_lower(tmp_path: Path, store: Store) -> None:
    (tmp_path / "items.xlsx").write_bytes(make_xlsx({"S": [[None, *row] for row in XLS_ROWS[1:]]}, first_row=7))
    source = {"path": str(tmp_path / "items.xlsx"), "header": HEADER}
    assert ingest_items(tmp_path, store, source) == STORED


def test_cells_that_are_no_ids_are_bad_rows_with_the_number_of_their_row(tmp_path: Path, store: Store) -> None:
    cells = ["item", 1_234_567_890_123_456_789, 5, None, "#N/A", True, datetime(2024, 3, 1, 10), "123.0", 1.5e9]
    rows = [[cell, "t", "free" if cell == 5 else 1] for cell in cells]
    (tmp_path / "items.xlsx").write_bytes(make_xlsx({"S": [["item", "title", "price"], *rows[1:]]}, first_row=3))
    shop = make_items_shop(tmp_path, tmp_path / "items.xlsx").model_dump(by_alias=True, exclude_unset=True)
    shop["items"]["categorical"] = []
    snapshot = open_snapshot(store, ingest(Shop.model_validate(shop), store))
    bad = [json.loads(line) for line in snapshot.quarantine.read_text().splitlines()]
    assert [(row["line"], row["reason"].split(":")[0]) for row in bad] == [
        (4, "item is a number such as 1.2E+08, which may have lost digits"),
        (5, "price is not a number"),
        (6, "item is empty"),
        (7, "item is empty"),
        (10, "item is a float such as 123.0"),
    ]
    assert snapshot.items is not None
    ids = pq.read_table(snapshot.items).column("item").to_pylist()
    assert ids == ["1500000000", "2024-03-01 10:00:00", "true"]


def test_a_blacklist_in_a_workbook(tmp_path: Path) -> None:
    (tmp_path / "black.xlsx").write_bytes(make_xlsx({"S": [["item"], ["007"], [17000]]}))
    blacklist = {"blacklist": {"sources": [{"path": str(tmp_path / "black.xlsx")}], "column": "item"}}
    assert read_blacklist(make_shop(tmp_path / "log.csv", rules=blacklist)) == {"007", "17000"}


@pytest.mark.parametrize(
    ("data", "code", "fields"),
    [
        (
            make_xlsx({"S": [["item"]]}, more='<row r="1048576"><c r="XFD1048576"><v>1</v></c></row>'),
            "events.excel-too-large",
            {},
        ),
        (
            make_xlsx({"S": [["item"]]}, more='<row r="300000"><c r="A300000"><v>1</v></c></row>'),
            "events.excel-too-large",
            {"rows": 200_000},
        ),
        (make_xlsx({"A": [["item"]], "B": []}), "events.excel-sheet", {"sheet": "Products", "sheets": ["A", "B"]}),
        (make_xlsx({"Products": [["item"]]}, more='<row r="2'), "events.file-damaged", {}),
        (make_xlsx({"Products": XLS_ROWS})[:1500], "events.file-damaged", {}),
        (b"item,title\n1,a\n", "events.file-damaged", {}),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(1000), "events.file-damaged", {}),
        (encrypt_xlsx(), "events.excel-encrypted", {}),
        (encrypt_xls(), "events.excel-encrypted", {}),
        (
            make_xlsx({"Products": [["sku", "title", "price", "since"], ["1", "a", 1, None]]}),
            "events.column-missing",
            {"found": ["sku", "title", "price", "since"]},
        ),
        (make_xlsx({"Products": []}), "events.table-empty", {}),
        (make_xlsx({"Products": [HEADER]}), "events.table-empty", {}),
        (b"", "events.table-empty", {}),
    ],
)
def test_workbooks_that_are_refused(
    tmp_path: Path, store: Store, data: bytes, code: str, fields: dict[str, Any]
) -> None:
    (tmp_path / "items.xlsx").write_bytes(data)
    sheet = None if code == "events.excel-too-large" else "Products"
    with refused(DataError, code, **fields):
        ingest(make_items_shop(tmp_path, {"path": str(tmp_path / "items.xlsx"), "sheet": sheet}), store)


def test_a_workbook_of_too_many_bytes(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("endcap.sources.formats.read_excel.LARGEST", 100)
    (tmp_path / "items.xlsx").write_bytes(make_xlsx({"Products": XLS_ROWS}))
    with refused(DataError, "events.excel-too-large", path=str(tmp_path / "items.xlsx"), bytes=100):
        ingest(make_items_shop(tmp_path, tmp_path / "items.xlsx"), store)


def test_a_log_is_no_workbook(tmp_path: Path, store: Store) -> None:
    write_csv(tmp_path / "log" / "a.csv", ROWS)
    (tmp_path / "log" / "notes.xlsx").write_bytes(make_xlsx({"S": [["item"]]}))
    for path in ("log/notes.xlsx", "log/*.xlsx"):
        with refused(DataError, "events.excel-events", path=str(tmp_path / "log" / "notes.xlsx")):
            ingest(make_shop(tmp_path / path), store)
    (tmp_path / "log.zip").write_bytes(zipped({"log.xlsx": make_xlsx({"S": [["item"]]})}))
    with refused(DataError, "events.excel-events"):
        ingest(make_shop(tmp_path / "log.zip"), store)
    address = ingest(make_shop(tmp_path / "log"), store)
    assert [Path(name).name for name in facts(store, address)["sources"][0]["skipped"]] == ["notes.xlsx"]
    (tmp_path / "log" / "b.csv").write_bytes(make_xlsx({"S": [["item"]]}))
    with refused(DataError, "events.kind-foreign", path=str(tmp_path / "log" / "b.csv"), kind="an Excel workbook"):
        ingest(make_shop(tmp_path / "log"), store)
    for name in ("a.csv", "b.csv"):
        (tmp_path / "log" / name).unlink()
    with refused(DataError, "events.excel-events", path=str(tmp_path / "log" / "notes.xlsx")):
        ingest(make_shop(tmp_path / "log"), store)


@pytest.mark.parametrize("wrong", [{"format": "excel"}, {"sheet": "S"}])
def test_a_spec_that_means_a_workbook_of_events(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="workbook"):
        make_shop({"path": "log.xlsx"} | wrong)
