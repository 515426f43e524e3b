"""Try a change of the desired state without storing it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, cast

from endcap.store import Store
from endcap.store.base import Hold
from endcap.store.resolution import read_unless_damaged

Json = dict[str, Any]


class _DryRunStore:
    """A store that writes documents to memory. Everything else is the store's own."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._written: dict[str, Json] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def read_document(self, name: str) -> Json | None:
        return self._written[name] if name in self._written else self._store.read_document(name)

    def get_document_mark(self, name: str) -> str | None:
        # What was written in memory is read each time, as if it changed all the time.
        return None if name in self._written else self._store.get_document_mark(name)

    def write_document(self, name: str, document: Json) -> None:
        self._written[name] = document

    def update_document(self, name: str, change: Callable[[Json | None], Json], *, repair: bool = False) -> Json:
        self._written[name] = change(read_unless_damaged(partial(self.read_document, name), repair=repair))
        return self._written[name]

    @contextlib.contextmanager
    def hold(self, name: str) -> Iterator[Hold]:
        yield self

    def check(self) -> None:
        """Nobody else waits for a dry run, so the hold never expires."""


def make_dry_run_store(store: Store) -> Store:
    """Wrap a store so that no document of it changes."""
    return cast(Store, _DryRunStore(store))
