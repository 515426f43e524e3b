"""Avro and ORC: the same rows as of any other format, exact values, and errors that name the file."""

from __future__ import annotations

import functools
import json
import random
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb
import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import orc

from endcap.errors import DataError
from endcap.events import ingest
from endcap.sources.files import find_files
from endcap.sources.formats.read import read_rows
from endcap.spec.source import SourceSpec
from endcap.store import Store
from tests.events.shops import ROWS, STORED, facts, make_shop, open_snapshot, stored, write_csv
from tests.refusals import refused
from tests.sources.test_formats import as_objects, as_typed_table
from tests.sources.typed_files import PACK, encode_long, make_block, make_header, write_avro

TEXT = ["null", "string"]
MILLIS = {"type": "long", "logicalType": "timestamp-millis"}


def record(**fields: Any) -> dict[str, Any]:
    return {
        "type": "record",
        "name": "event",
        "namespace": "shop",
        "fields": [{"name": name, "type": kind} for name, kind in fields.items()],
    }


EVENT = record(session=TEXT, customer=TEXT, item="string", time=MILLIS, type=TEXT)


def as_records() -> list[dict[str, Any]]:
    return [row | {"time": datetime.fromisoformat(str(row["time"]))} for row in as_objects()]


@functools.cache
def connect() -> Any:
    return duckdb.connect()


def read(file: Path, names: list[str], **source: Any) -> list[dict[str, str | None]]:
    """The texts of a file's rows, by the requested names."""
    spec = SourceSpec(path=str(file), **source)
    rows = read_rows(find_files(spec).files[0], spec, names, connect())
    assert rows is not None
    places = [list(rows.names).index(name) for name in names]
    return [
        dict(zip(names, [list(row.values())[place] for place in places], strict=True))
        for batch in rows.batches
        for row in batch.table.to_pylist()
    ]


@pytest.mark.parametrize("codec", list(PACK))
def test_avro_of_every_codec(tmp_path: Path, store: Store, codec: str) -> None:
    log = write_avro(tmp_path / "log.avro", EVENT, as_records(), codec)
    assert stored(store, ingest(make_shop(log, events={"time": {"unit": "s"}}), store)) == STORED


def test_avro_as_its_own_library_writes_it_and_compressed_as_a_whole(tmp_path: Path, store: Store) -> None:
    import gzip

    data = BytesIO()
    fastavro.writer(data, fastavro.parse_schema(EVENT), as_records(), codec="deflate")
    (tmp_path / "log.avro.gz").write_bytes(gzip.compress(data.getvalue()))
    assert stored(store, ingest(make_shop(tmp_path / "log.avro.gz"), store)) == STORED


@pytest.mark.parametrize("compression", ["uncompressed", "zlib", "snappy", "zstd"])
def test_orc(tmp_path: Path, store: Store, compression: str) -> None:
    table = as_typed_table()
    orc.write_table(
        table.set_column(4, "type", table["type"].cast(pa.string())), tmp_path / "log.orc", compression=compression
    )
    assert stored(store, ingest(make_shop(tmp_path / "log.orc", events={"time": {"unit": "s"}}), store)) == STORED


def test_orc_is_read_stripe_by_stripe(tmp_path: Path) -> None:
    numbers = list(range(200_000))
    table = pa.table({"item": [f"{number * 7919:x}-{number}" for number in numbers], "n": numbers})
    orc.write_table(table, tmp_path / "log.orc", stripe_size=1 << 16, compression="zlib")
    assert orc.ORCFile(tmp_path / "log.orc").nstripes > 3
    assert [row["n"] for row in read(tmp_path / "log.orc", ["n"])] == [str(number) for number in numbers]


def test_a_folder_of_hive_names_is_read_where_the_source_names_the_format(tmp_path: Path, store: Store) -> None:
    table = as_typed_table()
    (tmp_path / "log").mkdir()
    orc.write_table(table.set_column(4, "type", table["type"].cast(pa.string())), tmp_path / "log" / "000000_0")
    assert stored(store, ingest(make_shop({"path": str(tmp_path / "log"), "format": "orc"}), store)) == STORED


def test_values_of_avro_are_exact(tmp_path: Path) -> None:
    schema = record(
        long="long",
        text="string",
        bytes="bytes",
        float="float",
        double="double",
        flag="boolean",
        millis=MILLIS,
        micros={"type": "long", "logicalType": "timestamp-micros"},
        nanos={"type": "long", "logicalType": "timestamp-nanos"},
        local={"type": "long", "logicalType": "local-timestamp-millis"},
        day={"type": "int", "logicalType": "date"},
        clock={"type": "int", "logicalType": "time-millis"},
        price=["null", {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}],
        fixed={"type": "fixed", "name": "amount", "size": 9, "logicalType": "decimal", "precision": 20, "scale": 4},
        wide={"type": "bytes", "logicalType": "decimal", "precision": 60, "scale": 1},
        uuid={"type": "string", "logicalType": "uuid"},
        raw_uuid={"type": "fixed", "name": "raw", "size": 16, "logicalType": "uuid"},
        kind={"type": "enum", "name": "kind", "symbols": ["view", "cart"]},
        again="kind",
        unknown={"type": "long", "logicalType": "of-tomorrow"},
        either=["null", "string", "long", "double", "boolean"],
    )
    at = datetime(2024, 3, 1, 10, 0, 0, 5000, UTC)
    row = {
        "long": 2**53 + 1,
        "text": "007",
        "bytes": "ünï".encode(),
        "float": 16_777_216.0,
        "double": 0.1,
        "flag": True,
        "millis": at,
        "micros": at + timedelta(microseconds=1),
        "nanos": int(at.timestamp()) * 10**9 + 5_000_001,
        "local": at.replace(tzinfo=None),
        "day": date(2024, 3, 1),
        "clock": 36_000_005,
        "price": Decimal("-12.50"),
        "fixed": Decimal("1234567890123.4567"),
        "wide": Decimal("12345678901234567890123456789012345678901234567890.1"),
        "uuid": "00000000-0000-0000-0000-000000000007",
        "raw_uuid": UUID(int=7).bytes,
        "kind": "cart",
        "again": "view",
        "unknown": 5,
        "either": "x",
    }
    log = write_avro(tmp_path / "log.avro", schema, [row, row | {"price": None, "either": 5, "millis": -1}])
    first, second = read(log, list(row))
    assert first == {
        "long": "9007199254740993",
        "text": "007",
        "bytes": "ünï",
        "float": "1.677721600e+07",
        "double": "0.1",
        "flag": "true",
        "millis": "2024-03-01 10:00:00.005+00",
        "micros": "2024-03-01 10:00:00.005001+00",
        "nanos": "2024-03-01 10:00:00.005000001+00",
        "local": "2024-03-01 10:00:00.005",
        "day": "2024-03-01",
        "clock": "10:00:00.005",
        "price": "-12.50",
        "fixed": "1234567890123.4567",
        "wide": "12345678901234567890123456789012345678901234567890.1",
        "uuid": "00000000-0000-0000-0000-000000000007",
        "raw_uuid": "00000000-0000-0000-0000-000000000007",
        "kind": "cart",
        "again": "view",
        "unknown": "5",
        "either": "x",
    }
    assert (second["price"], second["either"], second["millis"]) == (None, "5", "1969-12-31 23:59:59.999+00")


LINE = {
    "type": "record",
    "name": "line",
    "fields": [{"name": "sku", "type": "string"}, {"name": "price", "type": TEXT}],
}
NESTED = record(
    user={"type": "record", "name": "user", "fields": [{"name": "id", "type": TEXT}]},
    lines={"type": "array", "items": LINE},
    labels={"type": "map", "values": ["null", "string"]},
    payload=["null", "line", "user", {"type": "array", "items": "string"}],
)


def test_nested_values_of_avro_by_path(tmp_path: Path) -> None:
    rows = [
        {
            "user": {"id": "u1"},
            "lines": [{"sku": "a", "price": "1"}, {"sku": "b", "price": None}],
            "labels": {"color": "red"},
            "payload": {"sku": "p", "price": None},
        },
        {"user": {"id": None}, "lines": [], "labels": {}, "payload": {"id": "u9"}},
        {"user": {"id": "u3"}, "lines": [{"sku": "c", "price": "2"}], "labels": {"color": None}, "payload": None},
    ]
    log = write_avro(tmp_path / "log.avro", NESTED, rows)
    names = ["user.id", "lines[].sku", "lines[].price", "labels.color", "payload.sku | payload.id"]
    assert [tuple(row.values()) for row in read(log, names)] == [
        ("u1", "a", "1", "red", "p"),
        ("u1", "b", None, "red", "p"),
        (None, None, None, None, "u9"),
        ("u3", "c", "2", None, None),
    ]


@pytest.mark.parametrize("suffix", ["avro", "orc"])
def test_a_nested_column_is_refused_with_its_paths(tmp_path: Path, store: Store, suffix: str) -> None:
    if suffix == "avro":
        schema = record(item={"type": "array", "items": LINE}, time=MILLIS)
        write_avro(tmp_path / "log.avro", schema, [{"item": [], "time": datetime.now(UTC)}])
    else:
        orc.write_table(
            pa.table({"item": [[{"sku": "a", "price": "b"}]], "time": ["2024-03-01"]}), tmp_path / "log.orc"
        )
    with refused(DataError, "events.column-nested", column="item", paths=["item[].sku", "item[].price"]):
        ingest(make_shop(tmp_path / f"log.{suffix}"), store)


def test_files_of_one_source_may_differ_in_types_and_may_not_lack_columns(tmp_path: Path, store: Store) -> None:
    folder = tmp_path / "log"
    numbers = [row | {"item": int(str(row["item"])[1:]), "time": row["time"]} for row in as_records()]
    write_avro(folder / "a.avro", EVENT, as_records()[:2])
    write_avro(
        folder / "b.avro", record(time=MILLIS, item="long", type="string", customer=TEXT, session=TEXT), numbers[2:]
    )
    address = ingest(make_shop(folder), store)
    assert [item for (item,) in stored(store, address, "item")] == ["i1", "i2", "1", "3"]
    write_avro(folder / "c.avro", record(time=MILLIS, item="long", type="string", user=TEXT), numbers)
    with refused(DataError, "events.column-missing", path=str(folder / "c.avro")) as stopped:
        ingest(make_shop(folder), store)
    assert {entry["column"] for entry in stopped.value.fields["missing"]} == {"customer", "session"}


@pytest.mark.parametrize("suffix", ["avro", "orc", "parquet"])
def test_wrong_types_are_bad_rows_of_the_same_reasons(tmp_path: Path, store: Store, suffix: str) -> None:
    log = tmp_path / f"log.{suffix}"
    columns = {"item": [1.5, 17_000.0, 1.0, None], "session": ["s"] * 4, "time": [1_709_287_200, 1, 1_709_287_200, 5]}
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    if suffix == "avro":
        write_avro(log, record(item=["null", "double"], session="string", time="long"), rows)
    elif suffix == "orc":
        orc.write_table(pa.table(columns), log)
    else:
        pq.write_table(pa.table(columns), log)
    events = {"columns": {"session": "session"}, "time": {"unit": "s"}, "max_bad_share": 1.0}
    snapshot = open_snapshot(store, ingest(make_shop(log, events=events), store))
    bad = [json.loads(line) for line in snapshot.quarantine.read_text().splitlines()]
    assert [row["line"] for row in bad] == [2, 3, 4]
    assert [row["reason"].split(":")[0] for row in bad] == [
        "item is a float such as 123.0",
        "item is a float such as 123.0",
        "item is empty",
    ]


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
@pytest.mark.parametrize("suffix", ["avro", "parquet"])
def test_a_time_that_is_far_off_is_a_bad_row(tmp_path: Path, store: Store, suffix: str, unit: str) -> None:
    log, times = tmp_path / f"log.{suffix}", [1_709_287_200 * {"ms": 10**3, "us": 10**6, "ns": 10**9}[unit]]
    times += [2**63 - 1, -(2**63) + 5]
    rows = [{"item": f"i{row}", "session": "s", "time": time} for row, time in enumerate(times)]
    if suffix == "avro":
        logical = {"ms": "timestamp-millis", "us": "timestamp-micros", "ns": "local-timestamp-nanos"}[unit]
        write_avro(log, record(item="string", session="string", time={"type": "long", "logicalType": logical}), rows)
    else:
        schema = pa.schema([("item", "string"), ("session", "string"), ("time", pa.timestamp(unit))])
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), log, coerce_timestamps=None, version="2.6")
    events = {"columns": {"session": "session"}, "max_bad_share": 1.0}
    address = ingest(make_shop(log, events=events), store)
    assert stored(store, address, "item, time") == [("i0", 1_709_287_200_000)]


def test_a_time_that_is_far_off_beside_a_list(tmp_path: Path) -> None:
    schema = record(time=MILLIS, lines={"type": "array", "items": LINE})
    rows = [{"time": time, "lines": [{"sku": "a", "price": None}]} for time in (5, 2**62)]
    log = write_avro(tmp_path / "log.avro", schema, rows)
    assert [row["time"] for row in read(log, ["time", "lines[].sku"])] == ["1970-01-01 00:00:00.005+00", None]


@pytest.mark.parametrize("suffix", ["avro", "orc", "parquet"])
def test_bytes_that_are_no_text_are_refused_with_the_column(tmp_path: Path, store: Store, suffix: str) -> None:
    log, row = tmp_path / f"log.{suffix}", {"item": b"\xff\x00", "session": "s", "time": 5}
    if suffix == "avro":
        write_avro(log, record(item="bytes", session="string", time="long"), [row])
    else:
        (orc if suffix == "orc" else pq).write_table(pa.Table.from_pylist([row]), log)
    events = {"columns": {"session": "session"}, "time": {"unit": "s"}}
    with refused(DataError, "events.bytes-not-text", path=str(log), column="item", example="ff00"):
        ingest(make_shop(log, events=events), store)


def test_types_that_the_engine_lacks_are_exact_too(tmp_path: Path) -> None:
    wide = Decimal("123456789012345678901234567890123456789012345.5")
    columns = {
        "wide": pa.array([wide, None], pa.decimal256(60, 1)),
        "half": pa.array([1.5, 2048.0], pa.float16()),
        "unsigned": pa.array([2**64 - 1, 0], pa.uint64()),
        "none": pa.nulls(2),
        "id": pa.ExtensionArray.from_storage(pa.uuid(), pa.array([bytes(15) + b"\7"] * 2, pa.binary(16))),
        "fixed": pa.array([b"ab", b"\xc3\xa4"], pa.binary(2)),
    }
    pq.write_table(pa.table(columns), tmp_path / "log.parquet")
    uuid = "00000000-0000-0000-0000-000000000007"
    assert [tuple(row.values()) for row in read(tmp_path / "log.parquet", list(columns))] == [
        (str(wide), "1.5", "18446744073709551615", None, uuid, "ab"),
        (None, "2.048000000e+03", "0", None, uuid, "ä"),
    ]


@pytest.mark.parametrize("codec", ["null", "deflate", "snappy", "zstandard"])
def test_an_avro_file_that_is_cut_short_at_any_place(tmp_path: Path, codec: str) -> None:
    log = write_avro(tmp_path / "log.avro", EVENT, as_records(), codec)
    whole = log.read_bytes()
    ends = {len(whole), len(make_header(EVENT, codec))}
    ends.add(len(write_avro(tmp_path / "half.avro", EVENT, as_records()[:2], codec).read_bytes()))
    for end in range(1, len(whole)):
        log.write_bytes(whole[:end])
        if end not in ends:  # nothing says how many blocks there are
            with refused(DataError, "events.file-cut-short" if end > 3 else "events.file-damaged", path=str(log)):
                read(log, ["item"])


@pytest.mark.parametrize("suffix", ["avro", "orc"])
def test_damaged_bytes_never_end_the_process(tmp_path: Path, suffix: str) -> None:
    log = tmp_path / f"log.{suffix}"
    if suffix == "avro":
        write_avro(
            log, NESTED, [{"user": {"id": "u"}, "lines": [], "labels": {"a": "b"}, "payload": None}] * 5, "deflate"
        )
        names = ["user.id", "lines[].sku", "labels.a"]
    else:
        orc.write_table(pa.table({"item": [f"i{at}" for at in range(1000)]}), log, compression="zlib")
        names = ["item"]
    whole, chance, codes = log.read_bytes(), random.Random(5), set()
    for _ in range(300):
        place = chance.randrange(len(whole))
        log.write_bytes(whole[:place] + bytes([chance.randrange(256)]) + whole[place + 1 :])
        try:
            read(log, names)
        except DataError as error:
            codes.add(error.code)
        except ValueError:  # a name changed: the column is not there
            continue
    assert "events.file-damaged" in codes
    assert codes <= {
        "events.file-damaged",
        "events.file-cut-short",
        "events.avro-codec",
        "events.avro-schema",
        "events.column-nested",
        "events.values-unreadable",
    }


RECURSIVE = record(item="string", next=["null", "event"])


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (make_header(RECURSIVE), "events.avro-schema"),
        (make_header("string"), "events.avro-schema"),
        (make_header({"type": "array", "items": "string"}), "events.avro-schema"),
        (make_header(record(item="strange")), "events.avro-schema"),
        (make_header(record(item={"type": "array", "items": "null"})), "events.avro-schema"),
        (make_header(record(item="null")), "events.avro-schema"),
        (make_header(record()), "events.avro-schema"),
        (make_header(b"[" * 100_000), "events.avro-schema"),
        (make_header(b'{"type": "rec'), "events.avro-schema"),
        (make_header(record(item="string"), "lz4"), "events.avro-codec"),
        (b"Obj\x01" + encode_long(2**62), "events.file-cut-short"),
        (make_header(record(item="string")) + encode_long(1) + encode_long(2**40), "events.file-damaged"),
        (make_header(record(item="string")) + make_block(b"\x02a", 2**50), "events.file-damaged"),
        (make_header(record(item="string")) + make_block(b"\x02ab", 1), "events.file-damaged"),
        (make_header(record(item="string")) + make_block(b"\x02a", 1)[:-1] + b"\x00", "events.file-damaged"),
        (make_header(record(item="string"), "deflate") + make_block(b"\x02a", 1), "events.file-damaged"),
        (make_header(record(item="int")) + make_block(encode_long(2**40), 1), "events.file-damaged"),
    ],
)
def test_hostile_avro(tmp_path: Path, content: bytes, code: str) -> None:
    (tmp_path / "log.avro").write_bytes(content)
    with refused(DataError, code, path=str(tmp_path / "log.avro")):
        read(tmp_path / "log.avro", ["item"])


def test_a_block_that_unpacks_beyond_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("endcap.sources.formats.read_avro.LARGEST", 1 << 16)
    row = {"item": "a" * (1 << 17)}
    for codec in PACK:
        log = write_avro(tmp_path / f"{codec}.avro", record(item="string"), [row], codec)
        with refused(DataError, "events.file-damaged", path=str(log)):
            read(log, ["item"])


@pytest.mark.parametrize("suffix", ["avro", "orc"])
@pytest.mark.parametrize("cut", [0, 0.5, 1])
def test_empty_files_and_files_that_are_something_else(tmp_path: Path, store: Store, suffix: str, cut: float) -> None:
    log, others = tmp_path / f"log.{suffix}", write_csv(tmp_path / "log.csv", ROWS)
    if cut == 0:
        log.touch()
    elif cut == 1 and suffix == "avro":
        write_avro(log, EVENT, [])
    elif cut == 1:
        orc.write_table(
            pa.table({name: pa.array([], pa.string()) for name in ("session", "customer", "item", "time", "type")}), log
        )
    else:
        log.write_bytes(others.read_bytes())
        with refused(DataError, "events.file-damaged", path=str(log)):
            ingest(make_shop(log), store)
        return
    with refused(DataError, "events.none-left", rows=0):
        ingest(make_shop(log), store)
    address = ingest(make_shop(others, log), store)
    assert facts(store, address)["empty_files"] == [str(log)]
