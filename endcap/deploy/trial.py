"""Trying a change of the desired state without making it."""

from __future__ import annotations

from typing import Any, cast

from endcap.store import Store

Json = dict[str, Any]


class _Trial:
    """A store whose documents are written to memory; everything else is the store's own."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._written: dict[str, Json] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def read_document(self, name: str) -> Json | None:
        return self._written.get(name) or self._store.read_document(name)

    def write_document(self, name: str, document: Json) -> None:
        self._written[name] = document


def trial_store(store: Store) -> Store:
    """The same store, in which no document is changed."""
    return cast(Store, _Trial(store))
