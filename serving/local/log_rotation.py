"""Rotation of a run's logs by size: a full log is set aside, and the oldest of those are removed."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from endcap_serving.local.process import open_private

LOOK = 5.0
"""Seconds between two checks of the sizes."""


@dataclass(frozen=True)
class RotationSettings:
    """When logs are rotated.

    Parameters
    ----------
    size
        Bytes from which a log is set aside.
    kept
        How many older files of each log are kept.
    """

    size: int = 32 * 2**20
    kept: int = 4


class LogRotator:
    """Rotates all files in a run's folder whose names end in .log.

    Parameters
    ----------
    folder
        The run's folder.
    rotation
        When logs are rotated.
    """

    def __init__(self, folder: Path, rotation: RotationSettings) -> None:
        self._folder, self._rotation = folder, rotation
        self._last_look = time.monotonic()
        self._unopened: set[Path] = set()

    def reconcile(self, reopen: Callable[[Path], Callable[[], None] | None]) -> None:
        """Check the sizes, if it is time, and set full logs aside.

        Parameters
        ----------
        reopen
            Finds the function that makes the writer of a log go on in a new file; None if the writer cannot.

        Raises
        ------
        OSError
            A log cannot be set aside. Errors of reopening are raised too, and the next call tries again.
        """
        if time.monotonic() - self._last_look < LOOK and not self._unopened:
            return
        self._last_look = time.monotonic()
        for file in self._folder.rglob("*.log"):
            with contextlib.suppress(FileNotFoundError):
                if file.stat().st_size >= self._rotation.size:
                    self._set_aside(file, reopen(file) is not None)
        for file in list(self._unopened):
            if reopen_file := reopen(file):
                reopen_file()
            self._unopened.discard(file)

    def _set_aside(self, file: Path, can_reopen: bool) -> None:
        """Rename a log, or copy and empty it if its writer cannot reopen it."""
        names = [file, *(file.with_name(f"{file.name}.{number}") for number in range(1, self._rotation.kept + 1))]
        # The oldest goes first, because that makes room for the copy on a full disk.
        names[-1].unlink(missing_ok=True)
        for older, newer in zip(reversed(names[1:]), reversed(names[1:-1]), strict=False):
            if newer.exists():
                newer.replace(older)
        if can_reopen:
            file.replace(names[1])
            self._unopened.add(file)
            return
        # The writer holds the file open, and appends wherever its end is.
        try:
            with file.open("rb") as source, open(names[1], "wb", opener=open_private) as copy:
                shutil.copyfileobj(source, copy)
        except OSError:
            names[1].unlink(missing_ok=True)
            raise
        with file.open("r+b") as handle:
            handle.truncate(0)
