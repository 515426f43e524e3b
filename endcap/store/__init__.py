"""Immutable, fingerprinted artifacts and a few small mutable documents, by address."""

from endcap.store.base import Draft, Store, open_store
from endcap.store.fingerprint import code_fingerprint, fingerprint
from endcap.store.folder import storage_errors

__all__ = ["Draft", "Store", "code_fingerprint", "fingerprint", "open_store", "storage_errors"]
