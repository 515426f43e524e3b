"""This machine's copies of a bucket's artifacts: downloaded file by file, gone on with, and whole by the manifest."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
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
    """This machine's copies of a bucket's artifacts.

    Parameters
    ----------
    bucket
        The bucket.
    folder
        The folder for the copies. Each lies under the path of its artifact.
    named
        Returns the object's name for a path in the store.
    """

    def __init__(self, bucket: Bucket, folder: Path, named: Callable[[str], str]) -> None:
        self._bucket, self._folder, self._named = bucket, folder, named

    def fetch(
        self, path: str, manifest: Json, address: str, *, verify: bool, names: Sequence[str] | None = None
    ) -> Path:
        """Bring an artifact's copy up to its manifest.

        Parameters
        ----------
        path
            The artifact's path in the store.
        manifest
            The artifact's manifest.
        address
            What errors call the artifact.
        verify
            Download every file again; otherwise only files that are missing or have another size.
        names
            The names of the files that are needed. None: all.

        Returns
        -------
        pathlib.Path
            The folder of the copy.

        Raises
        ------
        IntegrityError
            The bucket lacks a file, or a file differs from the manifest.
        """
        folder = join_safely(self._folder, path, address)
        with report_storage_errors(f"{folder} (for {address})"), lock_copy(folder):
            if names is not None and _read_copied_manifest(folder) is None:
                chosen = {**manifest, "files": {name: manifest["files"][name] for name in names}}
                self._download(path, chosen, address, again=verify, is_whole=False)
            elif verify or _read_copied_manifest(folder) != manifest:
                self._download(path, manifest, address, again=verify)
            else:
                try:
                    check_artifact(folder, manifest, name=address, verify=False)
                except IntegrityError:  # only this machine's copy is damaged
                    self._download(path, manifest, address, again=False)
        return folder

    def keep(self, path: str, folder: Path, manifest: Json) -> None:
        """Keep the files of a published artifact as its copy, so that the next step need not download them."""
        place = join_safely(self._folder, path, path)
        with lock_copy(place):
            if not place.exists():
                folder.rename(place)
                replace_durably(place / MANIFEST, manifest)

    def remove(self, path: str) -> None:
        """Remove the copy of an artifact, if there is one."""
        folder = join_safely(self._folder, path, path)
        with report_storage_errors(folder), lock_copy(folder):
            shutil.rmtree(folder, ignore_errors=True)

    def _download(self, path: str, manifest: Json, address: str, *, again: bool, is_whole: bool = True) -> None:
        """Download the files that differ from the manifest, or all of them with `again`.

        A file gets its name when its checksum is right. An interrupted download goes on where it ended. A copy that is
        not whole has no manifest.
        """
        described: dict[str, Any] = manifest["files"]
        folder = join_safely(self._folder, path, address)
        parts = folder / ".parts"
        parts.mkdir(parents=True, exist_ok=True)

        def fetch(name: str) -> None:
            file = join_safely(folder, name, address)
            if not again and _is_intact(file, described[name]):
                return
            part = parts / described[name]["sha256"]
            self._fetch(path, name, described[name], part, address)
            file.parent.mkdir(parents=True, exist_ok=True)
            part.replace(file)

        for _ in run_parallel(fetch, described):
            pass
        shutil.rmtree(parts, ignore_errors=True)
        if is_whole:
            replace_durably(folder / MANIFEST, manifest)

    def _fetch(self, path: str, name: str, described: Json, part: Path, address: str) -> None:
        resumed = part.exists()
        try:
            self._bucket.download(self._named(f"{path}/{name}"), part)
            check_artifact_file(part, described, name, address, verify=True)
        except NotFoundError:
            raise IntegrityError(
                f"{address}: {name} is missing or incomplete; delete everything below that address and run again",
                code="store.damaged",
                address=address,
                file=name,
                fault="missing",
            ) from None
        except IntegrityError:
            part.unlink(missing_ok=True)
            if not resumed:
                raise
            self._fetch(path, name, described, part, address)  # the part that was already here may be wrong


def _read_copied_manifest(folder: Path) -> Json | None:
    """Read the manifest of this machine's copy; None if the copy is incomplete."""
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
