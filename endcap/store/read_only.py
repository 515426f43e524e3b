"""A store that can only be read. A step that runs on it shows whether it would make anything."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from datetime import datetime
from pathlib import Path

from endcap.store.base import Draft, Hold, Json, Store, T
from endcap.store.uses import ArtifactUse

_READ_ONLY: ContextVar[bool] = ContextVar("looking", default=False)


class WriteAttempt(BaseException):
    """A step tried to write. It is no `Exception`, so that no handler of errors catches it: the look ends here."""


@contextlib.contextmanager
def forbid_writes() -> Iterator[None]:
    """Open every store read-only inside the block: an attempt to write raises `WriteAttempt`."""
    token = _READ_ONLY.set(True)
    try:
        yield
    finally:
        _READ_ONLY.reset(token)


def is_read_only() -> bool:
    """Tell whether stores are opened read-only now."""
    return _READ_ONLY.get()


class ReadOnlyStore:
    """A `Store` whose reading methods work and whose writing methods raise `WriteAttempt`."""

    def __init__(self, store: Store) -> None:
        self._store, self.root = store, store.root

    def find(self, kind: str, key: str) -> str | None:
        return self._store.find(kind, key)

    def fetch(self, address: str, *, verify: bool = False, names: Sequence[str] | None = None) -> Path:
        return self._store.fetch(address, verify=verify, names=names)

    def resolve(self, address: str, *, digest: str = "") -> str:
        return self._store.resolve(address, digest=digest)

    def translate(self, value: T) -> T:
        return self._store.translate(value)

    def lies_at(self, address: str) -> bool:
        return self._store.lies_at(address)

    def manifest(self, address: str) -> Json:
        return self._store.manifest(address)

    def list(self, kind: str) -> list[str]:
        return self._store.list(kind)

    def list_kinds(self, kind: str) -> Sequence[str]:
        return self._store.list_kinds(kind)

    def list_uses(self, kind: str) -> Sequence[ArtifactUse]:
        return self._store.list_uses(kind)

    def remove(self, address: str, *, unused_since: datetime) -> bool:
        raise WriteAttempt

    def erase(self, address: str) -> bool:
        raise WriteAttempt

    def read_document(self, name: str) -> Json | None:
        return self._store.read_document(name)

    def get_document_mark(self, name: str) -> str | None:
        return self._store.get_document_mark(name)

    def list_documents(self, folder: str) -> Sequence[str]:
        return self._store.list_documents(folder)

    def publish(self, kind: str, key: str) -> contextlib.AbstractContextManager[Draft]:
        raise WriteAttempt

    @contextlib.contextmanager
    def workspace(self, kind: str, key: str, progress: Callable[[str], None] = lambda line: None) -> Iterator[Path]:
        """Give a folder only if the artifact exists: the caller then finds it again and leaves the folder alone."""
        if self.find(kind, key) is None:
            raise WriteAttempt
        yield Path("/nonexistent")

    def work_folder(self, kind: str, key: str) -> Path:
        raise WriteAttempt

    def write_document(self, name: str, document: Json) -> None:
        raise WriteAttempt

    def update_document(self, name: str, change: Callable[[Json | None], Json], *, repair: bool = False) -> Json:
        raise WriteAttempt

    def hold(self, name: str) -> contextlib.AbstractContextManager[Hold]:
        raise WriteAttempt
