"""This machine's copies of a bucket's artifacts: downloaded file by file, gone on with, and whole by the manifest."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from endcap.errors import IntegrityError, NotFoundError
from endcap.safe_reading import read_json
from endcap.store.artifact_files import check_artifact, check_artifact_file, replace_durably, report_storage_errors
from endcap.store.base import MANIFEST, Json
from endcap.store.bucket import Bucket, run_parallel
from endcap.store.cache import lock_copy
from endcap.store.safe_paths import join_safely


class LocalCopies:
    """Copies below a folder, each under the path of its artifact. named: the object's name of a path in the store."""

    def __init__(self, bucket: Bucket, folder: Path, named: Callable[[str], str]) -> None:
        self._bucket, self._folder, self._named = bucket, folder, named

    def fetch(self, path: str, manifest: Json, address: str, *, verify: bool) -> Path:
        """The folder of an artifact's copy, as its manifest has it. address: what it is called in errors."""
        folder = join_safely(self._folder, path, address)
        with report_storage_errors(f"{folder} (for {address})"), lock_copy(folder):
            if verify or _read_copied_manifest(folder) != manifest:
                self._download(path, manifest, address, anew=verify)
            else:
                try:
                    check_artifact(folder, manifest, name=address, verify=False)
                except IntegrityError:  # of this machine's copy only
                    self._download(path, manifest, address, anew=False)
        return folder

    def keep(self, path: str, folder: Path, manifest: Json) -> None:
        """Spare the next step the download of what was made on this machine."""
        place = join_safely(self._folder, path, path)
        with lock_copy(place):
            if not place.exists():
                folder.rename(place)
                replace_durably(place / MANIFEST, manifest)

    def _download(self, path: str, manifest: Json, address: str, *, anew: bool) -> None:
        """Bring this machine's copy up to the manifest, file by file; what is there already is kept unless `anew`.

        A file appears under its name when its checksum is right. A download that was cut off is gone on with.
        """
        described: dict[str, Any] = manifest["files"]
        folder = join_safely(self._folder, path, address)
        parts = folder / ".parts"
        parts.mkdir(parents=True, exist_ok=True)

        def fetch(name: str) -> None:
            file = join_safely(folder, name, address)
            if not anew and _is_intact(file, described[name]):
                return
            part = parts / described[name]["sha256"]
            self._fetch(path, name, described[name], part, address)
            file.parent.mkdir(parents=True, exist_ok=True)
            part.replace(file)

        for _ in run_parallel(fetch, described):
            pass
        shutil.rmtree(parts, ignore_errors=True)
        replace_durably(folder / MANIFEST, manifest)

    def _fetch(self, path: str, name: str, described: Json, part: Path, address: str) -> None:
        resumed = part.exists()
        try:
            self._bucket.download(self._named(f"{path}/{name}"), part)
            check_artifact_file(part, described, name, address, verify=True)
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


def _read_copied_manifest(folder: Path) -> Json | None:
    """The manifest of this machine's copy, None where it is not whole."""
    try:
        kept: Json = read_json(folder / MANIFEST)
    except (OSError, ValueError):
        return None
    return kept


def _is_intact(file: Path, described: Json) -> bool:
    try:
        check_artifact_file(file, described, "", "", verify=True)
    except IntegrityError:
        return False
    return True
