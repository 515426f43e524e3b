"""Files that did not change are neither fetched nor hashed again, and no wrong digest is trusted."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from endcap.errors import DataError, StorageError
from endcap.events import ingest
from endcap.events.data_version import read_data_version
from endcap.sources import files, local_files, source_index
from endcap.sources.local_files import LocalFile
from endcap.sources.s3_sources import RemoteObject
from endcap.sources.source_index import FileContent, open_source_index
from endcap.store import Store, fingerprint
from endcap.store.read_only import ReadOnlyStore, forbid_writes
from tests.events.shops import ROWS, STORED, make_shop, stored, write_csv
from tests.refusals import refused
from tests.sources.test_archives import zipped
from tests.sources.test_s3_sources import csv
from tests.store.proxy import Fault, Proxy
from tests.store.servers import S3Place

NAME = "source-indexes/test"
EARLIER = "s1,c1,i1,2024-02-01T10:00:00Z,view"


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """A local file counts as settled as soon as it is closed."""
    monkeypatch.setattr(local_files, "SETTLED", 0)


def read_index(store: Store) -> dict[str, dict[str, str]]:
    document = store.read_document(NAME)
    return document["files"] if document else {}


def list_fetched(way: Proxy) -> list[str]:
    """The objects whose bytes were asked for; lists and heads are none."""
    requests = [request.split()[:2] for request in way.seen]
    return sorted(path.split("/")[-1] for method, path in requests if method == "GET" and "list-type" not in path)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of local files that are hashed."""
    names: list[str] = []

    def open_noted(path: Path) -> object:
        names.append(path.name)
        return real(path)

    real = files.open_regular
    monkeypatch.setattr(files, "open_regular", open_noted)
    return names


def test_another_machine_fetches_new_objects_alone(
    place: S3Place, way: Proxy, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.put("log/a.csv", csv(ROWS[:2]))
    place.put("log/b.zip", zipped({"b.csv": csv(ROWS[2:])}))
    place.put("log/c.zip", zipped({"readme.md": b"x"}))
    place.put("log/readme.md", b"x")
    shop = make_shop(f"s3://{place.bucket}/log")
    first = ingest(shop, store)
    for machine in ("same", "second"):
        monkeypatch.setenv("ENDCAP_CACHE", str(tmp_path / machine))
        way.seen.clear()
        assert ingest(shop, store) == first
        assert list_fetched(way) == []
        assert len(way.seen) <= 2
    # A unit that must be parsed has its files fetched, those that are known among them.
    place.put("log/d/d.csv", csv([EARLIER]))
    way.seen.clear()
    assert len(stored(store, ingest(shop, store))) == 5
    assert list_fetched(way) == ["d.csv"]
    lines: list[str] = []
    way.seen.clear()
    ingest(make_shop(f"s3://{place.bucket}/log", events={"types": ["view"]}), store, progress=lines.append)
    assert list_fetched(way) == ["a.csv", "b.zip"]
    assert [line for line in lines if line.startswith("fetching 2 objects")]


def test_an_object_that_is_replaced_before_it_is_fetched_is_refused(
    place: S3Place, way: Proxy, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.put("log.csv", csv(ROWS))
    address = f"s3://{place.bucket}/log.csv"
    ingest(make_shop(address), store)
    monkeypatch.setenv("ENDCAP_CACHE", str(tmp_path / "second"))
    other = make_shop(address, events={"types": ["view"]})
    way.faults += [Fault("GET .*log.csv", "call", call=lambda: place.put("log.csv", csv(ROWS[1:])))]
    with refused(DataError, "events.file-changed", path=address):
        ingest(other, store)
    assert len(stored(store, ingest(other, store))) == 2


def test_bytes_that_do_not_belong_to_a_new_etag_are_not_noted(
    place: S3Place, way: Proxy, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.put("log.csv", csv(ROWS))
    shop = make_shop(f"s3://{place.bucket}/log.csv")
    older = csv([*ROWS[:3], ROWS[3].replace("i3", "i9")])
    way.rewrite = lambda request, body: older if "GET" in request and "log.csv" in request else body
    ingest(shop, store)
    assert read_index(store) == {}
    way.rewrite = lambda request, body: body
    monkeypatch.setenv("ENDCAP_CACHE", str(tmp_path / "second"))
    assert stored(store, ingest(shop, store)) == STORED
    assert len(read_index(store)) == 1


@pytest.mark.parametrize(("etag", "age", "is_settled"), [("ab-2", 0, False), ("ab-2", 60, True), ("", 60, False)])
def test_an_etag_that_is_no_checksum_is_trusted_for_an_old_object(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, etag: str, age: int, is_settled: bool
) -> None:
    monkeypatch.setenv("ENDCAP_CACHE", str(tmp_path))
    changed = datetime.now(UTC) - timedelta(minutes=age)
    entry = RemoteObject("s3://logs/log.csv", "http://localhost", 4, etag, changed)
    copy = tmp_path / "sources" / fingerprint(entry.endpoint, entry.name, entry.etag)
    copy.parent.mkdir()
    copy.write_bytes(b"rows")
    assert entry.is_settled() == is_settled


@pytest.mark.usefixtures("settled")
def test_local_files_are_hashed_once(tmp_path: Path, store: Store, opened: list[str]) -> None:
    log = tmp_path / "log"
    write_csv(log / "a.csv", ROWS[:2])
    write_csv(log / "b.csv", ROWS[2:])
    shop = make_shop(str(log))
    first = ingest(shop, store)
    assert opened == ["a.csv", "b.csv"]
    opened.clear()
    assert ingest(shop, store) == first
    assert opened == []
    write_csv(log / "b.csv", [*ROWS[2:], EARLIER])
    assert len(stored(store, ingest(shop, store))) == 5
    assert opened[0] == "b.csv"


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("way_of_writing", ["in place", "replaced"])
def test_a_file_of_the_same_size_and_time_is_noticed(tmp_path: Path, store: Store, way_of_writing: str) -> None:
    file = write_csv(tmp_path / "log.csv", ROWS)
    shop = make_shop(str(file))
    ingest(shop, store)
    times = (file.stat().st_atime_ns, file.stat().st_mtime_ns)
    content = file.read_text().replace("i3", "i9")
    target = file if way_of_writing == "in place" else tmp_path / "draft"
    target.write_text(content)
    os.utime(target, ns=times)
    target.replace(file)
    assert [row[2] for row in stored(store, ingest(shop, store))] == ["i1", "i2", "i1", "i9"]


def test_a_file_that_was_written_just_now_is_not_noted(tmp_path: Path, store: Store) -> None:
    ingest(make_shop(write_csv(tmp_path / "log.csv", ROWS)), store)
    assert store.read_document(NAME) is None


@pytest.mark.usefixtures("settled")
def test_a_wrong_digest_is_noticed_when_the_file_is_read_and_forgotten(tmp_path: Path, store: Store) -> None:
    file = write_csv(tmp_path / "log.csv", ROWS)
    shop = make_shop(str(file))
    right = ingest(shop, store)

    def spoil(document: dict[str, object] | None) -> dict[str, object]:
        known = {name: {**entry, "sha256": "0" * 64} for name, entry in read_index(store).items()}
        return {**(document or {}), "files": known}

    store.update_document(NAME, spoil)
    with refused(DataError, "events.file-changed", path=str(file)):
        ingest(shop, store)
    assert ingest(shop, store) == right


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize(
    "content", ["no json", "[]", '{"files": {}}', '{"code": "x", "files": {"a": 1}}', '{"format": 99}']
)
def test_a_document_that_cannot_be_read_costs_time_alone(tmp_path: Path, store: Store, content: str) -> None:
    shop = make_shop(write_csv(tmp_path / "log.csv", ROWS))
    first = ingest(shop, store)
    document = tmp_path / "store" / f"{NAME}.json"
    document.write_text(content)
    assert ingest(shop, store) == first
    is_newer = "format" in content
    assert (document.read_text() == content) == is_newer
    assert is_newer or len(read_index(store)) == 1


@pytest.mark.usefixtures("settled")
def test_kinds_that_other_code_told_are_not_used(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch, opened: list[str]
) -> None:
    shop = make_shop(write_csv(tmp_path / "log.csv", ROWS))
    ingest(shop, store)
    opened.clear()
    monkeypatch.setattr(source_index, "DETECTION", source_index.DETECTION[:1])
    ingest(shop, store)
    assert opened == ["log.csv"]


@pytest.mark.usefixtures("settled")
def test_a_store_that_takes_no_index_is_used_all_the_same(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = make_shop(write_csv(tmp_path / "log.csv", ROWS))
    first = ingest(shop, store)
    (tmp_path / "store" / f"{NAME}.json").unlink()
    with forbid_writes():
        assert ingest(shop, ReadOnlyStore(store)) == first

    def refuse(*_: object, **__: object) -> None:
        raise StorageError("full", code="store.disk-full")

    monkeypatch.setattr(type(store), "update_document", refuse)
    lines: list[str] = []
    assert ingest(shop, store, progress=lines.append) == first
    assert len([line for line in lines if line.startswith("! ")]) == 1


@pytest.mark.usefixtures("settled")
def test_the_document_is_bounded_and_keeps_what_others_noted(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def note(*names: str) -> None:
        with open_source_index(store, "test", print) as index:
            for name in names:
                (tmp_path / name).touch()
                listed = LocalFile.find(tmp_path / name)
                index.find(listed)
                index.note(listed, FileContent("", "", "0" * 64))

    def list_names() -> list[str]:
        return [Path(name).name for name in read_index(store)]

    with open_source_index(store, "test", print):
        note("a", "b")  # of a run at the same time
        note("c", "d")
    assert list_names() == ["a", "b", "c", "d"]
    note("e")
    assert list_names() == ["a", "e"]
    monkeypatch.setattr(source_index, "LIMIT", 3)
    note("f", "g", "h", "i")
    assert list_names() == ["f", "g", "h"]


def test_a_simulated_log_is_not_noted(store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(local_files, "SETTLED", -60)
    shop = make_shop({"simulated": {"events": 300, "items": 20, "customers": 10, "days": 3}})
    ingest(shop, store)
    assert store.read_document(NAME) is None
    assert read_data_version(shop) == read_data_version(shop)


def test_the_version_of_local_data_changes_with_its_listing(tmp_path: Path, opened: list[str]) -> None:
    log = tmp_path / "log"
    write_csv(log / "a.csv", ROWS[:2])
    shop = make_shop(str(log))
    versions = [read_data_version(shop)]
    (log / "readme.md").write_text("x")
    assert read_data_version(shop) == versions[0]
    file = write_csv(log / "b.csv", ROWS[2:])
    versions.append(read_data_version(shop))
    write_csv(file, ROWS[3:])
    versions.append(read_data_version(shop))
    file.rename(log / "c.csv")
    versions.append(read_data_version(shop))
    assert len(set(versions)) == 4
    (log / "c.csv").unlink()
    assert read_data_version(shop) == versions[0]
    assert opened == []


def test_the_version_of_a_bucket_is_read_from_its_list(place: S3Place, way: Proxy) -> None:
    place.put("log/a.csv", csv(ROWS[:2]))
    shop = make_shop(f"s3://{place.bucket}/log")
    first = read_data_version(shop)
    place.put("log/a.csv", csv(ROWS[:2]))
    assert read_data_version(shop) == first
    place.put("log/a.csv", csv(ROWS[2:]))
    assert read_data_version(shop) != first
    assert list_fetched(way) == []
    with refused(DataError, "events.file-not-found"):
        read_data_version(make_shop(f"s3://{place.bucket}/none"))
