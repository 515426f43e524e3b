"""Logs of a run that grow no further than a size: a full one is set aside, and the oldest of those removed."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from endcap_serving.local.process import open_private

LOOK = 5.0
"""Seconds between two looks at the sizes."""


@dataclass(frozen=True)
class RotationSettings:
    """size: bytes from which a log is set aside. kept: of each log, so many that were."""

    size: int = 32 * 2**20
    kept: int = 4


class LogRotator:
    """All files in a run's folder whose names end in .log. `tend` now and then; it raises OSError."""

    def __init__(self, folder: Path, rotation: RotationSettings) -> None:
        self._folder, self._rotation = folder, rotation
        self._last_look = time.monotonic()
        self._unopened: set[Path] = set()

    def reconcile(self, reopen: Callable[[Path], Callable[[], None] | None]) -> None:
        """Look, where it is time. reopen: of a log, how its writer is told to go on in a new file; None: it cannot be.

        What reopening raises is raised, and done again by the next call.
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
        names = [file, *(file.with_name(f"{file.name}.{number}") for number in range(1, self._rotation.kept + 1))]
        # First: on a full disk it makes room for the copy.
        names[-1].unlink(missing_ok=True)
        for older, newer in zip(reversed(names[1:]), reversed(names[1:-1]), strict=False):
            if newer.exists():
                newer.replace(older)
        if can_reopen:
            file.replace(names[1])
            self._unopened.add(file)
            return
        # Its writer holds it open, and adds at its end wherever that is.
        try:
            with file.open("rb") as source, open(names[1], "wb", opener=open_private) as copy:
                shutil.copyfileobj(source, copy)
        except OSError:
            names[1].unlink(missing_ok=True)
            raise
        with file.open("r+b") as handle:
            handle.truncate(0)
