"""A store that is empty at first: what is rebuilt lies in it, and no result of the original can be met in its place."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Sequence
from pathlib import Path

from endcap.store import Store, get_content_key
from endcap.store.base import Json
from endcap.store.folder import FolderStore


class CleanStore(FolderStore):
    """A store in an empty folder, through which a few artifacts of another store can be read.

    Parameters
    ----------
    folder
        The folder.
    origin
        The other store. Nothing is written to it.
    inputs
        Addresses of the artifacts of the other store that may be read. `find` finds none of them.
    """

    def __init__(self, folder: Path, origin: Store, inputs: Collection[str]) -> None:
        super().__init__(folder)
        self.origin = origin
        self._inputs = frozenset(map(get_content_key, inputs))

    def fetch(self, address: str, *, verify: bool = False, names: Sequence[str] | None = None) -> Path:
        """See `Store`. An input's checksums are always compared: a damaged one would be taken for another model."""
        if get_content_key(address) in self._inputs:
            return self.origin.fetch(address, verify=True, names=names)
        return super().fetch(address, verify=verify, names=names)

    def manifest(self, address: str) -> Json:
        """See `Store`."""
        if get_content_key(address) in self._inputs:
            return self.origin.manifest(address)
        return super().manifest(address)

    def copy(self, address: str) -> str:
        """Copy an artifact of the other store, and return its address here."""
        kind, _, key = get_content_key(address).rpartition("/")
        with self.publish(kind, key) as draft:
            shutil.copytree(self.origin.fetch(address, verify=True), draft.path, dirs_exist_ok=True)
            (draft.path / "manifest.json").unlink(missing_ok=True)
            draft.facts |= self.origin.manifest(address)["facts"]
        return draft.address
