"""Source files on this machine: their state when they were found."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from endcap.safe_reading import check_regular

SETTLED = 10
"""Seconds without a change after which a file's state stands for its content. Two writes within one tick of the file
system's clock leave the same times; ticks last up to two seconds, and a file server's clock may differ."""


@dataclass(frozen=True)
class LocalFile:
    """A file as it was at the search.

    Attributes
    ----------
    path
        Where it lies.
    bytes
        Its size.
    changed
        When its content was changed (mtime, ns). Programs that copy files may set it.
    touched
        When the system last wrote anything of it (ctime, ns). No program can set it.
    inode
        Its number in the file system.
    searched
        The time of the search by this machine's clock, ns.
    """

    path: Path
    bytes: int
    changed: int
    touched: int
    inode: int
    searched: int

    @classmethod
    def find(cls, path: Path) -> LocalFile:
        """Return a file as it is now. Raises IrregularFileError, OSError."""
        searched = time.time_ns()
        check_regular(path)
        state = path.stat()
        return cls(path, state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino, searched)

    @property
    def name(self) -> str:
        """Its path, for errors and facts."""
        return str(self.path)

    @property
    def mark(self) -> str:
        """Its state: another content has another, once the file is settled."""
        return f"{self.bytes}-{self.changed}-{self.touched}-{self.inode}"

    def fetch(self) -> Path:
        """Return its path."""
        return self.path

    def is_unchanged(self) -> bool:
        """Tell whether it is still the file that was found. A further link or other rights are no change.

        Raises OSError.
        """
        now = self.find(self.path)
        return (now.bytes, now.changed, now.inode) == (self.bytes, self.changed, self.inode)

    def is_settled(self) -> bool:
        """Tell whether the mark stands for what was read since the search. Raises OSError."""
        return self.touched + SETTLED * 10**9 < self.searched and self.find(self.path).mark == self.mark
