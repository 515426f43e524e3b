"""Immutable, fingerprinted artifacts and a few small mutable documents, by address."""

from pathlib import Path

from endcap.errors import UserError
from endcap.store.base import CHECKPOINT, Draft, Store, content_key
from endcap.store.code import code_fingerprint
from endcap.store.contents import check_folder, digest_of, storage_errors
from endcap.store.documents import opened, release, stamped
from endcap.store.fingerprint import fingerprint
from endcap.store.folder import FolderStore
from endcap.store.looking import Readable, looking

__all__ = [
    "CHECKPOINT",
    "Draft",
    "Store",
    "check_folder",
    "code_fingerprint",
    "content_key",
    "digest_of",
    "fingerprint",
    "open_store",
    "opened",
    "release",
    "stamped",
    "storage_errors",
]


def open_store(url: str, *, create: bool = True) -> Store:
    """The store at `url`: a folder's path, a ``file://`` address, or ``s3://bucket/prefix``.

    create: make the folder that is not there; else NotFoundError. Within `only_look` the store can only be read. Raises
    UserError where the address, or what the environment says of the S3 server, is wrong; StorageError.
    """
    store = _opened(url, create)
    return Readable(store) if looking() else store


def _opened(url: str, create: bool) -> Store:
    scheme, separator, rest = url.partition("://")
    if not separator:
        return FolderStore(Path(url), create=create)
    if scheme == "file":
        return FolderStore(Path(rest), create=create)
    if scheme == "s3":
        # The client costs half a second to import.
        from endcap.store.bucket import Bucket
        from endcap.store.s3 import S3Store, split_address
        from endcap.store.s3_settings import from_environment

        bucket, prefix = split_address(url)
        return S3Store(Bucket(bucket, from_environment()), prefix)
    raise UserError(
        f"store {url!r}: scheme {scheme!r} is not known; allowed: a folder's path, file:///… or s3://bucket/prefix",
        code="store.scheme-unknown",
        address=url,
        found=scheme,
        allowed=["file", "s3"],
    )
