"""Files that several machines put beside a store's artifacts, before anybody finds them.

Each place is an address. Whoever has it, and may write to the store, opens it: an executor of Spark on another machine
too. In a bucket the place is where a writer's draft lies (`endcap.store.publication`), so what a killed process left is
swept after a day. In a folder it is a scratch folder of the store.
"""

from __future__ import annotations

import contextlib
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from endcap.errors import NotFoundError
from endcap.store.artifact_files import describe_file, make_scratch_folder, report_storage_errors
from endcap.store.base import Json
from endcap.store.safe_paths import check_name, join_safely

if TYPE_CHECKING:
    from endcap.store.bucket import Bucket

FILE, S3 = "file://", "s3://"
Fill = Callable[[Path], None]


class StagedFiles(Protocol):
    """The files at a place. Names are relative paths, with ``/`` between their parts.

    Attributes
    ----------
    address
        The place, by which another machine opens it (`open_staged_files`).
    """

    address: str

    def write(self, name: str, fill: Fill) -> Json:
        """Write a file, which appears whole, in the place of one of the same name.

        Parameters
        ----------
        name
            The file's name.
        fill
            Writes the content to a path of this machine.

        Returns
        -------
        dict
            The file's ``bytes`` and ``sha256``, as in a manifest.
        """

    def fetch(self, name: str, scratch: Path) -> Path:
        """Return a path of this machine with a file's content: the file itself, or a copy in a scratch folder.

        Raises NotFoundError if there is no such file.
        """

    def rename(self, name: str, new: str) -> None:
        """Give a file another name, in the place of a file of that name."""

    def list(self, folder: str) -> list[str]:
        """List the names of the files below a folder, sorted."""

    def remove(self, names: Iterable[str]) -> None:
        """Remove files. It is no error if one does not exist."""


def is_in_bucket(address: str) -> bool:
    """Return whether an address is that of a bucket, or of something in one."""
    return address.startswith(S3)


def open_staged_files(address: str, scratch: Path | None = None) -> StagedFiles:
    """Open a place by its address.

    Parameters
    ----------
    address
        The address.
    scratch
        A folder of this machine for files on their way to a bucket. None: the system's temporary folder.

    Raises
    ------
    NotFoundError
        The place is a folder that this machine does not have.
    UserError
        The environment's settings of the S3 server are missing or wrong.
    """
    if not is_in_bucket(address):
        return StagedInFolder(Path(address.removeprefix(FILE)))
    # The client costs half a second to import.
    from endcap.store.bucket import Bucket
    from endcap.store.s3 import split_address
    from endcap.store.s3_settings import read_s3_settings

    bucket, prefix = split_address(address)
    return StagedInBucket(Bucket(bucket, read_s3_settings()), f"{prefix}/", scratch)


@contextlib.contextmanager
def stage_files(root: str) -> Iterator[StagedFiles]:
    """Make a new place in a store for the length of a block. Its files are removed with it.

    Parameters
    ----------
    root
        The store's address.
    """
    if not is_in_bucket(root):
        with make_scratch_folder(Path(root.removeprefix(FILE)) / ".drafts") as folder:
            yield StagedInFolder(folder)
        return
    # The last part but one is this place's own: what is swept together is as old as its newest object.
    staged = open_staged_files(f"{root}/.drafts/staged/{uuid.uuid4().hex[:16]}/{uuid.uuid4().hex}")
    try:
        yield staged
    finally:
        staged.remove(staged.list(""))


class StagedInFolder:
    """A place in a folder that all machines have at the same path; see `StagedFiles`."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.address = folder, f"{FILE}{folder}"
        if not folder.is_dir():
            raise NotFoundError(
                f"there is no folder {folder} on this machine", code="store.not-found", address=self.address
            )

    def write(self, name: str, fill: Fill) -> Json:
        file = join_safely(self._folder, name, self.address)
        with report_storage_errors(file):
            file.parent.mkdir(parents=True, exist_ok=True)
            unfinished = file.with_name(f".{uuid.uuid4().hex}")
            try:
                fill(unfinished)
                described = describe_file(unfinished)
                unfinished.replace(file)
            finally:
                unfinished.unlink(missing_ok=True)
        return described

    def fetch(self, name: str, scratch: Path) -> Path:
        file = join_safely(self._folder, name, self.address)
        if not file.is_file():
            raise NotFoundError(f"there is no file {file}", code="store.not-found", address=f"{self.address}/{name}")
        return file

    def rename(self, name: str, new: str) -> None:
        source, target = (join_safely(self._folder, path, self.address) for path in (name, new))
        with report_storage_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            source.replace(target)
            with contextlib.suppress(OSError):  # others have files there
                if source.parent != self._folder:
                    source.parent.rmdir()

    def list(self, folder: str) -> list[str]:
        files = (self._folder / folder).rglob("*")
        return sorted(file.relative_to(self._folder).as_posix() for file in files if file.is_file())

    def remove(self, names: Iterable[str]) -> None:
        for name in names:
            file = join_safely(self._folder, name, self.address)
            file.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # others have files there, or it is gone
                if file.parent != self._folder:
                    file.parent.rmdir()


class StagedInBucket:
    """A place in a bucket; see `StagedFiles`.

    Parameters
    ----------
    bucket
        The bucket.
    prefix
        The beginning of the objects' names, with a ``/`` at its end.
    scratch
        A folder of this machine for files on their way. None: the system's temporary folder.
    """

    def __init__(self, bucket: Bucket, prefix: str, scratch: Path | None = None) -> None:
        self._bucket, self._prefix, self._scratch = bucket, prefix, scratch
        self.address = bucket.address(prefix)

    def write(self, name: str, fill: Fill) -> Json:
        check_name(name, self.address)
        with tempfile.TemporaryDirectory(prefix="endcap-", dir=self._scratch) as folder:
            file = Path(folder) / "file"
            with report_storage_errors(file):
                fill(file)
                described = describe_file(file)
            with file.open("rb") as handle:
                self._bucket.upload(f"{self._prefix}{name}", handle, described["sha256"])
        return described

    def fetch(self, name: str, scratch: Path) -> Path:
        check_name(name, self.address)
        file = scratch / uuid.uuid4().hex
        self._bucket.download(f"{self._prefix}{name}", file)
        return file

    def rename(self, name: str, new: str) -> None:
        for path in (name, new):
            check_name(path, self.address)
        self._bucket.copy(f"{self._prefix}{name}", f"{self._prefix}{new}")
        self.remove([name])

    def list(self, folder: str) -> list[str]:
        below = f"{self._prefix}{folder}/" if folder else self._prefix
        return sorted(blob.name.removeprefix(self._prefix) for blob in self._bucket.list(below))

    def remove(self, names: Iterable[str]) -> None:
        self._bucket.remove(f"{self._prefix}{name}" for name in names)
