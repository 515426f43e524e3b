"""Bytes on their way between a store and this machine: counted, and whole at the end or not there."""

from __future__ import annotations

import os
import shutil
import threading
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from endcap.errors import UserError
from endcap.safe_reading import describe_irregular, open_regular
from endcap.store.artifact_files import report_storage_errors
from endcap.store.safe_paths import join_safely

PIECE_BYTES = 1 << 20
TransferProgress = Callable[[int, int], None]
"""Called with the bytes that are done, and with those in all."""


class Meter:
    """Counts the bytes of several files. Several threads may use it.

    Parameters
    ----------
    progress
        Called with the bytes so far and the total.
    total
        The total.
    """

    def __init__(self, progress: TransferProgress, total: int) -> None:
        self._progress, self._total, self._done, self._lock = progress, total, 0, threading.Lock()

    def add(self, count: int) -> None:
        """Add bytes, and report the sum."""
        with self._lock:
            self._done += count
            self._progress(self._done, self._total)


class MeteredReader:
    """An open file whose reads are counted. If a retry moves back, the bytes behind that position are counted again."""

    def __init__(self, handle: BinaryIO, meter: Meter) -> None:
        self._handle, self._meter, self.fileno = handle, meter, handle.fileno

    def read(self, size: int = -1) -> bytes:
        """Read and count bytes."""
        content = self._handle.read(size)
        self._meter.add(len(content))
        return content

    def seek(self, position: int) -> int:
        """Move to a position, and correct the count."""
        self._meter.add(position - self._handle.tell())
        return self._handle.seek(position)


def list_regular_files(folder: Path) -> dict[str, Path]:
    """List all files below a folder.

    Parameters
    ----------
    folder
        The folder.

    Returns
    -------
    dict
        The files by their paths below the folder, sorted.

    Raises
    ------
    UserError
        There is a link to a folder, which could be endless, or something that is not a regular file.
    """
    files = {}
    for parent, folders, names in os.walk(folder):
        linked = next((name for name in folders if (Path(parent) / name).is_symlink()), None)
        if linked is not None:
            raise UserError(
                f"{Path(parent) / linked} is a link to a folder; put that folder itself",
                code="store.source-invalid",
                source=str(Path(parent) / linked),
            )
        for name in names:
            path = Path(parent) / name
            if kind := _describe_irregular(path):
                raise UserError(
                    f"{path} is {kind}; only files can be copied: take it out of the folder",
                    code="store.source-invalid",
                    source=str(path),
                )
            files[path.relative_to(folder).as_posix()] = path
    return dict(sorted(files.items()))


def _describe_irregular(path: Path) -> str:
    try:
        return describe_irregular(path)
    except FileNotFoundError:
        return "a link to nothing"


def sum_sizes(files: Mapping[str, Path]) -> int:
    """Sum the sizes of files, in bytes."""
    return sum(path.stat().st_size for path in files.values())


def copy_file(source: Path, target: Path, meter: Meter) -> None:
    """Copy a file, count its bytes, and flush the copy to the disk."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with open_regular(source) as reading, target.open("wb") as writing:
        while piece := reading.read(PIECE_BYTES):
            writing.write(piece)
            meter.add(len(piece))
        writing.flush()
        os.fsync(writing.fileno())


def deliver(
    files: Mapping[str, Any], name: str, target: Path, fetch: Callable[[Any, Path, Meter], None], meter: Meter
) -> Path:
    """Write files beside a target and rename them into it, so that the target is complete or does not exist.

    Parameters
    ----------
    files
        The sources by their paths below the target; a single file has an empty path.
    name
        The name of what is delivered. If the target is an existing folder, the last part of the name is added to it.
    target
        The target.
    fetch
        Writes one source to a path.
    meter
        Counts the bytes.

    Returns
    -------
    pathlib.Path
        The target.

    Raises
    ------
    UserError
        The target exists (`store.target-exists`).
    StorageError
        The disk refuses.
    """
    if target.is_dir():
        target /= name.rpartition("/")[2]
    if target.is_dir() or (target.exists() and "" not in files):
        raise UserError(
            f"{target} is there already; remove it, or choose another target",
            code="store.target-exists",
            target=str(target),
        )
    draft = target.with_name(f".{target.name}.{os.getpid()}-{uuid.uuid4().hex}")
    with report_storage_errors(target):
        try:
            for path, source in files.items():
                fetch(source, join_safely(draft, path, name) if path else draft, meter)
            draft.replace(target)
        finally:
            if draft.is_dir():
                shutil.rmtree(draft, ignore_errors=True)
            else:
                draft.unlink(missing_ok=True)
    return target
