"""A store in a local folder."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TextIO

from endcap.errors import IntegrityError, NotFoundError
from endcap.store.base import MANIFEST, Draft, Json, content_key
from endcap.store.contents import (
    check_folder,
    manifest_of,
    replace_durably,
    scratch,
    storage_errors,
    sync_folder,
    write_durably,
)
from endcap.store.documents import kind_of, opened, opened_manifest, stamped


class FolderStore:
    """See `Store`. An artifact is written beside its place and renamed into it, its manifest last."""

    def __init__(self, root: Path) -> None:
        self.path = root.expanduser().resolve()
        self.root = f"file://{self.path}"
        with storage_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)

    def find(self, kind: str, key: str) -> str | None:
        folder = self.path / kind / key
        return self._address(folder) if (folder / MANIFEST).is_file() else None

    @contextlib.contextmanager
    def publish(self, kind: str, key: str) -> Iterator[Draft]:
        place = self.path / kind / key
        with storage_errors(place), scratch(self.path / ".drafts") as folder:
            draft = Draft(folder, self._address(place))
            yield draft
            write_durably(folder / MANIFEST, manifest_of(draft))
            self._move_into_place(folder, place)

    def fetch(self, address: str, *, verify: bool = False) -> Path:
        folder = self._folder(address)
        check_folder(folder, self.manifest(address), name=address, verify=verify)
        return folder

    def manifest(self, address: str) -> Json:
        return opened_manifest(self._manifest(self._folder(address), address), address)

    def _manifest(self, folder: Path, address: str) -> Json:
        try:
            manifest: Json = json.loads((folder / MANIFEST).read_text())
        except FileNotFoundError:
            raise NotFoundError(
                f"nothing is stored under {address}; `endcap run` makes it", code="store.not-found", address=address
            ) from None
        except ValueError as error:
            raise IntegrityError(
                f"{address}: its manifest is not JSON ({error})",
                code="store.damaged",
                address=address,
                file=MANIFEST,
                fault="unreadable",
            ) from None
        return manifest

    @contextlib.contextmanager
    def workspace(self, kind: str, key: str, progress: Callable[[str], None] = lambda line: None) -> Iterator[Path]:
        with self._locked(Path(".work") / kind / f"{key}.lock", progress):
            folder = self.work_folder(kind, key)
            yield folder
            shutil.rmtree(folder, ignore_errors=True)

    def work_folder(self, kind: str, key: str) -> Path:
        folder = self.path / ".work" / kind / key
        with storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        return folder

    def list(self, kind: str) -> list[str]:
        folders = [file.parent for file in (self.path / kind).glob(f"*/{MANIFEST}")]
        by_age = sorted(folders, key=lambda folder: str(self._manifest(folder, self._address(folder))["created"]))
        return [self._address(folder) for folder in by_age]

    def read_document(self, name: str) -> Json | None:
        try:
            document: Json = json.loads((self.path / f"{name}.json").read_text())
        except FileNotFoundError:
            return None
        return opened(kind_of(name), document, f"{name} in {self.root}")

    def list_documents(self, folder: str) -> Sequence[str]:
        files = [(file.stat().st_mtime_ns, file.stem) for file in (self.path / folder).glob("*.json")]
        return [f"{folder}/{name}" for _, name in sorted(files, reverse=True)]

    def write_document(self, name: str, document: Json) -> None:
        file = self.path / f"{name}.json"
        with storage_errors(file):
            replace_durably(file, stamped(kind_of(name), document))

    def update_document(self, name: str, change: Callable[[Json | None], Json]) -> Json:
        with self._locked(Path(".work") / "documents" / f"{name}.lock", lambda line: None):
            document = change(self.read_document(name))
            self.write_document(name, document)
        return document

    @contextlib.contextmanager
    def _locked(self, name: Path, progress: Callable[[str], None]) -> Iterator[None]:
        lock = self.path / name
        with contextlib.ExitStack() as held:
            with storage_errors(lock):
                lock.parent.mkdir(parents=True, exist_ok=True)
                # The lock's file stays for ever: were it removed, two processes could each lock a file of that name.
                # The lock itself goes with its process, however that ends.
                handle = held.enter_context(lock.open("w"))
                _lock(handle, progress)
            yield

    def _address(self, folder: Path) -> str:
        return f"file://{folder}"

    def _folder(self, address: str) -> Path:
        folder = Path(address.removeprefix("file://"))
        if folder.is_relative_to(self.path):
            return folder
        # The store may have been moved, or be mounted elsewhere: an artifact's manifest says where it was made.
        moved = self.path / content_key(address)
        if (moved / MANIFEST).is_file() and self._manifest(moved, address)["address"] == address:
            return moved
        raise NotFoundError(
            f"{address} does not lie in this store ({self.root})",
            code="store.elsewhere",
            address=address,
            store=self.root,
        )

    def _move_into_place(self, draft: Path, place: Path) -> None:
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            draft.rename(place)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        sync_folder(place.parent)


def _lock(handle: TextIO, progress: Callable[[str], None]) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        progress("another process does the same work; waiting for it")
        fcntl.flock(handle, fcntl.LOCK_EX)
