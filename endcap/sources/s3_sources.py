"""Source files in a bucket: each is copied to this machine when its bytes are needed, and then read like any file.

A copy is identified by the object's address and etag, so an unchanged object is not fetched again. Messages and
fingerprints use the object's address and content, never the place of the copy (`endcap.store.cache`).
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from endcap.errors import DataError, NotFoundError
from endcap.safe_reading import open_regular
from endcap.sources.source_index import ListedFile
from endcap.store import fingerprint, report_storage_errors
from endcap.store.cache import find_cache_folder, lock_copy

if TYPE_CHECKING:
    from endcap.store.bucket import Blob, Bucket

SCHEME = "s3://"
SETTLED = timedelta(minutes=20)
"""An object's age when it is fetched from which its etag stands for its content, whatever kind of etag it is: a busy
server may send old bytes with the new etag. Clocks differ by less, or the server refuses all requests."""
_MAGIC = re.compile(r"[*?[]")
_TOKENS = re.compile(r"(?P<folders>\*\*/)|(?P<all>\*\*)|(?P<part>\*)|(?P<one>\?)|(?P<set>\[!?\]?[^\]/]*\])|(?P<text>.)")


@dataclass(frozen=True)
class RemoteObject:
    """An object of a bucket as it was at the search. It is copied to this machine when its bytes are needed.

    Attributes
    ----------
    name
        Its address.
    endpoint
        The server's URL.
    bytes
        Its size.
    etag
        The server's mark of its content.
    changed
        When it was written; None if the server does not say.
    """

    name: str
    endpoint: str
    bytes: int
    etag: str
    changed: datetime | None = field(default=None, compare=False)

    @property
    def mark(self) -> str:
        """Its state: another content has another, once the object is settled."""
        return f"{self.bytes} {self.etag} {self.endpoint}"

    def fetch(self) -> Path:
        """Return a copy on this machine. Raises DataError if the object was replaced, StorageError."""
        fetch_listed([self])
        return _find_copy(self)

    def is_unchanged(self) -> bool:
        """Tell whether the copy is whole: it was fetched under the condition that the etag is still the same."""
        return _is_complete(_find_copy(self), self)

    def is_settled(self) -> bool:
        """Tell whether the etag stands for the bytes of the copy. Raises OSError."""
        copy = _find_copy(self)
        fetched = datetime.fromtimestamp(copy.stat().st_mtime, UTC)
        if self.etag and self.changed is not None and fetched - self.changed > SETTLED:
            return True
        with open_regular(copy) as handle:
            return hashlib.file_digest(handle, _md5).hexdigest() == self.etag


def find_objects(place: str) -> tuple[list[RemoteObject], bool]:
    """Return the objects of an address, by name, and whether it names them itself (an object or a glob, no folder).

    Names that begin with . or _ do not count, as in folders. Raises UserError, StorageError.
    """
    bucket, path = _open_bucket(place)
    single = bucket.stat(path) if path else None
    if single is not None:
        return [_make_object(bucket, single)], True
    magic = _MAGIC.search(path)
    if magic:
        pattern = re.compile(translate_glob(path), re.DOTALL)
        blobs = [blob for blob in bucket.list(path[: magic.start()]) if pattern.fullmatch(blob.name)]
    else:
        prefix = f"{path}/" if path else ""
        blobs = [blob for blob in bucket.list(prefix) if not _is_hidden(blob.name.removeprefix(prefix))]
    files = [blob for blob in blobs if not blob.name.endswith("/")]  # such are folders made by a console
    return [_make_object(bucket, blob) for blob in sorted(files, key=lambda b: b.name)], magic is not None


def fetch_listed(files: Iterable[ListedFile], progress: Callable[[str], None] = lambda line: None) -> None:
    """Copy those files to this machine that lie in a bucket and are not here.

    Raises DataError if an object was replaced, StorageError.
    """
    copies = {file: _find_copy(file) for file in files if isinstance(file, RemoteObject)}
    missing: dict[str, list[RemoteObject]] = {}
    for entry, copy in copies.items():
        if not _is_complete(copy, entry):
            missing.setdefault(entry.name.removeprefix(SCHEME).partition("/")[0], []).append(entry)
    for entries in missing.values():
        from endcap.store.bucket import run_parallel  # imported here for its cost, as in `_open_bucket`

        bucket, _ = _open_bucket(entries[0].name)
        size = sum(entry.bytes for entry in entries) / 1e6
        progress(f"fetching {len(entries)} objects of {bucket.address()}, {size:,.1f} MB")
        for _ in run_parallel(functools.partial(_fetch, bucket, copies), entries):
            pass


def translate_glob(pattern: str) -> str:
    """Return a glob as a regular expression with the meaning of `glob.glob(recursive=True)`."""

    def of(token: re.Match[str]) -> str:
        kind, text = str(token.lastgroup), token[0]
        if kind == "set":
            return f"[{'^/' if text[1] == '!' else ''}{re.escape(text[1:-1].lstrip('!')).replace(chr(92) + '-', '-')}]"
        kinds = {"folders": r"(?:[^/.][^/]*/)*", "all": ".*", "part": "[^/]*", "one": "[^/]"}
        return kinds.get(kind, re.escape(text))

    return "".join(of(token) for token in _TOKENS.finditer(pattern))


def _open_bucket(address: str) -> tuple[Bucket, str]:
    # The client costs half a second to import.
    from endcap.store.bucket import Bucket
    from endcap.store.s3 import split_address
    from endcap.store.s3_settings import read_s3_settings

    name, path = split_address(address)
    return Bucket(name, read_s3_settings()), path


def _make_object(bucket: Bucket, blob: Blob) -> RemoteObject:
    return RemoteObject(bucket.address(blob.name), bucket.settings.endpoint, blob.bytes, blob.etag, blob.changed)


def _find_copy(entry: RemoteObject) -> Path:
    return find_cache_folder() / "sources" / fingerprint(entry.endpoint, entry.name, entry.etag)


def _md5() -> Any:
    return hashlib.md5(usedforsecurity=False)


def _is_hidden(path: str) -> bool:
    return any(part[:1] in (".", "_") for part in path.split("/"))


def _is_complete(copy: Path, entry: RemoteObject) -> bool:
    return copy.is_file() and copy.stat().st_size == entry.bytes


def _fetch(bucket: Bucket, copies: Mapping[RemoteObject, Path], entry: RemoteObject) -> None:
    copy = copies[entry]
    part = copy.with_name(f"{copy.name}.part")
    with report_storage_errors(f"{copy.parent} (for {entry.name})"), lock_copy(copy):
        if _is_complete(copy, entry):  # another process was quicker
            return
        try:
            bucket.download(entry.name.removeprefix(f"{bucket.address()}/"), part, etag=entry.etag)
        except NotFoundError:
            part.unlink(missing_ok=True)
            raise DataError(
                f"{entry.name} was replaced or removed while it was read; run again when nothing writes to it",
                code="events.file-changed",
                path=entry.name,
            ) from None
        if part.stat().st_size != entry.bytes:
            part.unlink()
            raise DataError(
                f"{entry.name} came with another size than it is listed with; run again",
                code="events.file-changed",
                path=entry.name,
            )
        part.replace(copy)
