"""Where samples lie: a folder or a bucket, as ``<address>/<recommender>/date=YYYY-MM-DD/<file>``.

A file appears whole or not at all. Files are small, so they pass through memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from endcap.errors import UserError
from endcap.store.artifact_files import sync_folder


class SamplePlace(Protocol):
    """A place for files. Names are relative to it. Every method may raise OSError or EndcapError."""

    def write(self, name: str, content: bytes) -> None:
        """Write a file in one step, over one of its name."""

    def read(self, name: str) -> bytes | None:
        """Return a file's content; None if there is none of that name."""

    def exists(self, name: str) -> bool:
        """Return whether there is a file of that name."""

    def list(self, prefix: str) -> Sequence[str]:
        """List the files below a folder, by name. The prefix ends in ``/``."""

    def remove(self, names: Iterable[str]) -> None:
        """Remove files. It is no error if one does not exist."""


class FolderPlace:
    """A folder of this machine. See `SamplePlace`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, name: str, content: bytes) -> None:
        """Write a draft, and move it to its name."""
        file = self._folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        # Readers skip names that begin with a dot.
        draft = file.with_name(f".{file.name}.draft")
        draft.write_bytes(content)
        draft.replace(file)
        sync_folder(file.parent)

    def read(self, name: str) -> bytes | None:
        """See `SamplePlace.read`."""
        try:
            return (self._folder / name).read_bytes()
        except FileNotFoundError:
            return None

    def exists(self, name: str) -> bool:
        """See `SamplePlace.exists`."""
        return (self._folder / name).is_file()

    def list(self, prefix: str) -> Sequence[str]:
        """See `SamplePlace.list`."""
        names = (file for file in (self._folder / prefix).rglob("*") if file.is_file())
        return sorted(file.relative_to(self._folder).as_posix() for file in names if not file.name.startswith("."))

    def remove(self, names: Iterable[str]) -> None:
        """Remove files, and folders that are empty then."""
        for name in names:
            file = self._folder / name
            file.unlink(missing_ok=True)
            try:
                file.parent.rmdir()
            except OSError:
                continue  # the folder has other files, or is gone


class BucketPlace:
    """A bucket with the S3 protocol. See `SamplePlace`. address: ``s3://bucket/prefix``."""

    def __init__(self, address: str) -> None:
        # The client costs half a second to import.
        from endcap.store.bucket import Bucket
        from endcap.store.s3 import split_address
        from endcap.store.s3_settings import read_s3_settings

        name, prefix = split_address(address)
        self._bucket, self._prefix = Bucket(name, read_s3_settings()), f"{prefix}/" if prefix else ""

    def write(self, name: str, content: bytes) -> None:
        """See `SamplePlace.write`. A bucket shows an object only when all of it has arrived."""
        self._bucket.write(f"{self._prefix}{name}", content)

    def read(self, name: str) -> bytes | None:
        """See `SamplePlace.read`."""
        stored = self._bucket.read(f"{self._prefix}{name}")
        return None if stored is None else stored[0]

    def exists(self, name: str) -> bool:
        """See `SamplePlace.exists`."""
        return self._bucket.stat(f"{self._prefix}{name}") is not None

    def list(self, prefix: str) -> Sequence[str]:
        """See `SamplePlace.list`."""
        return sorted(blob.name.removeprefix(self._prefix) for blob in self._bucket.list(f"{self._prefix}{prefix}"))

    def remove(self, names: Iterable[str]) -> None:
        """See `SamplePlace.remove`."""
        self._bucket.remove(f"{self._prefix}{name}" for name in names)


def open_place(address: str) -> SamplePlace:
    """Open the place of samples at an address.

    Parameters
    ----------
    address
        A folder, or ``s3://bucket/prefix``. A folder need not exist.

    Raises
    ------
    UserError
        The address is neither, or names no bucket.
    """
    scheme, separator, path = address.partition("://")
    if scheme == "s3" and separator:
        return BucketPlace(address)
    if separator and scheme != "file":
        raise UserError(
            f"{address}: found the scheme {scheme} as the place of request samples; allowed: a folder or "
            "s3://bucket/prefix",
            code="samples.address-unknown",
            found=address,
        )
    return FolderPlace(Path(path if separator else address).absolute())
