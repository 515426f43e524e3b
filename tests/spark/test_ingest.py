"""Ingest on Spark: what this machine makes of a log, executors make too. They are processes of their own."""

from __future__ import annotations

import gzip
import json
import os
import signal
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from endcap.description import DescriptionWork, describe
from endcap.errors import DataError, IntegrityError, NotFoundError, UserError
from endcap.events import ingest, spark_ingest
from endcap.events.distinct_days import DistinctWriter
from endcap.events.forget_list import add_forgotten
from endcap.events.parsed_units import Unit
from endcap.events.snapshot_days import find_units
from endcap.events.unit_reading import UnitReader
from endcap.features import build
from endcap.features.content_digest import digest_content
from endcap.pseudonyms import KEY
from endcap.sources import local_files
from endcap.sources.files import SourceFile, find_files, list_files
from endcap.sources.local_files import LocalFile
from endcap.sources.recognition import Recognition
from endcap.sources.source_index import FileContent
from endcap.spark.executor_store import ExecutorStore
from endcap.spark.server import TOKEN, SparkServer, start_server
from endcap.spec.shop import Shop
from endcap.store import Store, open_store
from endcap.store.bucket import Bucket
from endcap.store.read_only import WriteAttempt, forbid_writes
from tests.events.shops import HEADER, facts, make_shop, stored, write_csv
from tests.refusals import refused
from tests.spark.clusters import connect, list_java, needs_java, spark, spark_home
from tests.store.servers import S3Place, Server, moto

MANY_RULES = {
    "columns": {"session": "session", "customer": "customer", "type": "type"},
    "time": {"zone": "Europe/Zurich"},
    "types": ["view", "buy"],
    "drop_duplicates": True,
    "max_bad_share": 0.4,
}


@pytest.fixture(scope="module")
def s3() -> Iterator[Server]:
    with moto() as running:
        yield running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, s3: Server) -> Iterator[SparkServer]:
    """A Spark Connect server with two executors, which have a cache of their own and the settings of an S3 server."""
    folder = tmp_path_factory.mktemp("spark")
    with pytest.MonkeyPatch.context() as patch, spark_home(folder / "home"):
        given = {"ENDCAP_CACHE": str(folder / "cache"), KEY: "the key of the executors"}
        for name, value in {**s3.environment(), **given}.items():
            patch.setenv(name, value)
        with start_server(spark(master="local-cluster[2,1,600]"), folder) as started:
            patch.undo()
            patch.setenv(TOKEN, started.token)
            yield started


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process must not read a row of events: it hashes, parses and merges nothing itself."""
    for kind, name in ((UnitReader, "_prepare"), (SourceFile, "_hash"), (DistinctWriter, "write")):
        monkeypatch.delattr(kind, name)


def on_spark(shop: Shop, server: SparkServer) -> Shop:
    where = type(shop.spark).model_validate(connect(server))
    return shop.model_copy(update={"spark": where, "events": shop.events.model_copy(update={"engine": "spark"})})


def write_hostile_log(folder: Path) -> Path:
    """Files of several formats and folders, with rows that are bad in many ways, twice there, or of the future."""
    rows = [f"s{n % 9},c{n % 4},i{n % 7},2024-03-{n % 5 + 1:02}T10:{n % 60:02}:00,view" for n in range(120)]
    write_csv(
        folder / "a" / "first.csv", [*rows, "s,c,,never,view", 's,c,"open,2024', "s1,c1,ß\x00,2024-03-31T02:30:00,buy"]
    )
    write_csv(folder / "b" / "copy.csv", rows)
    write_csv(folder / "c" / "empty.csv", [])
    (folder / "c" / "nothing.csv").write_bytes(b"")
    write_csv(folder / "d" / "future.csv", ["s1,c1,i1,2999-01-01T00:00:00,view", "s1,c1,i1,2024-03-02T00:00:00,view"])
    write_csv(folder / "e" / "others.csv", ["s1,c1,,never,search", "s1,c1,i2,2024-10-27T02:30:00,buy", *rows[:30]])
    plain = "\n".join([HEADER, "s5,c5,日本,2024-03-01T23:59:59,view", "s5,c5,é,2024-03-01T24:00:01,view"]).encode()
    (folder / "f").mkdir()
    (folder / "f" / "packed.csv.gz").write_bytes(gzip.compress(plain + b"\ns5,c5,\xff\xfe,2024-03-01T10:00:00,view\n"))
    columns = dict(zip(HEADER.split(","), zip(*(row.split(",") for row in rows[:50]), strict=True), strict=True))
    pq.write_table(pa.table({name: list(values) for name, values in columns.items()}), folder / "f" / "typed.parquet")
    lines = [dict(zip(HEADER.split(","), row.split(","), strict=True)) for row in rows[50:60]]
    text = "\n".join([*map(json.dumps, lines), '{"session": "s", "item": '])
    (folder / "f" / "lines.jsonl").write_text(text)
    return folder


def outcome(store: Store, address: str) -> tuple[str, dict[str, Any], list[Any], str]:
    """What a snapshot is: its key, facts, events in their order, and bad rows."""
    bad = (store.fetch(address) / "quarantine.jsonl").read_text()
    return address.rpartition("/")[2], facts(store, address), stored(store, address), bad


@needs_java
@pytest.mark.slow
@pytest.mark.parametrize("by", ["given", "gap"])
def test_a_hostile_log_is_the_same_snapshot(
    by: str,
    server: SparkServer,
    store: Store,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(KEY, "the key of the executors")
    log = write_hostile_log(tmp_path / "log")
    sources = [str(log), {"path": str(log / "a"), "part": "test", "where": {"item": {"prefix": "i"}}}]
    shop = make_shop(*sources, events={**MANY_RULES, "pseudonyms": by == "gap"}, sessions={"by": by})
    here = outcome(store, ingest(shop, store))
    request.getfixturevalue("idle")
    other = open_store(str(tmp_path / "other"))
    lines: list[str] = []
    assert outcome(other, ingest(on_spark(shop, server), other, progress=lines.append)) == here
    assert min(sum(here[1][kind]["events"].values()) for kind in ("bad", "left_out")) > 0
    assert here[1]["duplicates"] > 0


@needs_java
@pytest.mark.slow
def test_executors_with_another_key_of_pseudonyms_are_refused(
    server: SparkServer, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY, "the key of the step")
    log = write_csv(tmp_path / "log.csv", ["s,c,i,2024-03-01T10:00:00Z,view"])
    shop = make_shop(str(log), events={"columns": MANY_RULES["columns"], "pseudonyms": True})
    with refused(UserError, "events.executors-key-differs"):
        ingest(on_spark(shop, server), store)


@needs_java
@pytest.mark.slow
def test_executors_leave_out_who_is_forgotten(server: SparkServer, store: Store, tmp_path: Path) -> None:
    for name in ("anna", "bert"):
        write_csv(tmp_path / "log" / name / "x.csv", [f"s-{name},{name},i,2024-03-01T10:00:00Z,view"])
    shop, other = make_shop(str(tmp_path / "log")), open_store(str(tmp_path / "other"))
    add_forgotten(store, "test", ["anna"])
    other.write_document("forgotten/test", store.read_document("forgotten/test") or {})
    made = [(place, ingest(its, place)) for its, place in ((shop, store), (on_spark(shop, server), other))]
    (here, there) = (facts(place, address) for place, address in made)
    assert [row[1] for row in stored(*made[1])] == ["bert"]
    assert there["left_out"] == here["left_out"] == {"events": {"forgotten": 1}}
    assert find_units(there) == find_units(here)
    assert other.read_document("forgotten/test") == store.read_document("forgotten/test")
    assert ingest(on_spark(shop, server), other) == made[1][1]


@needs_java
@pytest.mark.slow
def test_the_first_bad_file_in_order_is_reported(server: SparkServer, store: Store, tmp_path: Path) -> None:
    for number in range(4):
        write_csv(tmp_path / "log" / f"{number}" / "x.csv", ["s,c,i,2024-03-01T10:00:00Z,view"])
    for number in (1, 3):
        (tmp_path / "log" / f"{number}" / "x.csv").write_text("session,customer,time,type\ns,c,2024-03-01,view\n")
    shop = make_shop(str(tmp_path / "log"))
    raised = []
    for its, place in ((shop, store), (on_spark(shop, server), open_store(str(tmp_path / "other")))):
        with pytest.raises(DataError) as stopped:
            ingest(its, place)
        raised.append(stopped.value.to_json())
    assert raised[0] == raised[1]
    assert str(tmp_path / "log" / "1" / "x.csv") in raised[0]["message"]


@needs_java
@pytest.mark.slow
def test_an_executor_that_is_killed_costs_what_it_had_not_published(
    server: SparkServer, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(12):
        rows = [f"s{n},c,i{n % 9},2024-03-{number + 1:02}T10:00:00Z,view" for n in range(50)]
        write_csv(tmp_path / "log" / f"{number:02}" / "x.csv", rows)
    shop = make_shop(str(tmp_path / "log"))
    killed: list[int] = []
    add = spark_ingest._Count.add

    def kill(self: Any, counts: dict[str, Any]) -> None:
        if not killed:
            killed.append(next(pid for pid in list_java(server.log.parent) if is_executor(pid)))
            os.kill(killed[0], signal.SIGKILL)
        add(self, counts)

    here = outcome(store, ingest(shop, store))
    monkeypatch.setattr(spark_ingest._Count, "add", kill)
    other = open_store(str(tmp_path / "other"))
    assert outcome(other, ingest(on_spark(shop, server), other)) == here
    assert killed
    # The next day's file alone is sent to executors.
    write_csv(tmp_path / "log" / "99" / "x.csv", ["s,c,i,2024-04-01T10:00:00Z,view"])
    after = facts(other, ingest(on_spark(shop, server), other))["reuse"]
    assert (after["read"], after["kept"]) == (1, 12)


@needs_java
@pytest.mark.slow
@pytest.mark.usefixtures("idle")
def test_in_a_bucket_executors_read_the_log_and_write_the_store(
    server: SparkServer, s3: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = S3Place(s3, tmp_path, monkeypatch)
    for number in range(3):
        rows = [f"s{n},c,i{n % 9},2024-03-{number + 1:02}T10:00:00Z,view" for n in range(9)]
        place.put(f"log/{number}/x.csv", "\n".join([HEADER, *rows, "s,c,i,never,view"]).encode())
    rules = {"drop_duplicates": True, "max_bad_share": 0.2}
    shop = make_shop(f"s3://{place.bucket}/log", events=rules)
    bucket = place.elsewhere()
    cache = Path(os.environ["ENDCAP_CACHE"])
    its = bucket.manifest(ingest(on_spark(shop, server), bucket))["facts"]
    assert (its["events"], sum(its["bad"]["events"].values())) == (27, 3)
    assert list(cache.rglob("part-*.parquet")) == []
    assert not (cache / "sources").exists()


@needs_java
@pytest.mark.slow
def test_in_a_bucket_no_table_of_a_dataset_passes_through_the_step(
    server: SparkServer, s3: Server, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = S3Place(s3, tmp_path, monkeypatch)
    for day in (1, 2, 3):
        rows = [f"s{n % 9},c{n % 4},i{n % 7},2024-03-{day:02}T10:{n:02}:00Z,view" for n in range(60)]
        write_csv(tmp_path / "log" / f"{day}" / "x.csv", rows)
    items = write_csv(tmp_path / "items.csv", [f"i{n},colour {n % 2},{n / 4}" for n in range(5)], "item,colour,price")
    shop = make_shop(
        *(str(tmp_path / "log" / f"{day}") for day in (1, 2)),
        {"path": str(tmp_path / "log" / "3"), "part": "test"},
        items={"sources": [{"path": str(items)}], "categorical": ["colour"], "numeric": ["price"]},
        filters={"min_item_events": 1, "min_session_events": 1},
    )
    here = build(shop, made := ingest(shop, store), store)
    bucket = place.elsewhere()
    snapshot = ingest(shop, bucket)
    sent: list[str] = []
    upload = Bucket.upload

    def note(self: Bucket, name: str, handle: Any, sha256: str) -> None:
        sent.append(name.rpartition("/")[2])
        upload(self, name, handle, sha256)

    monkeypatch.setattr(Bucket, "upload", note)
    with monkeypatch.context() as patch:
        patch.delattr(Bucket, "download")
        work = DescriptionWork(ExecutorStore(bucket.root))
        there = build(features_on_spark(shop, server), snapshot, bucket, then=work)
        described = describe(snapshot, there, bucket)
    assert set(sent) == {"token", "features.json"}  # what `check_executors` asks for, and what has no rows
    ours, theirs = store.manifest(here), bucket.manifest(there)
    assert here.rpartition("/")[2] == there.rpartition("/")[2]
    assert sorted(ours["files"]) == sorted(theirs["files"])
    for name in ("snapshot", "reuse"):
        ours["facts"].pop(name, None), theirs["facts"].pop(name, None)
    assert ours["facts"] == theirs["facts"]
    assert digest_content(bucket.fetch(there, verify=True)) == theirs["facts"]["content"]
    expected = describe(made, here, store)
    assert {name: expected[name] for name in ("data", "sessions", "warnings")} == {
        name: described[name] for name in ("data", "sessions", "warnings")
    }
    assert place.left() == set()


@needs_java
@pytest.mark.slow
def test_what_an_executor_finds_wrong_in_a_bucket_has_its_code(
    server: SparkServer, s3: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = S3Place(s3, tmp_path, monkeypatch)
    rows = [f"s{n % 3},c,i{n % 7},2024-03-01T10:{n:02}:00Z,view" for n in range(20)]
    shop = make_shop(str(write_csv(tmp_path / "log" / "x.csv", rows)))
    bucket = place.elsewhere()
    (unit,) = find_units(bucket.manifest(snapshot := ingest(shop, bucket))["facts"])
    for name in bucket.manifest(unit)["files"]:
        place.damage(f"{bucket.root}/{unit}", name, b"PAR1")
    with refused(IntegrityError, "store.damaged", fault="missing"):
        build(features_on_spark(shop, server), snapshot, bucket)
    assert place.left() == set()
    place.remove(f"{unit}/manifest.json")
    with refused(NotFoundError, "store.not-found"):
        build(features_on_spark(shop, server), snapshot, bucket)


def features_on_spark(shop: Shop, server: SparkServer) -> Shop:
    """Tables of several parts, small as they are."""
    on = on_spark(shop, server)
    conf = {**on.spark.conf, "spark.sql.adaptive.coalescePartitions.enabled": False}
    features = shop.features.model_copy(update={"engine": "spark"})
    return shop.model_copy(update={"spark": on.spark.model_copy(update={"conf": conf}), "features": features})


def is_executor(pid: int) -> bool:
    return b"CoarseGrainedExecutorBackend" in Path(f"/proc/{pid}/cmdline").read_bytes()


def make_unit(shop: Shop) -> Unit:
    source = shop.events.sources[0]
    files = find_files(source).files
    return Unit(source, 0, files, [file.digest() for file in files], 0)


def test_what_an_executor_refuses(store: Store, tmp_path: Path) -> None:
    log = write_csv(tmp_path / "log" / "x.csv", ["s,c,i,2024-03-01T10:00:00Z,view"])
    shop = make_shop(str(log))
    unit = make_unit(shop)
    with refused(UserError, "events.executors-differ"):
        spark_ingest.UnitWork(shop, ExecutorStore(store.root), 0)((unit, "another key"))
    log.write_text(log.read_text().replace("i,", "j,"))
    (file,) = spark_ingest._see_unit(unit).files
    with refused(DataError, "events.file-changed", path=str(log)):
        file.check_unchanged()
    log.unlink()
    with refused(UserError, "events.executors-see-no-file", path=str(log)):
        spark_ingest._see_unit(unit)


def test_an_executor_knows_of_files_what_this_machine_would(tmp_path: Path) -> None:
    log = write_hostile_log(tmp_path / "log")
    with tarfile.open(log / "f" / "packed.tar.gz", "w:gz") as archive:
        archive.add(log / "b" / "copy.csv", "copy.csv")
    with zipfile.ZipFile(log / "f" / "zipped.zip", "w") as zipped:
        zipped.write(log / "b" / "copy.csv", "copy.csv")
    source = make_shop(str(log)).events.sources[0]
    listing = list_files(source)
    files = [(file, listing.kinds[file.name]) for file in listing.files]
    described = spark_ingest.describe_files(files)["files"]
    here = {file.name: replace(file.content, sha256=file.digest()) for file in find_files(source).files}
    assert {file.name: FileContent(**content) for (file, _), (content, _) in zip(files, described, strict=True)} == here
    assert [name for name, content in here.items() if content.member] != []


def test_a_run_without_changes_starts_no_spark(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_files, "SETTLED", -60)
    log = write_csv(tmp_path / "log" / "x.csv", ["s,c,i,2024-03-01T10:00:00Z,view"])
    shop = make_shop(str(log))
    address = ingest(shop, store)
    nowhere = shop.model_copy(update={"events": shop.events.model_copy(update={"engine": "spark"})})
    monkeypatch.setattr(spark_ingest, "open_session", None)
    assert ingest(nowhere, store) == address
    # Who only looks for a snapshot starts none either.
    write_csv(tmp_path / "log" / "x.csv", ["s,c,i,2024-03-02T10:00:00Z,view"])
    with forbid_writes(), pytest.raises(WriteAttempt):
        ingest(nowhere, open_store(store.root))


def test_files_are_hashed_in_groups_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spark_ingest, "HASHED_FILES", 2)
    monkeypatch.setattr(spark_ingest, "HASHED_BYTES", 100)
    sizes = [1, 1, 1, 200, 1, 100, 1]
    files = [(LocalFile(tmp_path, size, 0, 0, 0, 0), Recognition("csv", None)) for size in sizes]
    groups = spark_ingest.group_files(files)
    assert [[file.bytes for file, _ in group] for group in groups] == [[1, 1], [1, 200], [1, 100], [1]]
