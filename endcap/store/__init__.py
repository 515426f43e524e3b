"""Immutable, fingerprinted artifacts and a few small mutable documents, by address."""

from endcap.store.base import Draft, Store, content_key, open_store
from endcap.store.fingerprint import code_fingerprint, fingerprint
from endcap.store.folder import storage_errors

__all__ = ["Draft", "Store", "code_fingerprint", "content_key", "fingerprint", "open_store", "storage_errors"]
