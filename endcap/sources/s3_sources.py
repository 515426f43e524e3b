"""Source files in a bucket: copied to this machine once, and then read as any file.

A copy is known by the object's address and etag, so that what did not change is not fetched again. Where copies lie
(`endcap.store.cache`) shows nowhere: files are told of, and fingerprinted, by their addresses and their content.
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
    """An object, and the bytes and etag that it was found with."""

    address: str
    bytes: int
    etag: str


def find_objects(place: str) -> tuple[list[RemoteObject], bool]:
    """The objects that an address means, by name; and whether each was meant: an object or a glob, not a folder.

    As with folders, names that begin with . or _ are passed over. Raises UserError, StorageError.
    """
    bucket, path = _open_bucket(place)
    one = bucket.stat(path) if path else None
    if one is not None:
        return [RemoteObject(bucket.address(path), one.bytes, one.etag)], True
    magic = _MAGIC.search(path)
    if magic:
        pattern = re.compile(translate_glob(path), re.DOTALL)
        blobs = [blob for blob in bucket.list(path[: magic.start()]) if pattern.fullmatch(blob.name)]
    else:
        prefix = f"{path}/" if path else ""
        blobs = [blob for blob in bucket.list(prefix) if not _is_hidden(blob.name.removeprefix(prefix))]
    found = [blob for blob in blobs if not blob.name.endswith("/")]  # such are folders made by a console
    return [
        RemoteObject(bucket.address(blob.name), blob.bytes, blob.etag) for blob in sorted(found, key=lambda b: b.name)
    ], (magic is not None)


def fetch_objects(objects: Sequence[RemoteObject], progress: Callable[[str], None]) -> list[Path]:
    """A copy of each on this machine. Raises DataError where one was replaced meanwhile, StorageError."""
    from endcap.store.bucket import run_parallel

    folder = find_cache_folder() / "sources"
    if not objects:
        return []
    bucket, _ = _open_bucket(objects[0].address)
    copies = {one: folder / fingerprint(bucket.settings.endpoint, one.address, one.etag) for one in objects}
    missing = [one for one, copy in copies.items() if not _is_complete(copy, one)]
    if missing:
        size = sum(one.bytes for one in missing) / 1e6
        progress(f"fetching {len(missing)} objects of {bucket.address()}, {size:,.1f} MB")
    for _ in run_parallel(lambda one: _fetch(bucket, one, copies[one]), missing):
        pass
    return list(copies.values())


def translate_glob(pattern: str) -> str:
    """A glob as a regular expression, as `glob.glob(recursive=True)` reads it: ``**/`` is any number of folders."""

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


def _is_complete(copy: Path, one: RemoteObject) -> bool:
    return copy.is_file() and copy.stat().st_size == one.bytes


def _fetch(bucket: Bucket, one: RemoteObject, copy: Path) -> None:
    part = copy.with_name(f"{copy.name}.part")
    with report_storage_errors(f"{copy.parent} (for {one.address})"), lock_copy(copy):
        if _is_complete(copy, one):  # another process was quicker
            return
        try:
            bucket.download(one.address.removeprefix(f"{bucket.address()}/"), part, etag=one.etag)
        except NotFoundError:
            part.unlink(missing_ok=True)
            raise DataError(
                f"{one.address} was replaced or removed while it was read; run again when nothing writes to it",
                code="events.file-changed",
                path=one.address,
            ) from None
        if part.stat().st_size != one.bytes:
            part.unlink()
            raise DataError(
                f"{one.address} came with another size than it is listed with; run again",
                code="events.file-changed",
                path=one.address,
            )
        part.replace(copy)
