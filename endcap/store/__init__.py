"""Immutable, fingerprinted artifacts and a few small mutable documents, by address."""

from pathlib import Path

from endcap.errors import UserError
from endcap.store.base import Draft, Store, content_key
from endcap.store.fingerprint import code_fingerprint, fingerprint
from endcap.store.folder import FolderStore, storage_errors

__all__ = ["Draft", "Store", "code_fingerprint", "content_key", "fingerprint", "open_store", "storage_errors"]


def open_store(url: str) -> Store:
    """The store at `url`: a folder's path or ``file://`` address."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return FolderStore(Path(url))
    if scheme == "file":
        return FolderStore(Path(rest))
    raise UserError(f"store {url!r}: scheme {scheme!r} is not known; allowed: a folder's path or file:///…")
