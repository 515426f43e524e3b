"""Where the intake's files lie: in a folder, or in a bucket. Both list the files of a day, and read them."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from endcap.errors import StorageError
from endcap.store import report_storage_errors

if TYPE_CHECKING:
    from endcap.store.bucket import Bucket

SUFFIX = ".parquet"
_NAME = re.compile(r"(.+)-(\d{12})\.parquet")
_FILE, _S3 = "file://", "s3://"


@dataclass(frozen=True)
class FeedFile:
    """A file of the intake.

    Attributes
    ----------
    day
        Its folder, such as ``events/date=2026-01-31``.
    name
        Its name in the folder. The intake names a file ``<instance>-<number>.parquet``, and an instance's numbers rise.
    etag
        In a bucket: the server's mark of the content that was listed.
    """

    day: str
    name: str
    etag: str = ""

    @property
    def number(self) -> tuple[str, int] | None:
        """The instance and the number in the name; None if the intake did not make the name."""
        match = _NAME.fullmatch(self.name)
        return (match[1], int(match[2])) if match else None


class FeedPlace(Protocol):
    """A place with a folder for each kind and day, ``<kind>/date=<day>/``."""

    def list_days(self, kind: str) -> list[str]:
        """List the folders of a kind, such as ``events/date=2026-01-31``, in any order."""

    def list_files(self, day: str, highest: Mapping[str, int]) -> list[FeedFile]:
        """List the Parquet files of a day in the order of their names.

        Parameters
        ----------
        day
            The folder.
        highest
            The highest number of each instance that is known. Files of the instance up to this number may be missing
            in the list. Empty: none are.
        """

    def read(self, files: Sequence[FeedFile]) -> Iterator[tuple[FeedFile, pa.Table]]:
        """Read files in their order, a few at a time.

        Raises
        ------
        StorageError
            A file is no Parquet file, or cannot be read.
        NotFoundError
            In a bucket: the file was removed or replaced since it was listed.
        """


def open_feed_place(address: str) -> FeedPlace:
    """Open the place at an address: a folder, ``file:///…`` or ``s3://bucket/prefix``."""
    if not address.startswith(_S3):
        return FolderFeedPlace(Path(address.removeprefix(_FILE)))
    # The client costs half a second to import.
    from endcap.store.bucket import Bucket
    from endcap.store.s3 import split_address
    from endcap.store.s3_settings import read_s3_settings

    bucket, prefix = split_address(address)
    return BucketFeedPlace(Bucket(bucket, read_s3_settings()), prefix)


class FolderFeedPlace:
    """A folder of this machine. A list of a folder costs nothing, so it is always whole."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def list_days(self, kind: str) -> list[str]:
        return [f"{kind}/{folder.name}" for folder in (self._folder / kind).glob("date=*")]

    def list_files(self, day: str, highest: Mapping[str, int]) -> list[FeedFile]:
        return [FeedFile(day, file.name) for file in sorted((self._folder / day).glob(f"*{SUFFIX}"))]

    def read(self, files: Sequence[FeedFile]) -> Iterator[tuple[FeedFile, pa.Table]]:
        for file in files:
            place = self._folder / file.day / file.name
            yield file, _read_table(place, str(place))


class BucketFeedPlace:
    """A bucket of an S3 server, which lists names in their order, from any name on.

    Parameters
    ----------
    bucket
        The bucket.
    prefix
        The beginning of the names, without a ``/`` at its end; empty: the whole bucket.
    """

    def __init__(self, bucket: Bucket, prefix: str) -> None:
        self._bucket, self._prefix = bucket, f"{prefix}/" if prefix else ""

    def list_days(self, kind: str) -> list[str]:
        below = self._bucket.list(f"{self._prefix}{kind}/date=", recursive=False)
        return [blob.name.removeprefix(self._prefix).rstrip("/") for blob in below if blob.name.endswith("/")]

    def list_files(self, day: str, highest: Mapping[str, int]) -> list[FeedFile]:
        return [file for file in self._walk(day, highest) if file.name.endswith(SUFFIX) and "/" not in file.name]

    def _walk(self, day: str, highest: Mapping[str, int]) -> Iterator[FeedFile]:
        """List a folder page by page, and jump behind the highest known number of each instance."""
        from endcap.store.bucket import PAGE

        folder, after = f"{self._prefix}{day}/", ""
        while page := self._bucket.list_page(folder, after=f"{folder}{after}" if after else ""):
            for blob in page:
                file = FeedFile(day, after := blob.name.removeprefix(folder), blob.etag)
                if file.number is not None and file.number[1] <= highest.get(file.number[0], -1):
                    after = f"{file.number[0]}-{highest[file.number[0]]:012d}{SUFFIX}"
                    break
                yield file
            else:
                if len(page) < PAGE:
                    return

    def read(self, files: Sequence[FeedFile]) -> Iterator[tuple[FeedFile, pa.Table]]:
        from endcap.store.bucket import PARALLEL_FILES, run_parallel

        for begin in range(0, len(files), PARALLEL_FILES):
            several = files[begin : begin + PARALLEL_FILES]
            yield from zip(several, run_parallel(self._download, several), strict=True)

    def _download(self, file: FeedFile) -> pa.Table:
        name = f"{self._prefix}{file.day}/{file.name}"
        address = self._bucket.address(name)
        with report_storage_errors(f"a copy of {address}"), tempfile.TemporaryDirectory(prefix="endcap-") as folder:
            copy = Path(folder) / file.name
            self._bucket.download(name, copy, etag=file.etag)
            return _read_table(copy, address)


def _read_table(file: Path, address: str) -> pa.Table:
    try:
        return pq.ParquetFile(file).read()
    except (OSError, pa.ArrowException) as error:
        raise StorageError(
            f"{address} cannot be read ({error}); look at the disk or the bucket, and restore the file or move it away",
            code="rollout.feed-unreadable",
            file=address,
            reason=str(error),
        ) from None
