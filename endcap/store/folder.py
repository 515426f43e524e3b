"""A store in a local folder."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from endcap.errors import NotFoundError, StorageError
from endcap.retries import watch_call
from endcap.safe_reading import IrregularFileError, read_bytes
from endcap.store import locks, uses
from endcap.store.artifact_files import (
    build_manifest,
    check_artifact,
    make_scratch_folder,
    make_unreadable_manifest_error,
    parse_foreign_manifest,
    parse_manifest,
    report_storage_errors,
    sync_folder,
    write_durably,
)
from endcap.store.base import MANIFEST, Draft, Hold, Json
from endcap.store.documents import (
    get_kind,
    make_unreadable_document_error,
    open_manifest,
    parse_document,
    stamp_document,
)
from endcap.store.locks import lock_file
from endcap.store.resolution import PLACES, PlaceEntries, RelocatableStore, Resolver, read_unless_damaged
from endcap.store.safe_paths import join_safely
from endcap.store.schemas import wrap_facts
from endcap.store.uses import ArtifactUse, check_unused_since

FILE = "file://"


class FolderStore(RelocatableStore):
    """A store in a folder; see `Store`.

    An artifact is written beside its place and then renamed into it, its manifest last.
    """

    def __init__(self, root: Path, *, create: bool = True) -> None:
        self.path = root.expanduser().resolve()
        self.root = f"file://{self.path}"
        self._resolver = Resolver(self)
        if not create and not self.path.is_dir():
            raise NotFoundError(f"there is no store at {self.path}", code="store.absent", store=self.root)
        with report_storage_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)

    def find(self, kind: str, key: str) -> str | None:
        folder = self._inside(f"{kind}/{key}")
        return self._address(folder) if self._note_use(folder) else None

    @contextlib.contextmanager
    def publish(self, kind: str, key: str) -> Iterator[Draft]:
        place = self._inside(f"{kind}/{key}")
        with report_storage_errors(place), make_scratch_folder(self.path / ".drafts") as folder:
            draft = Draft(folder, self._address(place), self._address(folder))
            yield draft
            self._resolver.note_place()
            write_durably(folder / MANIFEST, build_manifest(draft))
            self._move_into_place(folder, place)

    def fetch(self, address: str, *, verify: bool = False, names: Sequence[str] | None = None) -> Path:
        here = self.resolve(address)
        folder = self._folder(here)
        self._note_use(folder)
        check_artifact(folder, self.manifest(here), name=here, verify=verify)
        return folder

    def manifest(self, address: str) -> Json:
        here = self.resolve(address)
        manifest = _read_manifest(self._folder(here), here)
        if manifest is None:
            raise NotFoundError(
                f"nothing is stored under {here}; `endcap run` makes it", code="store.not-found", address=here
            )
        content = self.translate(open_manifest(manifest, here))
        return {**content, "address": here, "facts": wrap_facts(content["facts"], here)}

    @contextlib.contextmanager
    def workspace(self, kind: str, key: str, progress: Callable[[str], None] = lambda line: None) -> Iterator[Path]:
        lock = self._inside(f".work/{kind}/{key}.lock")
        with lock_file(lock, str(lock), blocked=lambda: progress("another process does the same work; waiting for it")):
            folder = self.work_folder(kind, key)
            yield folder
            shutil.rmtree(folder, ignore_errors=True)

    def work_folder(self, kind: str, key: str) -> Path:
        folder = self._inside(f".work/{kind}/{key}")
        with report_storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        return folder

    def list(self, kind: str) -> list[str]:
        addresses = [self._address(file.parent) for file in self._inside(kind).glob(f"*/{MANIFEST}")]
        manifests = [(_read_manifest(self._folder(address), address), address) for address in addresses]
        return [address for manifest, address in sorted(manifests, key=_get_creation_time) if manifest is not None]

    def list_kinds(self, kind: str) -> Sequence[str]:
        return sorted(f"{kind}/{folder.name}" for folder in self._inside(kind).glob("*") if folder.is_dir())

    def list_uses(self, kind: str) -> Sequence[ArtifactUse]:
        listed = []
        for manifest in sorted(self._inside(kind).glob(f"*/{MANIFEST}")):
            with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                used = _read_time_of_use(manifest)
                files = (file for file in manifest.parent.rglob("*") if file.is_file())
                listed.append(ArtifactUse(self._address(manifest.parent), used, sum(map(_get_size, files))))
        return listed

    def remove(self, address: str, *, unused_since: datetime) -> bool:
        check_unused_since(unused_since)
        folder = self._folder(self.resolve(address))
        with report_storage_errors(folder), make_scratch_folder(self.path / ".drafts") as scratch, self._lock_uses():
            try:
                if _read_time_of_use(folder / MANIFEST) >= unused_since:
                    return False
                folder.rename(scratch / folder.name)
            except FileNotFoundError:
                return False
            sync_folder(folder.parent)
        return True

    def erase(self, address: str) -> bool:
        folder = self._folder(self.resolve(address))
        with report_storage_errors(folder), make_scratch_folder(self.path / ".drafts") as scratch, self._lock_uses():
            try:
                folder.rename(scratch / folder.name)
            except FileNotFoundError:
                return False
            sync_folder(folder.parent)
        return True

    def read_document(self, name: str) -> Json | None:
        return self.translate(self._read(name))

    def get_document_mark(self, name: str) -> str | None:
        try:
            state = self._inside(f"{name}.json").stat()
        except FileNotFoundError:
            return None
        # Each change puts another file in its place, which may get the number of a file that is gone.
        return f"{state.st_ino}-{state.st_mtime_ns}-{state.st_size}"

    def list_documents(self, folder: str) -> Sequence[str]:
        files = [(file.stat().st_mtime_ns, file.stem) for file in self._inside(folder).glob("*.json")]
        return [f"{folder}/{name}" for _, name in sorted(files, reverse=True)]

    def write_document(self, name: str, document: Json) -> None:
        self._resolver.note_place()
        self._write(name, document)

    @contextlib.contextmanager
    def hold(self, name: str) -> Iterator[Hold]:
        what = f"{name} in {self.root}"
        with contextlib.ExitStack() as held:
            with watch_call(f"another process that has {what}"):
                lock = self._inside(f".work/holds/{name}.lock")
                held.enter_context(lock_file(lock, what, patience=locks.HOLD_PATIENCE))
            yield _FolderHold()

    def find_path_here(self, address: str) -> str | None:
        if "://" in address.removeprefix(FILE):
            return None
        path = Path(address.removeprefix(FILE))
        for names in (path, path.resolve()):
            if ".." not in names.parts and names != self.path and names.is_relative_to(self.path):
                return names.relative_to(self.path).as_posix()
        return None

    def read_stored_manifest(self, path: str) -> Json | None:
        return _read_manifest(self._inside(path), f"{self.root}/{path}")

    def read_manifest_at(self, address: str) -> Json | None:
        return read_foreign_manifest(address)

    def read_places(self) -> PlaceEntries:
        return list((self._read(PLACES) or {}).get(PLACES, ()))

    def _read(self, name: str) -> Json | None:
        where = f"{name} in {self.root}"
        try:
            content = read_bytes(self._inside(f"{name}.json"))
        except FileNotFoundError:
            return None
        except (IrregularFileError, ValueError) as error:
            raise make_unreadable_document_error(name, where, error) from None
        return parse_document(name, content, where)

    def _write(self, name: str, document: Json) -> None:
        file = self._inside(f"{name}.json")
        with report_storage_errors(file), make_scratch_folder(self.path / ".drafts") as folder:
            write_durably(folder / MANIFEST, stamp_document(get_kind(name), document))
            file.parent.mkdir(parents=True, exist_ok=True)
            (folder / MANIFEST).replace(file)
            sync_folder(file.parent)

    def _update(self, name: str, change: Callable[[Json | None], Json], *, repair: bool = False) -> Json:
        lock = self._inside(f".work/documents/{name}.lock")
        with lock_file(lock, f"{name} in {self.root}", patience=locks.CHANGE_PATIENCE):
            before = read_unless_damaged(lambda: self._read(name), repair=repair)
            document = change(before)
            if document is not before:
                self._write(name, document)
        return document

    def _address(self, folder: Path) -> str:
        return f"{FILE}{folder}"

    def _inside(self, name: str) -> Path:
        """The place of what the store keeps under a name, which may come from anywhere. Raises IntegrityError."""
        return join_safely(self.path, name, self.root)

    def _folder(self, here: str) -> Path:
        """The folder of an address in this store."""
        return self._inside(here.removeprefix(f"{self.root}/"))

    def _lock_uses(self) -> contextlib.AbstractContextManager[None]:
        return lock_file(self.path / ".work" / "uses.lock", f"uses in {self.root}", patience=locks.CHANGE_PATIENCE)

    def _note_use(self, folder: Path) -> bool:
        """Note that an artifact is used; return False if there is none."""
        manifest = folder / MANIFEST
        if not manifest.is_file():
            return False
        try:
            if datetime.now(UTC) - _read_time_of_use(manifest) < uses.NOTED_EVERY:
                return True
            with self._lock_uses():
                os.utime(manifest)
        except (StorageError, OSError):  # gone meanwhile, or this process may not write here
            return manifest.is_file()
        return True

    def _move_into_place(self, draft: Path, place: Path) -> None:
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            draft.rename(place)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            self._note_use(place)
        sync_folder(place.parent)


class _FolderHold:
    """A lock is its process's until that ends."""

    def check(self) -> None:
        pass


def read_foreign_manifest(address: str) -> Json | None:
    """Read the manifest of another store's artifact in a folder of this machine; None if it cannot be read."""
    try:
        content = read_bytes(Path(address.removeprefix(FILE)) / MANIFEST) if address.startswith(FILE) else None
    except (OSError, ValueError):
        return None
    return None if content is None else parse_foreign_manifest(content, address)


def _read_manifest(folder: Path, address: str) -> Json | None:
    try:
        content = read_bytes(join_safely(folder, MANIFEST, address))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (IrregularFileError, ValueError) as error:
        raise make_unreadable_manifest_error(address, f"its manifest cannot be read ({error})") from None
    return parse_manifest(content, address)


def _read_time_of_use(manifest: Path) -> datetime:
    return datetime.fromtimestamp(manifest.stat().st_mtime, UTC)


def _get_size(file: Path) -> int:
    return file.stat().st_size


def _get_creation_time(artifact: tuple[Json | None, str]) -> str:
    return "" if artifact[0] is None else str(artifact[0].get("created", ""))
