"""The store in a folder."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from endcap.errors import IntegrityError, NotFoundError, StorageError, TransientError
from endcap.store import Store, check_artifact, locks, open_store
from endcap.store.base import Json
from tests.refusals import refused
from tests.store.contract import StoreContract, put
from tests.store.killed import NAME, counted, killed_writers
from tests.store.mounts import read_only


@dataclass
class FolderPlace:
    folder: Path

    def elsewhere(self) -> Store:
        return open_store(str(self.folder))

    def damage(self, address: str, name: str, content: bytes) -> None:
        (Path(address.removeprefix("file://")) / name).write_bytes(content)

    def copy(self) -> FolderPlace:
        folder = self.folder.with_name(f"{self.folder.name}-copy")
        shutil.copytree(self.folder, folder)
        return FolderPlace(folder)

    def remove(self, name: str = "") -> None:
        (self.folder / name).unlink() if name else shutil.rmtree(self.folder)

    def left(self) -> set[str]:
        found = (str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file())
        return {path for path in found if path.startswith(".") and not path.endswith(".lock")}


class TestFolder(StoreContract):
    @pytest.fixture
    def place(self, tmp_path: Path) -> FolderPlace:
        return FolderPlace(tmp_path / "store")


def test_drafts_of_a_host_with_a_longer_name_are_left_alone(store: Store, tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    theirs = tmp_path / "store" / ".drafts" / f"{socket.gethostname()}-{ended.pid}-x@{ended.pid}@0"
    ours = theirs.with_name(f"{socket.gethostname()}@{ended.pid}@0")
    for draft in (theirs, ours):
        draft.mkdir(parents=True)
    put(store, "k1")
    assert list(theirs.parent.iterdir()) == [theirs]


def test_other_names_of_the_folder_are_this_stores_too(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = put(store, "k1")
    (tmp_path / "linked").symlink_to(tmp_path / "store")
    monkeypatch.chdir(tmp_path)
    names = [
        "linked/things/a/k1",
        "store/things/a/k1",
        f"{tmp_path}/linked/things/a/k1/",
        f"{tmp_path}/store/things/a/k1",
    ]
    for name in [*names, f"file://{tmp_path}/linked/things/a/k1"]:
        assert store.resolve(name) == address
    assert open_store(str(tmp_path / "linked")).root == store.root
    with refused(NotFoundError, "store.elsewhere"):
        store.resolve(f"{store.root}/../things/a/k1")


def test_a_store_on_a_disk_that_cannot_be_written_is_read(store: Store, tmp_path: Path) -> None:
    address, mount = put(store, "k1"), tmp_path / "mount"
    mount.mkdir()
    with read_only(tmp_path / "store", mount):
        seen = open_store(str(mount))
        assert (seen.fetch(address, verify=True) / "sub" / "file.txt").read_text() == "hello"
        assert seen.resolve(address) == f"file://{mount}/things/a/k1"
        with refused(StorageError, "store.cannot-write", reason="Read-only file system"):
            put(seen, "k2")


def test_a_folder_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    place = str(tmp_path / "file" / "store")
    with refused(StorageError, "store.cannot-write", path=place, reason="Not a directory"):
        open_store(place)


def test_a_copy_that_something_else_made_is_checked_by_the_manifest_in_it(store: Store) -> None:
    folder = store.fetch(put(store, "k1"))
    check_artifact(folder)
    (folder / "sub" / "file.txt").write_text("jello")
    with refused(IntegrityError, "store.damaged", file="sub/file.txt", fault="changed"):
        check_artifact(folder)
    (folder / "manifest.json").unlink()
    with refused(IntegrityError, "store.damaged", address=str(folder), file="manifest.json", fault="unreadable"):
        check_artifact(folder)


def test_waiting_for_a_document_whose_holder_hangs_ends_after_the_patience(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "CHANGE_PATIENCE", 0.2)

    def hang(before: Json | None) -> Json:
        with refused(TransientError, "store.contended", what=f"deployments/shop in {store.root}"):
            open_store(store.root).update_document("deployments/shop", lambda before: {"share": 0.3})
        return {"share": 0.1}

    assert store.update_document("deployments/shop", hang) == store.read_document("deployments/shop")


def test_abandoned_scratch_folders_of_other_hosts_are_removed(store: Store, tmp_path: Path) -> None:
    old, new = (tmp_path / "store" / ".drafts" / f"{host}@1@0" for host in ("pod-a", "pod-b"))
    for draft in (old, new):
        draft.mkdir(parents=True)
    os.utime(old, (0, 0))
    store.write_document("deployments/shop", {})
    assert list(old.parent.iterdir()) == [new]


def test_killed_writers_of_a_document_lose_nothing_leave_nothing_and_lock_nobody_out(store: Store) -> None:
    written = killed_writers(store.root, seed=16, count=5)
    assert written == sorted(written)
    number = (store.read_document(NAME) or {"number": 0})["number"]
    # Each may have written once more than it had time to say.
    assert max(written, default=0) <= number <= max(written, default=0) + 5
    assert store.update_document(NAME, counted)["number"] == number + 1
    left = [path for path in Path(store.root.removeprefix("file://")).rglob("*") if path.is_file()]
    assert {path.suffix for path in left} == {".json", ".lock"}
    assert not any(path.name.startswith(".") for path in left)
