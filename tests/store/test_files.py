"""A user's own files in a store, in a folder and in a bucket."""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from endcap.errors import EndcapError, NotFoundError, StorageError, UserError
from endcap.events import ingest
from endcap.store import Store, open_store
from endcap.store.bucket import PART_BYTES
from endcap.store.files import get, list_files, put
from tests.events.shops import HEADER, ROWS, STORED, make_shop, stored
from tests.store.contract import put as put_artifact
from tests.store.servers import S3Place, Server, moto


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with moto() as running:
        yield running


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    if request.param == "folder":
        return open_store(str(tmp_path / "store"))
    return S3Place(server, tmp_path, monkeypatch).elsewhere()


def tree(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def read(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def names(store: Store, prefix: str = "") -> list[str]:
    return [file.name for file in list_files(store, prefix)]


def code(error: pytest.ExceptionInfo[EndcapError]) -> str:
    return error.value.code


def test_a_file_bytes_and_a_stream_come_back_by_name_and_by_address(store: Store, tmp_path: Path) -> None:
    file = tree(tmp_path, {"in.csv": "a,b"}) / "in.csv"
    for number, source in enumerate([file, str(file), b"a,b", io.BytesIO(b"a,b")]):
        address = put(store, source, f"logs/{number}.csv")
        assert address == f"{store.root}/data/logs/{number}.csv"
        for way in (address, f"logs/{number}.csv"):
            assert get(store, way, tmp_path / "out.csv").read_text() == "a,b"
    assert names(store) == [f"logs/{number}.csv" for number in range(4)]
    assert names(store, "logs/2") == ["logs/2.csv"]
    assert names(store, "other") == []


def test_a_folder_is_replaced_whole_and_comes_back_under_its_own_name(store: Store, tmp_path: Path) -> None:
    put(store, tree(tmp_path / "one", {"a.csv": "1", "day=2/b.csv": "2", ".hidden": "3"}), "logs")
    put(store, b"x", "logs-of-old.csv")
    assert read(get(store, "logs", tmp_path)) == {"a.csv": "1", "day=2/b.csv": "2", ".hidden": "3"}
    put(store, tree(tmp_path / "two", {"c.csv": "4"}), "logs")
    assert names(store) == ["logs-of-old.csv", "logs/c.csv"]
    put(store, b"5", "logs")
    assert names(store) == ["logs", "logs-of-old.csv"]
    put(store, tmp_path / "two", "logs")
    assert read(get(store, f"{store.root}/data/logs", tmp_path / "new")) == {"c.csv": "4"}


def test_an_artifact_comes_back_with_its_manifest(store: Store, tmp_path: Path) -> None:
    address = put_artifact(store, "k1")
    copy = get(store, address, tmp_path / "copy")
    assert (copy / "sub" / "file.txt").read_text() == "hello"
    assert set(read(copy)) == {"sub/file.txt", "manifest.json"}
    if store.root.startswith("file://"):
        moved = open_store(str(Path(store.root.removeprefix("file://")).rename(tmp_path / "moved")))
        assert read(get(moved, address, tmp_path / "again")) == read(copy)


def test_progress_counts_every_byte_of_a_file_of_several_parts(store: Store, tmp_path: Path) -> None:
    size = 2 * PART_BYTES + 1
    seen: list[tuple[int, int]] = []
    put(store, bytes(size), "big.bin", lambda done, total: seen.append((done, total)))
    assert seen[-1] == (size, size)
    assert len(seen) > 2
    seen.clear()
    copy = get(store, "big.bin", tmp_path / "big.bin", lambda done, total: seen.append((done, total)))
    assert seen[-1] == (size, size)
    assert copy.stat().st_size == size
    (file,) = list_files(store)
    assert file.bytes == size
    assert file.changed is not None
    assert abs(datetime.now(UTC) - file.changed) < timedelta(minutes=5)


def test_an_uploaded_log_is_a_source_of_a_shop(store: Store, tmp_path: Path) -> None:
    log = "".join(f"{line}\n" for line in [HEADER, *ROWS]).encode()
    address = put(store, log, "logs/log.csv")
    results = open_store(str(tmp_path / "results"))
    assert stored(results, ingest(make_shop(address), results)) == STORED
    assert stored(results, ingest(make_shop(f"{store.root}/data/logs"), results)) == STORED
    assert stored(results, ingest(make_shop(f"{store.root}/data/logs/*.csv"), results)) == STORED


@pytest.mark.parametrize("name", ["", "/etc/x", "../x", "a/../../x", "a//b", "a/", "./a", ".hidden", "a\\b", "a\nb"])
def test_a_name_that_could_lead_elsewhere_is_refused(store: Store, name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as refused:
        put(store, b"x", name)
    assert code(refused) == "store.name-invalid"
    assert names(store) == []


def test_an_address_that_leads_elsewhere_is_refused(store: Store, tmp_path: Path) -> None:
    for address, expected in {
        f"{store.root}/data/../x": "store.name-invalid",
        f"{store.root}/../x": "store.name-invalid",
        "file:///etc/passwd": "store.not-found",
        "/etc/passwd": "store.not-found",
        "s3://other-bucket/x": "store.not-found",
        "nothing": "store.not-found",
    }.items():
        with pytest.raises(UserError) as refused:
            get(store, address, tmp_path / "out")
        assert code(refused) == expected, address
    assert not (tmp_path / "out").exists()


def test_an_error_names_the_file_that_is_in_the_way(store: Store, tmp_path: Path) -> None:
    put(store, b"x", "logs")
    with pytest.raises(UserError) as refused:
        put(store, b"x", "logs/deep/a.csv")
    assert (code(refused), refused.value.fields["file"]) == ("store.name-taken", "logs")
    put(store, tree(tmp_path / "one", {"a.csv": "1"}), "folder")
    (tmp_path / "target" / "folder").mkdir(parents=True)
    with pytest.raises(UserError) as refused:
        get(store, "folder", tmp_path / "target")
    assert code(refused) == "store.target-exists"


def test_a_source_without_a_file_is_refused(store: Store, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tree(tmp_path / "linked", {"a": "1"}) / "b").symlink_to(tmp_path / "empty")
    for source in (tmp_path / "none", tmp_path / "empty", tmp_path / "linked", 5):
        with pytest.raises(UserError) as refused:
            put(store, source, "x")  # type: ignore[arg-type]
        assert code(refused) == "store.source-invalid"
    assert names(store) == []


def test_a_link_in_the_folder_does_not_lead_out_of_it(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    put(store, b"x", "a.csv")
    (tmp_path / "store" / "data" / "out").symlink_to(tree(tmp_path / "outside", {"a": "1"}))
    for call in (lambda: put(store, b"y", "out/a"), lambda: get(store, "out/a", tmp_path / "got")):
        with pytest.raises(UserError) as refused:
            call()
        assert code(refused) == "store.name-invalid"
    assert read(tmp_path / "outside") == {"a": "1"}


def test_the_old_file_stays_if_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(str(tmp_path / "store"))
    put(store, b"old", "a.csv")
    monkeypatch.setattr("endcap.store.transfer.os.fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(StorageError):
        put(store, b"new", "a.csv")
    monkeypatch.undo()
    assert get(store, "a.csv", tmp_path / "got").read_text() == "old"
    assert not [path for path in (tmp_path / "store" / ".drafts").rglob("*") if path.is_file()]
    with pytest.raises(NotFoundError):
        get(store, "b.csv", tmp_path / "got")
