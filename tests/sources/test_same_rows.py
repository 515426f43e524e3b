"""The same small table is the same snapshot in whatever format it comes."""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import orc

from endcap.events import ingest
from endcap.store import Store, open_store
from tests.events.shops import ROWS, facts, make_shop, write_csv
from tests.sources.typed_files import write_avro
from tests.sources.workbooks import make_ods, make_xlsb, make_xlsx

Row = dict[str, Any]
# Without what makes a float of an id, or none, without control characters, which are bad rows, and without what looks
# like JSON.
IDS = st.text(
    st.characters(exclude_characters=".+nN{[", exclude_categories=["Cs", "Cc", "Co", "Cn"]), min_size=1, max_size=6
).filter(lambda text: text.strip() and not text.strip().startswith(("Inf", "-Inf", "inf", "-inf")))
SIGNS = "09aZ äß漢🛒 ,;|<>&'\"/\\%"
MILLIS = {"type": "long", "logicalType": "timestamp-millis"}
AVRO = {"id": "string", "text": ["null", "string"], "time": MILLIS, "number": ["null", "double"]}
ARROW = {"id": pa.string(), "text": pa.string(), "time": pa.timestamp("ms", "UTC"), "number": pa.float64()}


def plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def to_csv(rows: list[Row], kinds: dict[str, str]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL)
    writer.writerow(kinds)
    writer.writerows([["" if value is None else plain(value) for value in row.values()] for row in rows])
    return text.getvalue().encode()


def to_json(rows: list[Row], kinds: dict[str, str]) -> bytes:
    return "\n".join(json.dumps({key: plain(value) for key, value in row.items()}) for row in rows).encode()


def to_arrow(rows: list[Row], kinds: dict[str, str]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=pa.schema([(name, ARROW[kind]) for name, kind in kinds.items()]))


def to_file(write: Callable[[pa.Table, Any], Any]) -> Callable[[list[Row], dict[str, str]], bytes]:
    def make(rows: list[Row], kinds: dict[str, str]) -> bytes:
        whole = io.BytesIO()
        write(to_arrow(rows, kinds), whole)
        return whole.getvalue()

    return make


def to_avro(rows: list[Row], kinds: dict[str, str], folder: Path) -> bytes:
    fields = [{"name": name, "type": AVRO[kind]} for name, kind in kinds.items()]
    return write_avro(folder / "x", {"type": "record", "name": "row", "fields": fields}, rows, "snappy").read_bytes()


def to_cells(rows: list[Row], kinds: dict[str, str]) -> list[list[Any]]:
    return [list(kinds), *(list(row.values()) for row in rows)]


WRITERS: dict[str, Callable[[list[Row], dict[str, str]], bytes]] = {
    "csv": to_csv,
    "jsonl": to_json,
    "parquet": to_file(pq.write_table),
    "orc": to_file(orc.write_table),
}
TABLES = WRITERS | {
    "xlsx": lambda rows, kinds: make_xlsx({"S": to_cells(rows, kinds)}),
    "xlsb": lambda rows, kinds: make_xlsb("S", to_cells(rows, kinds)),
    "ods": lambda rows, kinds: make_ods({"S": to_cells(rows, kinds)}),
}
EVENTS = {"session": "id", "customer": "text", "item": "id", "time": "time", "type": "id"}
ITEMS = {"item": "id", "title": "text", "price": "number", "brand": "text"}
TIMES = st.datetimes(datetime(1991, 1, 1), datetime(2024, 1, 1)).map(
    lambda time: time.replace(microsecond=time.microsecond // 1000 * 1000, tzinfo=UTC)
)


@settings(max_examples=8, deadline=None)
@given(rows=st.lists(st.tuples(IDS, st.none() | IDS, IDS, TIMES, IDS), min_size=1, max_size=6))
def test_events(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[Any, ...]]) -> None:
    folder = tmp_path_factory.mktemp("events")
    store = open_store(str(folder / "store"))
    table = [dict(zip(EVENTS, row, strict=True)) for row in rows]
    files = {suffix: write(table, EVENTS) for suffix, write in WRITERS.items()}
    files["avro"] = to_avro(table, EVENTS, folder)
    prints = set()
    for suffix, data in files.items():
        (folder / f"log.{suffix}").write_bytes(data)
        rule = {"columns": {"session": "session", "customer": "customer", "type": "type"}, "null_values": []}
        address = ingest(make_shop(folder / f"log.{suffix}", events=rule), store)
        assert facts(store, address)["events"] == len(rows), suffix
        prints.add(facts(store, address)["fingerprint"])
    assert len(prints) == 1


def test_items(tmp_path: Path, store: Store) -> None:
    chance = random.Random(11)

    def pick_text() -> str:
        return "".join(chance.choice(SIGNS) for _ in range(chance.randint(1, 6))).strip() or "0"

    table = [
        {
            "item": f"{number:04}",
            "title": chance.choice([None, pick_text()]),
            "price": chance.choice([None, chance.randint(-(10**9), 10**9) / 64]),
            "brand": chance.choice([None, "007", "true", "1E5", pick_text()]),
        }
        for number in range(300)
    ]
    files = {suffix: write(table, ITEMS) for suffix, write in TABLES.items()}
    files["avro"] = to_avro(table, ITEMS, tmp_path)
    log, prints = write_csv(tmp_path / "log.csv", ROWS), {}
    for suffix, data in files.items():
        (tmp_path / f"items.{suffix}").write_bytes(data)
        items = {
            "sources": [{"path": str(tmp_path / f"items.{suffix}")}],
            "columns": {"item": "item", "title": "title", "price": "price"},
            "categorical": ["brand"],
        }
        address = ingest(make_shop(log, items=items, events={"max_bad_share": 0.0}), store)
        prints[suffix] = json.dumps(facts(store, address)["items"]["content"])
        assert facts(store, address)["items"]["rows"] == 300
    assert {suffix for suffix, value in prints.items() if value != prints["csv"]} == set()
