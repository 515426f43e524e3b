"""Which files are read, and what is said of files that cannot be."""

from __future__ import annotations

import gzip
import json
import lzma
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from endcap.errors import DataError
from endcap.events import ingest
from endcap.sources.recognition import FORMATS
from endcap.store import Store
from tests.events.shops import HEADER, ROWS, STORED, facts, make_shop, stored, write_csv
from tests.refusals import refused

NOISE = "".join(f"s,c,{os.urandom(40).hex()},2024-03-01,view\n" for _ in range(20_000)).encode()


@pytest.mark.parametrize(
    ("suffix", "compress"), [("gz", gzip.compress), ("xz", lzma.compress), ("zst", zstandard.compress)]
)
@pytest.mark.parametrize("left", [0.5, 0.99999])
def test_a_truncated_file_is_named(tmp_path: Path, store: Store, suffix: str, compress: Any, left: float) -> None:
    whole = compress(HEADER.encode() + b"\n" + NOISE)
    log = tmp_path / f"log.csv.{suffix}"
    log.write_bytes(whole[: int(len(whole) * left)])
    with refused(DataError, "events.file-cut-short", path=str(log)):
        ingest(make_shop(log), store)
    assert store.list("snapshots/test") == []


@pytest.mark.parametrize("name", ["log.csv.gz", "log.csv.xz", "log.csv.zst", "log.parquet"])
def test_a_file_that_is_not_what_its_suffix_says(tmp_path: Path, store: Store, name: str) -> None:
    write_csv(tmp_path / name, ROWS)
    with refused(DataError, "events.file-damaged", path=str(tmp_path / name)):
        ingest(make_shop(tmp_path / name), store)


def test_a_truncated_parquet_file(tmp_path: Path, store: Store) -> None:
    log = tmp_path / "log.parquet"
    pq.write_table(pa.table({"item": ["i"] * 1000}), log)
    log.write_bytes(log.read_bytes()[:-10])
    with refused(DataError, "events.file-damaged", path=str(log)):
        ingest(make_shop(log), store)


def test_missing_columns_are_named_with_the_nearest(tmp_path: Path, store: Store) -> None:
    log = write_csv(tmp_path / "log.csv", ROWS, header="session,user,Item,tiem,type")
    missing = [
        {"column": "item", "key": "events.columns.item", "near": "Item"},
        {"column": "time", "key": "events.columns.time", "near": "tiem"},
        {"column": "customer", "key": "events.columns.customer", "near": "user"},
    ]
    with refused(DataError, "events.column-missing", path=str(log), missing=missing, repeated=[]) as stopped:
        ingest(make_shop(log), store)
    assert str(stopped.value).splitlines() == [
        f"{log}: columns are missing; it has 'session', 'user', 'Item', 'tiem', 'type'",
        "  - 'item' (events.columns.item); did you mean 'Item'?",
        "  - 'time' (events.columns.time); did you mean 'tiem'?",
        "  - 'customer' (events.columns.customer); did you mean 'user'?",
    ]


def test_a_column_that_is_there_twice(tmp_path: Path, store: Store) -> None:
    log = write_csv(tmp_path / "log.csv", ROWS, header="session,item,item,time,type")
    with refused(DataError, "events.column-missing", repeated=[{"column": "item", "key": "events.columns.item"}]):
        ingest(make_shop(log), store)


def test_missing_columns_of_parquet_and_of_json_lines(tmp_path: Path, store: Store) -> None:
    pq.write_table(pa.table({"sku": ["i"], "time": ["2024-03-01"]}), tmp_path / "log.parquet")
    with refused(DataError, "events.column-missing", found=["time", "sku"]) as stopped:
        ingest(make_shop(tmp_path / "log.parquet"), store)
    assert "item" in {one["column"] for one in stopped.value.fields["missing"]}
    (tmp_path / "log.jsonl").write_text('{"sku": "i", "time": "2024-03-01"}\n')
    with refused(DataError, "events.column-missing", found=["sku", "time"]) as stopped:
        ingest(make_shop(tmp_path / "log.jsonl"), store)
    assert "item" in {one["column"] for one in stopped.value.fields["missing"]}


def test_a_key_that_few_json_lines_have(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("endcap.sources.formats.read_json.BLOCK", 64)
    rows = [{"session": "s", "item": f"i{at}", "time": "2024-03-01", "type": None} for at in range(5)]
    (tmp_path / "log.jsonl").write_text("\n".join(json.dumps(row) for row in [*rows, rows[0] | {"customer": "c"}]))
    assert stored(store, ingest(make_shop(tmp_path / "log.jsonl"), store), "customer") == [(None,)] * 5 + [("c",)]
    (tmp_path / "log.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    with refused(DataError, "events.column-empty", columns={"customer": "events.columns.customer"}):
        ingest(make_shop(tmp_path / "log.jsonl"), store)


def test_nested_values_are_no_ids(tmp_path: Path, store: Store) -> None:
    pq.write_table(pa.table({"item": [["a"]], "time": ["2024"]}), tmp_path / "log.parquet")
    with refused(DataError, "events.column-nested", column="item") as stopped:
        ingest(make_shop(tmp_path / "log.parquet"), store)
    assert stopped.value.fields["found"].startswith("list")


@pytest.mark.parametrize("content", ["", HEADER, f"{HEADER}\n", f"{HEADER}\n\n\n"])
def test_a_log_without_rows(tmp_path: Path, store: Store, content: str) -> None:
    (tmp_path / "log.csv").write_text(content)
    with refused(DataError, "events.none-left", paths=[str(tmp_path / "log.csv")], rows=0):
        ingest(make_shop(tmp_path / "log.csv"), store)


def test_an_empty_file_among_others_is_told(tmp_path: Path, store: Store) -> None:
    write_csv(tmp_path / "logs" / "a.csv", ROWS)
    (tmp_path / "logs" / "b.csv").touch()
    write_csv(tmp_path / "logs" / "c.csv.gz", []).write_bytes(gzip.compress(b""))
    address = ingest(make_shop(tmp_path / "logs"), store)
    assert [Path(path).name for path in facts(store, address)["empty_files"]] == ["b.csv", "c.csv.gz"]


def test_a_single_session_of_one_event(tmp_path: Path, store: Store) -> None:
    address = ingest(make_shop(write_csv(tmp_path / "log.csv", ROWS[:1])), store)
    assert stored(store, address) == STORED[:1]
    counted = facts(store, address)
    assert (counted["events"], counted["parts"]) == (1, {"train": 1, "test": 0})
    assert counted["first"] == counted["last"] == STORED[0][3]


def test_foreign_files_in_a_folder_are_left_out_and_told(tmp_path: Path, store: Store) -> None:
    write_csv(tmp_path / "logs" / "a.csv", ROWS)
    for name in ("README.md", "a.csv.bak", ".hidden.csv", "_SUCCESS", "_temporary/b.csv"):
        write_csv(tmp_path / "logs" / name, ROWS)
    lines: list[str] = []
    address = ingest(make_shop(tmp_path / "logs"), store, progress=lines.append)
    assert facts(store, address)["events"] == 4
    skipped = facts(store, address)["sources"][0]["skipped"]
    assert [Path(path).name for path in skipped] == ["README.md", "a.csv.bak"]
    assert "README.md, a.csv.bak" in lines[0]


def test_a_named_format_takes_vague_suffixes_only(tmp_path: Path, store: Store) -> None:
    for name in ("a.txt", "b.dat", "c.md", "d.parquet"):
        write_csv(tmp_path / "logs" / name, ROWS)
    address = ingest(make_shop({"path": str(tmp_path / "logs"), "format": "csv"}), store)
    assert facts(store, address)["events"] == 8


@pytest.mark.parametrize(
    ("path", "code", "fields"),
    [
        ("none.csv", "events.file-not-found", {}),
        ("*.csv", "events.file-not-found", {}),
        ("empty", "events.file-not-found", {}),
        ("dangling.csv", "events.file-not-found", {}),
        ("notes.md", "events.format-unknown", {"found": ["notes.md"]}),
        ("notes.*", "events.format-unknown", {"found": ["notes.md"]}),
        ("notes", "events.format-unknown", {"found": ["notes.md"], "allowed": list(FORMATS)}),
        ("notes.md/log.csv", "events.cannot-read", {"reason": "Not a directory"}),
        ("n" * 300 + ".csv", "events.cannot-read", {"reason": "File name too long"}),
        ("log.parquet.gz", "events.file-damaged", {}),
    ],
)
def test_a_path_that_cannot_be_read(tmp_path: Path, store: Store, path: str, code: str, fields: dict[str, Any]) -> None:
    for name in ("notes.md", "notes/notes.md", "log.parquet.gz"):
        write_csv(tmp_path / name, [])
    (tmp_path / "empty").mkdir()
    (tmp_path / "dangling.csv").symlink_to(tmp_path / "gone.csv")
    # A glob stands for the file that it finds.
    name = "notes.md" if path == "notes.*" else path
    with refused(DataError, code, path=str(tmp_path / name), **fields):
        ingest(make_shop(tmp_path / path), store)


@pytest.mark.skipif(os.geteuid() == 0, reason="no file is closed to root")
@pytest.mark.parametrize("closed", ["logs", "logs/a.csv"])
def test_a_file_without_permission(tmp_path: Path, store: Store, closed: str) -> None:
    write_csv(tmp_path / "logs" / "a.csv", ROWS)
    (tmp_path / closed).chmod(0)
    try:
        with refused(DataError, "events.cannot-read", path=str(tmp_path / closed), reason="Permission denied"):
            ingest(make_shop(tmp_path / "logs"), store)
    finally:
        (tmp_path / closed).chmod(0o700)


def test_a_file_that_changes_while_it_is_read(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    log = write_csv(tmp_path / "log.csv", ROWS)
    from endcap.sources import load

    def read_and_append(*arguments: Any) -> Any:
        rows = read(*arguments)
        with log.open("a") as handle:
            handle.write(ROWS[0])
        return rows

    read = load.read_part
    monkeypatch.setattr(load, "read_part", read_and_append)
    with refused(DataError, "events.file-changed", path=str(log)):
        ingest(make_shop(log), store)
