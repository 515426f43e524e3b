"""Immutable, fingerprinted artifacts and a few small mutable documents, by address."""

from pathlib import Path

from endcap.errors import UserError
from endcap.store.artifact_files import check_artifact, digest_manifest, report_storage_errors
from endcap.store.base import CHECKPOINT, Draft, Store, get_content_key
from endcap.store.code import fingerprint_code
from endcap.store.documents import get_release, open_document, stamp_document
from endcap.store.fingerprint import fingerprint
from endcap.store.folder import FolderStore
from endcap.store.read_only import ReadOnlyStore, is_read_only

__all__ = [
    "CHECKPOINT",
    "Draft",
    "Store",
    "check_artifact",
    "digest_manifest",
    "fingerprint",
    "fingerprint_code",
    "get_content_key",
    "get_release",
    "open_document",
    "open_store",
    "report_storage_errors",
    "stamp_document",
]


def open_store(url: str, *, create: bool = True) -> Store:
    """Open the store at an address.

    Parameters
    ----------
    url
        A folder's path, a ``file://`` address, or ``s3://bucket/prefix``.
    create
        Make the folder if it does not exist.

    Returns
    -------
    Store
        The store. Inside `forbid_writes` it can only be read.

    Raises
    ------
    UserError
        The address is malformed, or the environment's settings of the S3 server are.
    NotFoundError
        `create` is false and the folder does not exist.
    StorageError
        The disk or the server refuses.
    """
    store = _opened(url, create)
    return ReadOnlyStore(store) if is_read_only() else store


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
        from endcap.store.s3_settings import read_s3_settings

        bucket, prefix = split_address(url)
        return S3Store(Bucket(bucket, read_s3_settings()), prefix)
    raise UserError(
        f"store {url!r}: scheme {scheme!r} is not known; allowed: a folder's path, file:///… or s3://bucket/prefix",
        code="store.scheme-unknown",
        address=url,
        found=scheme,
        allowed=["file", "s3"],
    )
