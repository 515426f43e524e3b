"""Where sealed records go: a folder or a bucket. A file appears whole or not at all, and replaces one of its name."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from endcap.errors import UserError
from endcap.store.artifact_files import sync_folder


class Destination(Protocol):
    """A place for Parquet files.

    `put` raises OSError or EndcapError if the place cannot be written to. The same call may succeed later.
    """

    def put(self, name: str, table: pa.Table) -> None:
        """Write a table as Parquet.

        Parameters
        ----------
        name
            The file's name, such as ``events/date=2026-01-31/a-1.parquet``.
        table
            The rows.
        """


class FolderDestination:
    """A folder of this machine. It is made if it does not exist."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def put(self, name: str, table: pa.Table) -> None:
        """Write a draft and move it to its name. See `Destination.put`."""
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        # Readers skip names that begin with a dot. Each name has one draft, so the draft of a killed write is replaced.
        draft = file.with_name(f".{file.name}.draft")
        try:
            _write(table, draft)
            draft.replace(file)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        sync_folder(file.parent)
        sync_folder(file.parent.parent)


class BucketDestination:
    """A bucket with the S3 protocol.

    Parameters
    ----------
    address
        ``s3://bucket/prefix``.
    staging
        A folder of this machine, where a file is written before it is sent.
    """

    def __init__(self, address: str, staging: Path) -> None:
        # The client costs half a second to import.
        from endcap.store.bucket import Bucket
        from endcap.store.s3 import split_address
        from endcap.store.s3_settings import read_s3_settings

        name, prefix = split_address(address)
        self._bucket, self._prefix = Bucket(name, read_s3_settings()), f"{prefix}/" if prefix else ""
        self._draft = staging / ".sending.parquet"
        # A process that was killed while it sent may have left its draft.
        self._draft.unlink(missing_ok=True)
        self._bucket.check(f"{self._prefix}.endcap")

    def put(self, name: str, table: pa.Table) -> None:
        """Write a local draft and upload it. See `Destination.put`."""
        try:
            _write(table, self._draft)
            with self._draft.open("rb") as handle:
                sha256 = hashlib.file_digest(handle, "sha256").hexdigest()
                # A bucket shows an object only when all of it has arrived.
                self._bucket.upload(f"{self._prefix}{name}", handle, sha256)
        finally:
            with contextlib.suppress(OSError):
                self._draft.unlink(missing_ok=True)


def open_destination(address: str, staging: Path) -> Destination:
    """Open the destination at an address.

    Parameters
    ----------
    address
        A folder, or ``s3://bucket/prefix``.
    staging
        A folder of this machine, where a file is written before it is sent to a bucket.

    Raises
    ------
    UserError
        The address is neither.
    StorageError, OSError
        The folder or the bucket cannot be used.
    """
    scheme, separator, path = address.partition("://")
    if scheme == "s3" and separator:
        return BucketDestination(address, staging)
    if separator and scheme != "file":
        raise UserError(
            f"--out: found {address}; allowed: a folder or s3://bucket/prefix",
            code="intake.out-unknown",
            found=address,
        )
    return FolderDestination(Path(path if separator else address).absolute())


def _write(table: pa.Table, file: Path) -> None:
    """Write a table as Parquet, durably."""
    pq.write_table(table, file, compression="zstd")
    with file.open("rb") as handle:
        os.fsync(handle.fileno())
