"""This machine's copies of a bucket's artifacts: downloaded file by file, gone on with, and whole by the manifest."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from endcap.errors import IntegrityError, NotFoundError
from endcap.reading import read_json
from endcap.store.base import MANIFEST, Json
from endcap.store.bucket import Bucket, parallel
from endcap.store.cache import alone
from endcap.store.contents import check_file, check_folder, replace_durably, storage_errors
from endcap.store.inside import inside


class Copies:
    """Copies below a folder, each under the path of its artifact. named: the object's name of a path in the store."""

    def __init__(self, bucket: Bucket, folder: Path, named: Callable[[str], str]) -> None:
        self._bucket, self._folder, self._named = bucket, folder, named

    def fetch(self, path: str, manifest: Json, address: str, *, verify: bool) -> Path:
        """The folder of an artifact's copy, as its manifest has it. address: what it is called in errors."""
        folder = inside(self._folder, path, address)
        with storage_errors(f"{folder} (for {address})"), alone(folder):
            if verify or _kept(folder) != manifest:
                self._download(path, manifest, address, anew=verify)
            else:
                try:
                    check_folder(folder, manifest, name=address, verify=False)
                except IntegrityError:  # of this machine's copy only
                    self._download(path, manifest, address, anew=False)
        return folder

    def keep(self, path: str, folder: Path, manifest: Json) -> None:
        """Spare the next step the download of what was made on this machine."""
        place = inside(self._folder, path, path)
        with alone(place):
            if not place.exists():
                folder.rename(place)
                replace_durably(place / MANIFEST, manifest)

    def _download(self, path: str, manifest: Json, address: str, *, anew: bool) -> None:
        """Bring this machine's copy up to the manifest, file by file; what is there already is kept unless `anew`.

        A file appears under its name when its checksum is right. A download that was cut off is gone on with.
        """
        described: dict[str, Any] = manifest["files"]
        folder = inside(self._folder, path, address)
        parts = folder / ".parts"
        parts.mkdir(parents=True, exist_ok=True)

        def fetch(name: str) -> None:
            file = inside(folder, name, address)
            if not anew and _right(file, described[name]):
                return
            part = parts / described[name]["sha256"]
            self._fetch(path, name, described[name], part, address)
            file.parent.mkdir(parents=True, exist_ok=True)
            part.replace(file)

        for _ in parallel(fetch, described):
            pass
        shutil.rmtree(parts, ignore_errors=True)
        replace_durably(folder / MANIFEST, manifest)

    def _fetch(self, path: str, name: str, described: Json, part: Path, address: str) -> None:
        resumed = part.exists()
        try:
            self._bucket.download(self._named(f"{path}/{name}"), part)
            check_file(part, described, name, address, verify=True)
        except NotFoundError:
            raise IntegrityError(
                f"{address}: {name} is missing or cut short; delete everything below that address and run again",
                code="store.damaged",
                address=address,
                file=name,
                fault="missing",
            ) from None
        except IntegrityError:
            part.unlink(missing_ok=True)
            if not resumed:
                raise
            self._fetch(path, name, described, part, address)  # it may be the piece that lay here that is wrong


def _kept(folder: Path) -> Json | None:
    """The manifest of this machine's copy, None where it is not whole."""
    try:
        kept: Json = read_json(folder / MANIFEST)
    except (OSError, ValueError):
        return None
    return kept


def _right(file: Path, described: Json) -> bool:
    try:
        check_file(file, described, "", "", verify=True)
    except IntegrityError:
        return False
    return True
