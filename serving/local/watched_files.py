"""Files that Envoy watches: what each file told Envoy, and whether Envoy can still see the files."""

from __future__ import annotations

import json
import os
from pathlib import Path

from endcap_serving.gateway import routes
from endcap_serving.gateway.clusters import Json
from endcap_serving.local.process import open_private

_REMEMBERED = 8


class WatchedFiles:
    """Resources in files of a folder. Each writing has a version, which Envoy shows when it has read it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._version = 0
        self._sent: dict[str, list[tuple[list[Json], str]]] = {}
        # The run folder may have vanished since it was restored. It must not come back readable to others.
        for level in (folder.parent, folder):
            level.mkdir(exist_ok=True, mode=0o700)
        # Held, so that no other folder can be mistaken for it: numbers of removed ones are given again.
        self._folder_descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)

    @property
    def is_watched(self) -> bool:
        """Whether the folder is the one that Envoy watches: one that was removed and made again is not."""
        try:
            return os.path.samestat(self._folder.stat(), os.fstat(self._folder_descriptor))
        except OSError:
            return False

    def close(self) -> None:
        """Once nobody watches any more."""
        if self._folder_descriptor >= 0:
            os.close(self._folder_descriptor)
            self._folder_descriptor = -1

    def put(self, name: str, resources: list[Json]) -> set[str]:
        """Write resources into the file, unless they stand there; the versions that have these. Raises OSError.

        Envoy passes over resources that are as before, whatever their version: it goes on showing the version that it
        had them by first.
        """
        sent = self._sent.setdefault(name, [])
        if not sent or sent[-1][0] != resources:
            version = str(self._version + 1)
            # It reads a watched file when another is moved onto it.
            draft = self._folder / f".{name}"
            write_private_file(draft, json.dumps(routes.build_response(resources, version), indent=1))
            draft.replace(self._folder / name)
            self._version += 1
            sent.append((resources, version))
            del sent[:-_REMEMBERED]
        return {version for sent_resources, version in sent if sent_resources == resources}


def write_private_file(file: Path, text: str) -> None:
    """For nobody else to read: it may name who is asked for."""
    with open(file, "w", opener=open_private) as handle:
        handle.write(text)
