"""Source files in a bucket: each is copied to this machine once and then read like any file.

A copy is identified by the object's address and etag, so an unchanged object is not fetched again. Messages and
fingerprints use the object's address and content, never the place of the copy (`endcap.store.cache`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from endcap.errors import DataError, NotFoundError
from endcap.store import fingerprint, report_storage_errors
from endcap.store.cache import find_cache_folder, lock_copy

if TYPE_CHECKING:
    from endcap.store.bucket import Bucket

SCHEME = "s3://"
_MAGIC = re.compile(r"[*?[]")
_TOKENS = re.compile(r"(?P<folders>\*\*/)|(?P<all>\*\*)|(?P<part>\*)|(?P<one>\?)|(?P<set>\[!?\]?[^\]/]*\])|(?P<text>.)")


@dataclass(frozen=True)
class RemoteObject:
    """An object of a bucket, with its size in bytes and its etag at the search."""

    address: str
    bytes: int
    etag: str


def find_objects(place: str) -> tuple[list[RemoteObject], bool]:
    """Return the objects of an address, by name, and whether it names them itself (an object or a glob, no folder).

    Names that begin with . or _ do not count, as in folders. Raises UserError, StorageError.
    """
    bucket, path = _open_bucket(place)
    single = bucket.stat(path) if path else None
    if single is not None:
        return [RemoteObject(bucket.address(path), single.bytes, single.etag)], True
    magic = _MAGIC.search(path)
    if magic:
        pattern = re.compile(translate_glob(path), re.DOTALL)
        blobs = [blob for blob in bucket.list(path[: magic.start()]) if pattern.fullmatch(blob.name)]
    else:
        prefix = f"{path}/" if path else ""
        blobs = [blob for blob in bucket.list(prefix) if not _is_hidden(blob.name.removeprefix(prefix))]
    files = [blob for blob in blobs if not blob.name.endswith("/")]  # such are folders made by a console
    return [
        RemoteObject(bucket.address(blob.name), blob.bytes, blob.etag) for blob in sorted(files, key=lambda b: b.name)
    ], (magic is not None)


def fetch_objects(objects: Sequence[RemoteObject], progress: Callable[[str], None]) -> list[Path]:
    """Copy objects to this machine and return the copies. Raises DataError if one was replaced, StorageError."""
    from endcap.store.bucket import run_parallel

    folder = find_cache_folder() / "sources"
    if not objects:
        return []
    bucket, _ = _open_bucket(objects[0].address)
    copies = {entry: folder / fingerprint(bucket.settings.endpoint, entry.address, entry.etag) for entry in objects}
    missing = [entry for entry, copy in copies.items() if not _is_complete(copy, entry)]
    if missing:
        size = sum(entry.bytes for entry in missing) / 1e6
        progress(f"fetching {len(missing)} objects of {bucket.address()}, {size:,.1f} MB")
    for _ in run_parallel(lambda entry: _fetch(bucket, entry, copies[entry]), missing):
        pass
    return list(copies.values())


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


def _is_hidden(path: str) -> bool:
    return any(part[:1] in (".", "_") for part in path.split("/"))


def _is_complete(copy: Path, entry: RemoteObject) -> bool:
    return copy.is_file() and copy.stat().st_size == entry.bytes


def _fetch(bucket: Bucket, entry: RemoteObject, copy: Path) -> None:
    part = copy.with_name(f"{copy.name}.part")
    with report_storage_errors(f"{copy.parent} (for {entry.address})"), lock_copy(copy):
        if _is_complete(copy, entry):  # another process was quicker
            return
        try:
            bucket.download(entry.address.removeprefix(f"{bucket.address()}/"), part, etag=entry.etag)
        except NotFoundError:
            part.unlink(missing_ok=True)
            raise DataError(
                f"{entry.address} was replaced or removed while it was read; run again when nothing writes to it",
                code="events.file-changed",
                path=entry.address,
            ) from None
        if part.stat().st_size != entry.bytes:
            part.unlink()
            raise DataError(
                f"{entry.address} came with another size than it is listed with; run again",
                code="events.file-changed",
                path=entry.address,
            )
        part.replace(copy)
