"""Where sealed records go: a folder, or a bucket. A file appears whole or not at all; the same name is replaced."""

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
    """Raises OSError or EndcapError where it cannot be written to; the same again may go well later."""

    def put(self, name: str, table: pa.Table) -> None:
        """Write a table as Parquet under a name such as events/date=2026-01-31/a-1.parquet."""


class FolderDestination:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def put(self, name: str, table: pa.Table) -> None:
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        # Readers pass over names that begin with a dot. One draft a name: a killed write's is written over.
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
    """staging: a folder of this machine, where a file is written before it is sent."""

    def __init__(self, address: str, staging: Path) -> None:
        # The client costs half a second to import.
        from endcap.store.bucket import Bucket
        from endcap.store.s3 import split_address
        from endcap.store.s3_settings import read_s3_settings

        name, prefix = split_address(address)
        self._bucket, self._prefix = Bucket(name, read_s3_settings()), f"{prefix}/" if prefix else ""
        self._draft = staging / ".sending.parquet"
        # Of a process that was killed as it sent.
        self._draft.unlink(missing_ok=True)
        self._bucket.check(f"{self._prefix}.endcap")

    def put(self, name: str, table: pa.Table) -> None:
        try:
            _write(table, self._draft)
            with self._draft.open("rb") as handle:
                sha256 = hashlib.file_digest(handle, "sha256").hexdigest()
                # A bucket shows an object when all of it has come.
                self._bucket.upload(f"{self._prefix}{name}", handle, sha256)
        finally:
            with contextlib.suppress(OSError):
                self._draft.unlink(missing_ok=True)


def open_destination(address: str, staging: Path) -> Destination:
    """address: a folder, or ``s3://bucket/prefix``. Raises UserError, StorageError, OSError."""
    scheme, separator, rest = address.partition("://")
    if scheme == "s3" and separator:
        return BucketDestination(address, staging)
    if separator and scheme != "file":
        raise UserError(
            f"--out: found {address}; allowed: a folder or s3://bucket/prefix",
            code="intake.out-unknown",
            found=address,
        )
    return FolderDestination(Path(rest if separator else address).absolute())


def _write(table: pa.Table, file: Path) -> None:
    pq.write_table(table, file, compression="zstd")
    with file.open("rb") as handle:
        os.fsync(handle.fileno())
