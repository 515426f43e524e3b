"""Archives of one file: read as the file in them, and refused where they are something else."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from pyarrow import orc

from endcap.errors import DataError
from endcap.events import ingest
from endcap.store import Store
from tests.events.shops import ROWS, STORED, facts, make_shop, stored, write_csv
from tests.refusals import refused
from tests.sources.test_formats import TEXT, as_json_lines, as_typed_table
from tests.sources.test_typed_formats import EVENT, as_records
from tests.sources.typed_files import write_avro

JUNK = {"__MACOSX/._log.csv": b"\0\5\26\7", ".DS_Store": b"\0\0\0\1Bud1", "logs/": b""}


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return whole.getvalue()


def tarred(members: dict[str, bytes], pack: Callable[[bytes], bytes] = bytes) -> bytes:
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as archive:
        for name, data in members.items():
            entry = tarfile.TarInfo(name.rstrip("/"))
            entry.size, entry.type = len(data), tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
            archive.addfile(entry, io.BytesIO(data))
    return pack(whole.getvalue())


def as_file(write: Callable[[Any], Any]) -> bytes:
    whole = io.BytesIO()
    write(whole)
    return whole.getvalue()


def plain_table() -> pa.Table:
    table = as_typed_table()
    return table.set_column(4, "type", table["type"].cast(pa.string()))


@pytest.mark.parametrize(
    ("name", "data", "source"),
    [
        ("log.csv.zip", zipped({"log.csv": TEXT}), {}),
        ("log.zip", zipped(JUNK | {"logs/log.csv": TEXT}), {}),
        ("log.zip", zipped({"./log.jsonl": as_json_lines()}, zipfile.ZIP_STORED), {}),
        ("log.zip", zipped({"log.json": as_json_lines()}, zipfile.ZIP_BZIP2), {}),
        ("log.zip", zipped({"log.txt": TEXT}, zipfile.ZIP_LZMA), {"format": "csv"}),
        ("log.zip", zipped({"log.csv.gz": gzip.compress(TEXT)}), {}),
        ("log.zip", zipped({"log.csv": lzma.compress(TEXT)}), {}),
        ("log.csv", zipped({"log.tsv": TEXT.replace(b",", b"\t")}), {}),
        ("log.tar", tarred({"log.csv": TEXT}), {}),
        ("log.tar.gz", tarred(JUNK | {"logs/log.csv": TEXT}, gzip.compress), {}),
        ("log.tgz", tarred({"log.csv": TEXT}, gzip.compress), {}),
        ("log.tar.bz2", tarred({"log.csv": TEXT}, bz2.compress), {}),
        ("log.txz", tarred({"log.csv": TEXT}, lzma.compress), {}),
        ("log.tar.zst", tarred({"log.csv.gz": gzip.compress(TEXT)}, zstandard.compress), {}),
        ("log.csv", tarred({"log.csv": TEXT}), {}),
        ("log.zip", zipped({"log.parquet": as_file(lambda file: pq.write_table(plain_table(), file))}), {}),
        ("log.tgz", tarred({"log.orc": as_file(lambda file: orc.write_table(plain_table(), file))}, gzip.compress), {}),
        ("log.parquet.gz", gzip.compress(as_file(lambda file: pq.write_table(plain_table(), file))), {}),
        ("log.csv", as_file(lambda file: pq.write_table(plain_table(), file)), {}),
        ("log.csv", as_file(lambda file: orc.write_table(plain_table(), file)), {}),
    ],
)
def test_the_file_in_an_archive_is_read(
    tmp_path: Path, store: Store, name: str, data: bytes, source: dict[str, Any]
) -> None:
    for folder in ("given", "folder"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_bytes(data)
    addresses = {
        ingest(make_shop({"path": str(path)} | source), store)
        for path in (tmp_path / "given" / name, tmp_path / "folder")
    }
    (address,) = addresses
    assert stored(store, address) == STORED


def test_avro_in_an_archive(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    log = write_avro(tmp_path / "log.avro", EVENT, as_records())
    (tmp_path / "log.zip").write_bytes(zipped({"log.avro": log.read_bytes()}))
    assert stored(store, ingest(make_shop(tmp_path / "log.zip"), store)) == STORED


def test_what_is_unpacked_for_a_while_leaves_nothing(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENDCAP_CACHE", str(tmp_path / "cache"))
    data = as_file(lambda file: pq.write_table(plain_table(), file))
    (tmp_path / "log.zip").write_bytes(zipped({"log.parquet": data}))
    assert stored(store, ingest(make_shop(tmp_path / "log.zip"), store)) == STORED
    assert list((tmp_path / "cache").rglob("*")) == []


def encrypted(data: bytes) -> bytes:
    """The same archive with the flag of encryption set, which readers go by."""
    whole = bytearray(data)
    for magic, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        whole[whole.index(magic) + place] |= 1
    return bytes(whole)


def by_method(data: bytes, method: int) -> bytes:
    whole = bytearray(data)
    for magic, place in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        whole[whole.index(magic) + place] = method
    return bytes(whole)


def with_link() -> bytes:
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as archive:
        entry = tarfile.TarInfo("log.csv")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(entry)
    return whole.getvalue()


def zipped_link() -> bytes:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        entry = zipfile.ZipInfo("log.csv")
        entry.external_attr = 0o120777 << 16
        archive.writestr(entry, "/etc/passwd")
    return whole.getvalue()


TWO = {"a.csv": TEXT, "b.csv": TEXT}


@pytest.mark.parametrize(
    ("name", "data", "code", "fields"),
    [
        ("log.zip", zipped(TWO), "events.archive-members", {"members": ["a.csv", "b.csv"], "count": 2}),
        ("log.tar", tarred(TWO), "events.archive-members", {"members": ["a.csv", "b.csv"]}),
        ("log.tgz", tarred(TWO, gzip.compress), "events.archive-members", {"count": 2}),
        ("log.zip", zipped({}), "events.archive-members", {"count": 0}),
        ("log.zip", zipped(JUNK), "events.archive-members", {"count": 0}),
        ("log.tar", tarred(JUNK), "events.archive-members", {"count": 0}),
        ("log.zip", zipped({"log.zip": zipped(TWO)}), "events.archive-nested", {"member": "log.zip"}),
        ("log.zip", zipped({"log.tar.gz": b""}), "events.archive-nested", {}),
        ("log.tar", tarred({"log.7z": b""}), "events.archive-nested", {}),
        ("log.zip", zipped({"log.csv": zipped(TWO)}), "events.kind-foreign", {"kind": "a zip archive"}),
        ("log.zip", encrypted(zipped({"log.csv": TEXT})), "events.archive-encrypted", {"member": "log.csv"}),
        ("log.zip", by_method(zipped({"log.csv": TEXT}), 9), "events.archive-method", {"found": "deflate64"}),
        ("log.zip", by_method(zipped({"log.csv": TEXT}), 93), "events.archive-method", {}),
        ("log.zip", zipped({"/etc/log.csv": TEXT}), "events.archive-entry", {"member": "/etc/log.csv"}),
        ("log.zip", zipped({"../log.csv": TEXT}), "events.archive-entry", {}),
        ("log.zip", zipped({"a\\..\\..\\log.csv": TEXT}), "events.archive-entry", {}),
        ("log.zip", zipped({"C:\\log.csv": TEXT}), "events.archive-entry", {}),
        ("log.zip", zipped_link(), "events.archive-entry", {}),
        ("log.tar", tarred({"/log.csv": TEXT}), "events.archive-entry", {}),
        ("log.tar", tarred({"a/../../log.csv": TEXT}), "events.archive-entry", {}),
        ("log.tar", with_link(), "events.archive-entry", {}),
        ("log.zip", zipped({"readme.md": b"x"}), "events.format-unknown", {"found": ["readme.md"]}),
        ("log.zip", TEXT, "events.file-damaged", {}),
        ("log.tar", TEXT * 9, "events.file-damaged", {}),
        ("log.tar.gz", gzip.compress(TEXT * 9), "events.file-damaged", {}),
    ],
)
def test_other_archives_are_refused(
    tmp_path: Path, store: Store, name: str, data: bytes, code: str, fields: dict[str, Any]
) -> None:
    (tmp_path / name).write_bytes(data)
    with refused(DataError, code, path=str(tmp_path / name), **fields):
        ingest(make_shop(tmp_path / name), store)


def test_in_a_folder_an_archive_counts_like_the_file_in_it(tmp_path: Path, store: Store) -> None:
    write_csv(tmp_path / "log" / "a.csv", ROWS[:2])
    write_csv(tmp_path / "b.csv", ROWS[2:])
    (tmp_path / "log" / "b.zip").write_bytes(zipped({"b.csv": (tmp_path / "b.csv").read_bytes()}))
    (tmp_path / "log" / "c.zip").write_bytes(zipped({"readme.md": b"x"}))
    address = ingest(make_shop(tmp_path / "log"), store)
    assert stored(store, address) == STORED
    assert [Path(name).name for name in facts(store, address)["sources"][0]["skipped"]] == ["c.zip"]
    (tmp_path / "log" / "d.zip").write_bytes(zipped(TWO))
    with refused(DataError, "events.archive-members", path=str(tmp_path / "log" / "d.zip")):
        ingest(make_shop(tmp_path / "log"), store)


@pytest.mark.parametrize("suffix", ["zip", "tar", "tgz"])
def test_an_archive_that_is_damaged_or_cut_short(tmp_path: Path, store: Store, suffix: str) -> None:
    data = b"".join(b"s,c,%d,2024-03-01,view\n" % (at * 7919) for at in range(20_000))
    data = b"session,customer,item,time,type\n" + data
    whole = {"zip": zipped, "tar": tarred, "tgz": lambda members: tarred(members, gzip.compress)}[suffix](
        {"log.csv": data}
    )
    log = tmp_path / f"log.{suffix}"
    for part in (whole[: len(whole) // 2], whole[: len(whole) // 3]):
        log.write_bytes(part)
        with refused(DataError, "events.file-damaged" if suffix == "zip" else "events.file-cut-short", path=str(log)):
            ingest(make_shop(log), store)
    if suffix != "tar":  # which has no checksum of its content
        log.write_bytes(whole[:5000] + bytes(200) + whole[5200:])
        with refused(DataError, "events.file-damaged", path=str(log)):
            ingest(make_shop(log), store)


@pytest.mark.parametrize("suffix", ["zip", "tgz", "parquet.gz"])
def test_an_archive_that_was_made_to_fill_a_disk(
    tmp_path: Path, store: Store, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("endcap.sources.archives.SMALL", 1 << 20)
    members = {"log.csv": b"0" * (2 << 20)}
    data = {
        "zip": zipped(members),
        "tgz": tarred(members, gzip.compress),
        "parquet.gz": gzip.compress(members["log.csv"]),
    }[suffix]
    (tmp_path / f"log.{suffix}").write_bytes(data)
    with refused(DataError, "events.archive-bomb", path=str(tmp_path / f"log.{suffix}"), limit=200):
        ingest(make_shop(tmp_path / f"log.{suffix}"), store)


@pytest.mark.parametrize("suffix", ["zip", "tgz", "avro", "orc"])
def test_an_empty_file_of_any_kind_among_others(tmp_path: Path, store: Store, suffix: str) -> None:
    write_csv(tmp_path / "log" / "a.csv", ROWS)
    (tmp_path / "log" / f"b.{suffix}").touch()
    address = ingest(make_shop(tmp_path / "log"), store)
    assert [Path(name).name for name in facts(store, address)["empty_files"]] == [f"b.{suffix}"]
