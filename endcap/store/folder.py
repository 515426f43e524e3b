"""A store in a local folder."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import socket
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from endcap.errors import IntegrityError, NotFoundError, StorageError
from endcap.processes import alive
from endcap.store.base import MANIFEST, Draft, Json


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
        self._sweep()
        # The writer's host and process are in the name, so that a later writer knows whose remains it may remove.
        # No host's name has an @: the drafts of `web-7` are not taken for those of `web`.
        name = f"{socket.gethostname()}@{os.getpid()}@{uuid.uuid4().hex}"
        draft = Draft(self.path / ".drafts" / name, self._address(place))
        with storage_errors(place):
            draft.path.mkdir(parents=True)
            try:
                yield draft
                manifest = {
                    "address": draft.address,
                    "created": datetime.now(UTC).isoformat(timespec="seconds"),
                    "facts": draft.facts,
                    "files": {name: _describe(draft.path / name) for name in _files(draft.path)},
                }
                _write_durably(draft.path / MANIFEST, manifest)
                self._move_into_place(draft.path, place)
            finally:
                shutil.rmtree(draft.path, ignore_errors=True)

    def fetch(self, address: str, *, verify: bool = False) -> Path:
        folder = self._folder(address)
        for name, described in self.manifest(address)["files"].items():
            file = folder / name
            if not file.is_file() or file.stat().st_size != described["bytes"]:
                raise IntegrityError(f"{address}: {name} is missing or cut short; delete {folder} and run again")
            if verify and _sha256(file) != described["sha256"]:
                raise IntegrityError(
                    f"{address}: {name} was changed after it was written; delete {folder} and run again"
                )
        return folder

    def manifest(self, address: str) -> Json:
        file = self._folder(address) / MANIFEST
        try:
            manifest: Json = json.loads(file.read_text())
        except FileNotFoundError:
            raise NotFoundError(f"nothing is stored under {address}; `endcap run` makes it") from None
        except ValueError as error:
            raise IntegrityError(f"{address}: its manifest is not JSON ({error})") from None
        return manifest

    @contextlib.contextmanager
    def workspace(self, kind: str, key: str, progress: Callable[[str], None] = lambda line: None) -> Iterator[Path]:
        lock = self.path / ".work" / kind / f"{key}.lock"
        with contextlib.ExitStack() as held:
            with storage_errors(lock):
                lock.parent.mkdir(parents=True, exist_ok=True)
                # The lock's file stays for ever: were it removed, two processes could each lock a file of that name.
                # The lock itself goes with its process, however that ends.
                handle = held.enter_context(lock.open("w"))
                _lock(handle, progress)
            folder = self.work_folder(kind, key)
            yield folder
            shutil.rmtree(folder, ignore_errors=True)

    def work_folder(self, kind: str, key: str) -> Path:
        folder = self.path / ".work" / kind / key
        with storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        return folder

    def list(self, kind: str) -> list[str]:
        manifests = (self.path / kind).glob(f"*/{MANIFEST}")
        return [self._address(file.parent) for file in sorted(manifests, key=lambda file: file.stat().st_mtime_ns)]

    def read_document(self, name: str) -> Json | None:
        try:
            document: Json = json.loads((self.path / f"{name}.json").read_text())
        except FileNotFoundError:
            return None
        return document

    def write_document(self, name: str, document: Json) -> None:
        file = self.path / f"{name}.json"
        with storage_errors(file):
            file.parent.mkdir(parents=True, exist_ok=True)
            draft = file.with_name(f".{file.name}.{os.getpid()}-{uuid.uuid4().hex}")
            _write_durably(draft, document)
            draft.replace(file)
            _sync_folder(file.parent)

    def _address(self, folder: Path) -> str:
        return f"file://{folder}"

    def _folder(self, address: str) -> Path:
        folder = Path(address.removeprefix("file://"))
        if not folder.is_relative_to(self.path):
            raise NotFoundError(f"{address} does not lie in this store ({self.root})")
        return folder

    def _move_into_place(self, draft: Path, place: Path) -> None:
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            draft.rename(place)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        _sync_folder(place.parent)

    def _sweep(self) -> None:
        """Remove what writers of this host left that were killed."""
        for draft in (self.path / ".drafts").glob(f"{socket.gethostname()}@*@*"):
            pid = draft.name.split("@")[1]
            if pid.isdigit() and not alive(int(pid)):
                shutil.rmtree(draft, ignore_errors=True)


def _lock(handle: TextIO, progress: Callable[[str], None]) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        progress("another process does the same work; waiting for it")
        fcntl.flock(handle, fcntl.LOCK_EX)


def _files(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


def _describe(file: Path) -> Json:
    with file.open("rb") as handle:
        os.fsync(handle.fileno())
    return {"bytes": file.stat().st_size, "sha256": _sha256(file)}


def _sha256(file: Path) -> str:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _write_durably(file: Path, document: Json) -> None:
    with file.open("w") as handle:
        json.dump(document, handle, indent=1, sort_keys=True)
        handle.flush()
        os.fsync(handle.fileno())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def storage_errors(place: Path) -> Iterator[None]:
    """Report a full or read-only disk, or a folder without permission, as StorageError that names `place`."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR):
            reason = error.strerror or str(error)
            raise StorageError(
                f"cannot write {place}: {reason}; nothing was published. Free space or choose another store (--store)"
            ) from error
        raise
