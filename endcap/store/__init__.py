"""Immutable, fingerprinted artifacts and a few small mutable documents, by address."""

from pathlib import Path

from endcap.errors import UserError
from endcap.store.base import CHECKPOINT, Draft, Store, content_key
from endcap.store.code import code_fingerprint
from endcap.store.contents import check_folder, digest_of, storage_errors
from endcap.store.documents import opened, release, stamped
from endcap.store.fingerprint import fingerprint
from endcap.store.folder import FolderStore

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


def open_store(url: str) -> Store:
    """The store at `url`: a folder's path, a ``file://`` address, or ``s3://bucket/prefix``.

    Raises UserError where the address, or what the environment says of the S3 server, is wrong; StorageError.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        return FolderStore(Path(url))
    if scheme == "file":
        return FolderStore(Path(rest))
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
