"""The part of a store that holds a user's own files: in a folder, and in a bucket."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from endcap.errors import NotFoundError, UserError
from endcap.safe_reading import open_regular
from endcap.store.artifact_files import hash_file, make_scratch_folder, report_storage_errors, sync_folder
from endcap.store.safe_paths import find_name_fault, stays_inside
from endcap.store.transfer import (
    Meter,
    MeteredReader,
    TransferProgress,
    copy_file,
    deliver,
    list_regular_files,
    sum_sizes,
)

if TYPE_CHECKING:
    from endcap.store.bucket import Blob, Bucket

DATA_FOLDER = "data"
"""The folder of a store that holds them."""
FILE, S3 = "file://", "s3://"


@dataclass(frozen=True)
class StoredFile:
    """A file in a store.

    Attributes
    ----------
    name
        Its name, such as ``logs/2026-03-02.csv``.
    address
        ``file:///…`` or ``s3://…``.
    bytes
        Its size.
    changed
        When it was written, in UTC.
    """

    name: str
    address: str
    bytes: int
    changed: datetime | None


def open_data_area(root: str) -> FolderDataArea | BucketDataArea:
    """Open the part of a store that holds the user's files.

    Parameters
    ----------
    root
        The store's address.

    Returns
    -------
    FolderDataArea or BucketDataArea
        The files of a folder's store, or of a bucket's.
    """
    if not root.startswith(S3):
        return FolderDataArea(root)
    # The client costs half a second to import.
    from endcap.store.bucket import Bucket
    from endcap.store.s3 import split_address
    from endcap.store.s3_settings import read_s3_settings

    bucket, prefix = split_address(root)
    return BucketDataArea(Bucket(bucket, read_s3_settings()), prefix)


class FolderDataArea:
    """The files of a store in a folder."""

    def __init__(self, root: str) -> None:
        self._root = Path(root.removeprefix(FILE))
        self._data = self._root / DATA_FOLDER

    def address(self, name: str) -> str:
        """Return the address of a file."""
        return f"{FILE}{self._data / name}"

    def draft(self) -> contextlib.AbstractContextManager[Path]:
        """Make a folder for unfinished files, for the length of a block."""
        return make_scratch_folder(self._root / ".drafts")

    def check_free(self, name: str) -> None:
        """Raise UserError if a file lies where the name needs a folder."""
        place = self._join_inside(name)
        for parent in place.relative_to(self._data).parents:
            if (self._data / parent).is_file():
                raise _make_name_taken_error(name, str(parent))

    def write(self, name: str, files: Mapping[str, Path], draft: Path, meter: Meter) -> None:
        """Write files under a name, in one step; they replace what has the name."""
        place, new, old = self._data / name, draft / "new", draft / "old"
        with report_storage_errors(place):
            for path, source in files.items():
                copy_file(source, new / path if path else new, meter)
            place.parent.mkdir(parents=True, exist_ok=True)
            if place.is_dir() or (new.is_dir() and place.exists()):
                place.rename(old)
                try:
                    new.rename(place)
                except OSError:
                    old.rename(place)
                    raise
            else:
                new.replace(place)
            sync_folder(place.parent)

    def read(self, name: str, target: Path, progress: TransferProgress) -> Path:
        """Copy what has a name to a target on this machine. Raises NotFoundError if nothing has the name."""
        place = self._join_inside(name)
        if not place.exists():
            raise _make_not_found_error(self.address(name))
        files = {"": place} if place.is_file() else list_regular_files(place)
        for path in filter(None, files):
            self._join_inside(f"{name}/{path}")
        return deliver(files, name, target, copy_file, Meter(progress, sum_sizes(files)))

    def files(self, prefix: str) -> Iterator[StoredFile]:
        """List the files whose names begin with a prefix."""
        start = self._data / prefix.rpartition("/")[0]
        for path in list_regular_files(start).values() if start.is_dir() else ():
            name = path.relative_to(self._data).as_posix()
            if name.startswith(prefix):
                state = path.stat()
                yield StoredFile(name, self.address(name), state.st_size, datetime.fromtimestamp(state.st_mtime, UTC))

    def _join_inside(self, name: str) -> Path:
        place = self._data / name
        if not stays_inside(self._data, place):
            raise _make_bad_name_error(name, "leads out of the store by a link")
        return place


class BucketDataArea:
    """The files of a store in a bucket."""

    def __init__(self, bucket: Bucket, prefix: str) -> None:
        self._bucket, self._data = bucket, f"{prefix}/{DATA_FOLDER}/" if prefix else f"{DATA_FOLDER}/"

    def address(self, name: str) -> str:
        return self._bucket.address(f"{self._data}{name}")

    def draft(self) -> contextlib.AbstractContextManager[Path]:
        return _make_temporary_folder()

    def check_free(self, name: str) -> None:
        parts = name.split("/")
        for parent in ("/".join(parts[:depth]) for depth in range(1, len(parts))):
            if self._bucket.stat(f"{self._data}{parent}") is not None:
                raise _make_name_taken_error(name, parent)

    def write(self, name: str, files: Mapping[str, Path], draft: Path, meter: Meter) -> None:
        from endcap.store.bucket import run_parallel

        objects = {
            f"{self._data}{name}/{path}" if path else f"{self._data}{name}": file for path, file in files.items()
        }

        def upload(item: tuple[str, Path]) -> None:
            object_, file = item
            with open_regular(file) as handle:
                measured: Any = MeteredReader(handle, meter)
                self._bucket.upload(object_, measured, hash_file(file))

        for _ in run_parallel(upload, objects.items()):
            pass
        self._bucket.remove([blob.name for blob in self._list_blobs(name) if blob.name not in objects])

    def read(self, name: str, target: Path, progress: TransferProgress) -> Path:
        blobs = {blob.name.removeprefix(f"{self._data}{name}").lstrip("/"): blob for blob in self._list_blobs(name)}
        if not blobs:
            raise _make_not_found_error(self.address(name))
        if "" in blobs:
            blobs = {"": blobs[""]}
        for path in filter(None, blobs):
            check_file_name(path, hidden=True)

        def download(blob: Blob, file: Path, meter: Meter) -> None:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._bucket.download(blob.name, file, etag=blob.etag)
            meter.add(blob.bytes)

        return deliver(blobs, name, target, download, Meter(progress, sum(blob.bytes for blob in blobs.values())))

    def files(self, prefix: str) -> Iterator[StoredFile]:
        for blob in self._bucket.list(f"{self._data}{prefix}"):
            if not blob.name.endswith("/"):  # such are folders made by a console
                name = blob.name.removeprefix(self._data)
                yield StoredFile(name, self.address(name), blob.bytes, blob.changed)

    def _list_blobs(self, name: str) -> list[Blob]:
        """The object of this name, and those below it."""
        own = self._bucket.stat(f"{self._data}{name}")
        below = [blob for blob in self._bucket.list(f"{self._data}{name}/") if not blob.name.endswith("/")]
        return [*([] if own is None else [own]), *below]


def check_file_name(name: str, *, hidden: bool = False) -> None:
    """Check the name of a user's file.

    Parameters
    ----------
    name
        The name.
    hidden
        Whether its parts may begin with a dot.

    Raises
    ------
    UserError
        The name could lead out of the store.
    """
    if fault := find_name_fault(name):
        raise _make_bad_name_error(name, fault)
    if not name.isprintable():
        raise _make_bad_name_error(name, "has a character that is not printed")
    if not hidden and any(part.startswith(".") for part in name.split("/")):
        raise _make_bad_name_error(name, "has a part that begins with a dot, which sources pass over")


def _make_bad_name_error(name: str, why: str) -> UserError:
    return UserError(
        f"the name {name!r} {why}; allowed: a relative path such as logs/2026-03-02.csv",
        code="store.name-invalid",
        name=name,
    )


def _make_name_taken_error(name: str, file: str) -> UserError:
    return UserError(
        f"{name!r} would lie below {file!r}, which is a file in the store; choose another name",
        code="store.name-taken",
        name=name,
        file=file,
    )


def _make_not_found_error(address: str) -> NotFoundError:
    return NotFoundError(
        f"no file or folder of the store is {address}; list_files shows those there are",
        code="store.not-found",
        address=address,
    )


@contextlib.contextmanager
def _make_temporary_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="endcap-") as folder:
        yield Path(folder)
