"""Files that Envoy watches: what each file said, and whether Envoy can still see the files."""

from __future__ import annotations

import json
import os
from pathlib import Path

from endcap_serving.gateway import routes
from endcap_serving.gateway.clusters import Json
from endcap_serving.local.process import open_private

_REMEMBERED = 8


class WatchedFiles:
    """Envoy's resources in files of a folder. Each write has a version, which Envoy shows when it has read the file.

    Parameters
    ----------
    folder
        The folder, which is made if it does not exist.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._version = 0
        self._sent: dict[str, list[tuple[list[Json], str]]] = {}
        # The run's folder may have been removed since it was restored. Others must not be able to read the new one.
        for level in (folder.parent, folder):
            level.mkdir(exist_ok=True, mode=0o700)
        # The open folder keeps its inode number, so no new folder can be mistaken for it.
        self._folder_descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)

    @property
    def is_watched(self) -> bool:
        """Whether the folder is still the one that Envoy watches, and not a new one of the same name."""
        try:
            return os.path.samestat(self._folder.stat(), os.fstat(self._folder_descriptor))
        except OSError:
            return False

    def close(self) -> None:
        """Let go of the folder. Call it when Envoy has ended."""
        if self._folder_descriptor >= 0:
            os.close(self._folder_descriptor)
            self._folder_descriptor = -1

    def put(self, name: str, resources: list[Json]) -> set[str]:
        """Write resources to a file, unless it has them already.

        Parameters
        ----------
        name
            The file's name.
        resources
            Envoy's resources.

        Returns
        -------
        set[str]
            The versions under which these resources were written. Envoy ignores resources that it has, and goes on
            showing the version under which it got them first.

        Raises
        ------
        OSError
            The file cannot be written.
        """
        sent = self._sent.setdefault(name, [])
        if not sent or sent[-1][0] != resources:
            version = str(self._version + 1)
            # Envoy reads a watched file when another file is moved onto it.
            draft = self._folder / f".{name}"
            write_private_file(draft, json.dumps(routes.build_response(resources, version), indent=1))
            draft.replace(self._folder / name)
            self._version += 1
            sent.append((resources, version))
            del sent[:-_REMEMBERED]
        return {version for sent_resources, version in sent if sent_resources == resources}


def write_private_file(file: Path, text: str) -> None:
    """Write a file that only its owner may read, because it may name shoppers. Raises OSError."""
    with open(file, "w", opener=open_private) as handle:
        handle.write(text)
