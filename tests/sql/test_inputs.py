"""What a statement may read: files of each format, outputs of other steps, and the run's snapshot and dataset."""

from __future__ import annotations

import gzip
import json
import lzma
import zipfile
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import orc

from endcap.errors import EndcapError, IntegrityError
from endcap.events import ingest
from endcap.features import build
from endcap.sources import local_files
from endcap.sources.files import SourceFile
from endcap.spec.sql_step import SqlSpec
from endcap.sql import duckdb_engine
from endcap.store import Store, open_store
from tests.events.shops import ROWS, make_shop, write_csv
from tests.sql.shops import facts, make_spec, run, values

LINES = [
    {"id": "007", "price": 1.5, "tags": ["a", "b"], "place": {"page": 3}},
    {"id": "8", "price": 2, "tags": [], "place": {"page": 4}, "late": True},
]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


def spec(text: str, **inputs: Any) -> SqlSpec:
    return SqlSpec.model_validate({"text": text, "inputs": inputs})


def refused(store: Store, spec: SqlSpec, **arguments: Any) -> EndcapError:
    with pytest.raises(EndcapError) as error:
        run(store, spec, **arguments)
    return error.value


def test_values_of_csv_are_texts_as_they_stand_and_an_empty_one_is_null(tmp_path: Path, store: Store) -> None:
    (tmp_path / "a.csv").write_text('id,n,note\n007,1,"a, b"\n8,,\n')
    (tmp_path / "b.csv").write_text("note;id;more\nx;9;y\n", encoding="utf-16")
    text = "select id, n, note from a union all by name select id, note, more from b"
    inputs = {"a": {"path": str(tmp_path / "a.csv")}, "b": {"path": str(tmp_path / "b.csv"), "delimiter": ";"}}
    assert values(store, run(store, spec(text, **inputs))) == [
        ("007", "1", "a, b", None),
        ("8", None, None, None),
        ("9", None, "x", "y"),
    ]


def test_files_of_one_input_may_differ_in_columns_format_and_compression(tmp_path: Path, store: Store) -> None:
    lines = "".join(json.dumps(line) + "\n" for line in LINES).encode()
    folder = tmp_path / "logs"
    folder.mkdir()
    (folder / "a.jsonl").write_bytes(lines)
    (folder / "b.jsonl.gz").write_bytes(gzip.compress(lines))
    (folder / "c.jsonl.xz").write_bytes(lzma.compress(lines))
    pq.write_table(pa.table({"id": ["9"], "price": [3.0]}), folder / "d.parquet")
    (folder / "e.csv").write_text("id\n10\n")
    orc.write_table(pa.table({"id": ["11"], "price": [0.5]}), str(folder / "f.orc"))
    with (folder / "g.avro").open("wb") as out:
        fastavro.writer(
            out, {"type": "record", "name": "r", "fields": [{"name": "id", "type": "string"}]}, [{"id": "12"}]
        )
    with zipfile.ZipFile(folder / "h.parquet.zip", "w") as archive:
        archive.write(folder / "d.parquet", "d.parquet")
    text = "select id, count(*), sum(price), max(place.page), bool_or(late) from log group by id"
    assert values(store, run(store, spec(text, log={"path": str(folder)}))) == [
        ("007", 3, 4.5, 3, None),
        ("10", 1, None, None, None),
        ("11", 1, 0.5, None, None),
        ("12", 1, None, None, None),
        ("8", 3, 6.0, 4, True),
        ("9", 2, 6.0, None, None),
    ]


def test_files_that_did_not_change_are_not_read_again(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_files, "SETTLED", -60)
    step = make_spec(tmp_path, "select item from clicks")
    made = run(store, step)
    with monkeypatch.context() as patch:
        patch.delattr(SourceFile, "_hash")
        assert run(store, step) == made
    # Who reads a file compares it with what is known.
    other = step.model_copy(update={"text": "select customer from clicks"})
    assert len(values(store, run(store, other))) == len(ROWS)
    write_csv(tmp_path / "clicks.csv", ROWS[:1])
    assert [len(values(store, run(store, which))) for which in (step, other)] == [1, 1]


def test_lines_that_are_no_rows_are_counted_and_limited(tmp_path: Path, store: Store) -> None:
    (tmp_path / "a.csv").write_text("id,n\n1,1\n2\n3,3\n4,4,4\n")
    strict = refused(store, spec("select * from a", a={"path": str(tmp_path / "a.csv")}))
    assert strict.code == "sql.input-bad-rows"
    assert strict.fields["rows"] == 4
    reasons = {"1 columns where 2 are expected": 1, "3 columns where 2 are expected": 1}
    assert strict.fields["bad"] == reasons
    lenient = spec("select * from a", a={"path": str(tmp_path / "a.csv"), "max_bad_share": 0.5})
    address = run(store, lenient)
    assert values(store, address) == [("1", "1"), ("3", "3")]
    assert facts(store, address)["inputs"]["a"]["bad"] == reasons


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("a.csv", b"id,ID\n1,2\n", "sql.input-unreadable"),
        ("a.csv", b"", "sql.input-unreadable"),
        ("a.parquet", b"PAR1 no parquet", "sql.input-unreadable"),
        ("a.jsonl", b'{"a": 1}\n{"a": \n', "sql.input-unreadable"),
        ("a.csv.gz", gzip.compress(b"id,n\n" + b"1,2\n" * 100_000)[:200], "events.file-cut-short"),
        ("b.csv", b"id\n1\n", "events.file-not-found"),
        ("a.xlsx.exe", b"id\n1\n", "events.file-not-found"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(
    tmp_path: Path, store: Store, name: str, content: bytes, code: str
) -> None:
    (tmp_path / name).write_bytes(content)
    path = tmp_path / (name if name.startswith("a.") and "exe" not in name else "a.csv")
    assert refused(store, spec("select * from a", a={"path": str(path)})).code == code


def test_a_file_that_changes_meanwhile_is_noticed(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_csv(tmp_path / "a.csv", ROWS)
    lock = duckdb_engine.lock_engine

    def change(*arguments: Any) -> None:
        file.write_text(file.read_text() + "s9,c9,i9,2024-03-01T10:00:00Z,view\n")
        lock(*arguments)

    monkeypatch.setattr(duckdb_engine, "lock_engine", change)
    assert refused(store, spec("select * from a", a={"path": str(file)})).code == "events.file-changed"
    assert store.list("tables/test") == []


def test_the_output_of_a_step_is_an_input_and_counts_by_its_content(tmp_path: Path, store: Store) -> None:
    file = write_csv(tmp_path / "a.csv", ROWS)
    first = run(store, spec("select item, date '2024-03-01' as day from a", a={"path": str(file)}))
    text = "select item, count(*) as n from clean group by item"
    second = spec(text, clean={"step": "cleaned"})
    address = run(store, second, tables={"cleaned": first, "other": first})
    assert values(store, address) == [("i1", 2), ("i2", 1), ("i3", 1)]
    assert facts(store, address)["inputs"] == {"clean": {"step": "cleaned", "artifact": first}}
    changed = run(store, spec("select item from a where item <> 'i1'", a={"path": str(file)}))
    assert run(store, second, tables={"cleaned": changed}) != address
    assert refused(store, second, tables={"other": first}).code == "sql.table-not-made"


def test_a_damaged_table_is_not_read(tmp_path: Path, store: Store) -> None:
    first = run(store, spec("select item from a", a={"path": str(write_csv(tmp_path / "a.csv", ROWS))}))
    (file,) = (store.fetch(first) / "rows").rglob("*.parquet")
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(IntegrityError):
        run(store, spec("select count(*) as n from clean", clean={"step": "clean"}), tables={"clean": first})


def test_tables_of_a_runs_snapshot_and_dataset_have_their_names(tmp_path: Path, store: Store) -> None:
    shop = make_shop(write_csv(tmp_path / "log.csv", ROWS))
    snapshot = ingest(shop, store)
    dataset = build(shop, snapshot, store)
    made = {"snapshot": snapshot, "dataset": dataset}
    address = run(store, spec("select type, count(*) as n from events group by type"), artifacts=made)
    assert values(store, address) == [("cart", 1), ("view", 3)]
    assert facts(store, address)["inputs"] == {"events": {"artifact": snapshot}}
    sessions = spec("select s.id, count(*) as n from session_events join sessions s using (session) group by s.id")
    assert values(store, run(store, sessions, artifacts=made)) == [("c1|s1", 2), ("|s2", 2)]
    # An input of the same name counts more than a table of the run.
    own = spec("select count(*) as n from events", events={"path": str(write_csv(tmp_path / "own.csv", ROWS[:1]))})
    assert values(store, run(store, own, artifacts=made)) == [(1,)]
    lacking = refused(store, spec("select * from customers"), artifacts=made)
    assert (lacking.code, "events" in lacking.fields["known"]) == ("sql.unknown-table", True)
    assert refused(store, spec("select * from events")).code == "sql.unknown-table"
