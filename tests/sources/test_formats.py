"""The same rows, in whatever format, compression, layout of files and order, are the same snapshot."""

from __future__ import annotations

import gzip
import json
import lzma
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from endcap.events import ingest, snapshot_days
from endcap.store import Store, open_store
from tests.events.shops import HEADER, ROWS, STORED, facts, make_shop, stored, write_csv

TEXT = "".join(f"{line}\n" for line in [HEADER, *ROWS]).encode()


def as_objects() -> list[dict[str, str | None]]:
    return [dict(zip(HEADER.split(","), (value or None for value in row.split(",")), strict=True)) for row in ROWS]


def as_json_lines() -> bytes:
    return "\n".join(json.dumps(row) for row in as_objects()).encode()


def as_typed_table() -> pa.Table:
    table = pa.Table.from_pylist(as_objects())
    times = pa.array([datetime.fromisoformat(row["time"]) for row in as_objects()], pa.timestamp("us", tz="UTC"))
    return table.set_column(3, "time", times).set_column(4, "type", table["type"].dictionary_encode())


@pytest.mark.parametrize(
    ("name", "data", "source"),
    [
        ("log.csv", TEXT, {}),
        ("log.csv.gz", gzip.compress(TEXT[:50]) + gzip.compress(TEXT[50:]), {}),
        ("log.csv.xz", lzma.compress(TEXT), {}),
        ("log.csv.zst", zstandard.compress(TEXT), {}),
        ("log.tsv", TEXT.replace(b",", b"\t"), {}),
        ("log.txt", TEXT.replace(b",", b"|"), {"format": "csv", "delimiter": "|"}),
        ("log.csv", b"\xef\xbb\xbf" + TEXT.replace(b"\n", b"\r\n"), {}),
        ("log.csv", TEXT.partition(b"\n")[2], {"header": HEADER.split(",")}),
        ("log.jsonl", as_json_lines(), {}),
        ("log.jsonl", b"\xef\xbb\xbf" + as_json_lines(), {}),
        ("log.ndjson.gz", gzip.compress(as_json_lines() + b"\n\n"), {}),
    ],
)
def test_text_formats(tmp_path: Path, store: Store, name: str, data: bytes, source: dict[str, Any]) -> None:
    file = tmp_path / name
    file.write_bytes(data)
    assert stored(store, ingest(make_shop({"path": str(file)} | source), store)) == STORED


def test_parquet_with_typed_times_whatever_the_declared_unit(tmp_path: Path, store: Store) -> None:
    pq.write_table(as_typed_table(), tmp_path / "log.parquet")
    shop = make_shop(tmp_path / "log.parquet", events={"time": {"unit": "s"}})
    assert stored(store, ingest(shop, store)) == STORED


def test_all_ways_of_giving_the_rows_are_one_content(tmp_path: Path, store: Store) -> None:
    one = write_csv(tmp_path / "one.csv", ROWS)
    write_csv(tmp_path / "many" / "2024" / "b.csv", ROWS[:1])
    (tmp_path / "many" / "a.csv.gz").write_bytes(gzip.compress(f"type,{HEADER[:-5]}\n".encode()))
    (tmp_path / "many" / "c.jsonl").write_bytes(as_json_lines().partition(b"\n")[2])
    shuffled = write_csv(tmp_path / "shuffled.csv", ROWS[::-1])
    given_as = (one, tmp_path / "many", f"{tmp_path}/shuf*", shuffled)
    addresses = [ingest(make_shop(path), store) for path in given_as]
    assert len({facts(store, address)["fingerprint"] for address in addresses}) == 1
    # The order of rows of one time is another, but for the same file under another name.
    assert len(set(addresses)) == 3


SCHEMA = pa.schema([("session", "string"), ("customer", "string"), ("item", "string"), ("time", "int64")])
# Without what makes a float of an id, or none, and without control characters: those are bad rows.
IDS = st.text(st.characters(exclude_characters=".+nN", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=5).filter(
    str.strip
)


@settings(max_examples=15, deadline=None)
@given(
    rows=st.lists(
        st.tuples(IDS, st.none() | IDS, IDS, st.integers(631152000000, 1700000000000)), min_size=1, max_size=8
    ),
    cut=st.integers(0, 8),
    order=st.randoms(use_true_random=False),
)
@pytest.mark.slow
def test_fingerprint_is_of_the_bag_of_rows(tmp_path_factory: Any, rows: list[Any], cut: int, order: Any) -> None:
    folder = tmp_path_factory.mktemp("bag")
    store = open_store(str(folder / "store"))
    shuffled = order.sample(rows, len(rows))
    for name, part in (("whole/1", rows), ("split/1", shuffled[:cut]), ("split/2", shuffled[cut:])):
        file = folder / f"{name}.parquet"
        file.parent.mkdir(exist_ok=True)
        pq.write_table(
            pa.Table.from_pylist([dict(zip(SCHEMA.names, row, strict=True)) for row in part], schema=SCHEMA), file
        )
    rule = {"columns": {"session": "session", "customer": "customer"}, "time": {"unit": "ms"}, "max_bad_share": 0.0}
    whole, split = (ingest(make_shop(folder / name, events=rule), store) for name in ("whole", "split"))
    assert facts(store, whole)["fingerprint"] == facts(store, split)["fingerprint"]
    assert sorted(stored(store, whole, "session, customer, item, time"), key=repr) == sorted(rows, key=repr)


def test_fingerprint_tells_a_row_more_a_value_moved_and_a_part(tmp_path: Path, store: Store) -> None:
    logs = {
        "base": ["s,c,ab,2024-03-01T10:00:00Z,view"],
        "twice": ["s,c,ab,2024-03-01T10:00:00Z,view"] * 2,
        "moved": ["s,ca,b,2024-03-01T10:00:00Z,view"],
        "null": ["s,,ab,2024-03-01T10:00:00Z,view"],
        "later": ["s,c,ab,2024-03-01T10:00:00.001Z,view"],
    }
    sources: list[Any] = [write_csv(tmp_path / f"{name}.csv", rows) for name, rows in logs.items()]
    sources.append({"path": str(sources[0]), "part": "test"})
    prints = [facts(store, ingest(make_shop(source), store))["fingerprint"] for source in sources]
    assert len(set(prints)) == len(prints)


def test_reading_order_is_by_source_then_file_name_then_row(tmp_path: Path, store: Store) -> None:
    row = "s,c,{},2024-03-01T10:00:00Z,view"
    write_csv(tmp_path / "z" / "b.csv", [row.format("second"), row.format("third")])
    write_csv(tmp_path / "z" / "a.csv", [row.format("first")])
    write_csv(tmp_path / "a.csv", [row.format("fourth")])
    address = ingest(make_shop(tmp_path / "z", {"path": f"{tmp_path}/a.csv", "part": "test"}), store)
    assert stored(store, address, "item, part") == [
        ("first", "train"),
        ("second", "train"),
        ("third", "train"),
        ("fourth", "test"),
    ]


def test_same_input_is_found_and_not_read_again(tmp_path: Path, store: Store) -> None:
    log = write_csv(tmp_path / "log.csv", ROWS)
    first = ingest(make_shop(log), store)
    log.rename(tmp_path / "moved.csv")
    lines: list[str] = []
    assert ingest(make_shop(tmp_path / "moved.csv"), store, progress=lines.append) == first
    assert lines == []
    assert store.list("snapshots/test") == [first]


def test_ids_survive_exactly(tmp_path: Path, store: Store) -> None:
    ids = ['quo"te', "com,ma", "ünï✓ 漢字 🛒", " spaces ", "007", "1e5", "'; DROP TABLE x"]
    named = [(one, one) for one in ids] + [("s", "\\N"), ("s", "NA")]  # words for nothing may be items
    quoted = [['"' + one.replace('"', '""') + '"' for one in pair] for pair in named]
    log = write_csv(tmp_path / "log.csv", [f"{one},{one},{item},2024-03-01,view" for one, item in quoted])
    rows = [
        {"session": one, "customer": one, "item": item, "time": "2024-03-01", "type": "view"} for one, item in named
    ]
    lines = tmp_path / "log.jsonl"
    lines.write_text("\n".join(json.dumps(row) for row in rows))
    address = ingest(make_shop(log), store)
    assert stored(store, address, "session, customer, item") == [(one, one, item) for one, item in named]
    assert facts(store, address)["words_as_items"] == 2
    assert ingest(make_shop(lines), store) == address


def test_days_are_of_utc_and_may_come_mixed(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("endcap.events.days.BUDGET", 300)  # several parts a day
    monkeypatch.setattr("endcap.sources.formats.read_csv.BLOCK", 120)
    rows = [f"s,c,i{at},2024-03-0{1 + at % 3}T23:59:59.999Z,view" for at in range(30)]
    address = ingest(make_shop(write_csv(tmp_path / "log.csv", rows)), store)
    assert [item for (item,) in stored(store, address, "item")] == [f"i{at}" for at in range(30)]
    days = stored(store, address, "DISTINCT ON (day) day::VARCHAR, strftime(make_timestamp(time * 1000), '%Y-%m-%d')")
    assert sorted(days) == [(f"2024-03-0{day}",) * 2 for day in (1, 2, 3)]
    parts = snapshot_days.open_snapshot(store, address, days={"2024-03-01"}).files
    assert len(parts) > 1
