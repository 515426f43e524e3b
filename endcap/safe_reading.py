"""Read files that others wrote safely: regular files only, and JSON of a bounded size and depth.

A pipe, a socket or a device may never end, and even opening one may wait for ever. Deeply nested JSON exceeds Python's
limit of recursion, in the parser or in code that walks through the value later.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from io import BufferedReader, FileIO
from pathlib import Path
from typing import Any

MOST = 256 << 20
"""Bytes of a JSON file that is read at once."""
DEEPEST = 100
"""Lists and maps within each other, in JSON of any origin."""
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class IrregularFileError(OSError):
    """A path leads to something else than a regular file; `strerror` says what it is."""


def is_file(file: Path) -> bool:
    """Return whether a file exists; False for a name that no file can have, such as one that is too long.

    `Path.is_file` raises where the system refuses to look.
    """
    try:
        return file.is_file()
    except OSError:
        return False


def describe_irregular(file: Path) -> str:
    """Name what is there in place of a regular file, such as `a named pipe`; empty if it is one. Follows links.

    Raises OSError.
    """
    return _describe_kind(file.stat().st_mode)


def check_regular(file: Path) -> None:
    """Raise IrregularFileError if this is no regular file. Raises OSError too."""
    if kind := describe_irregular(file):
        raise IrregularFileError(errno.EINVAL, f"{kind}, not a regular file", str(file))


def open_regular(file: Path) -> BufferedReader:
    """Open a regular file to read its bytes. Raises IrregularFileError, OSError; it never waits for a writer."""
    check_regular(file)  # opening a device may already set something off
    handle: BufferedReader = BufferedReader(_Bytes(os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb"))
    if kind := _describe_kind(os.fstat(handle.fileno()).st_mode):
        handle.close()
        raise IrregularFileError(errno.EINVAL, f"{kind}, not a regular file", str(file))
    return handle


class _Bytes(FileIO):
    """Refuses a kernel's file that claims to be regular and waits for more bytes, such as /proc/kmsg."""

    def readinto(self, buffer: Any) -> int:
        count: int | None = super().readinto(buffer)
        if count is None:
            raise IrregularFileError(errno.EAGAIN, "a file whose bytes are still to come, not a regular file")
        return count


def read_bytes(file: Path, most: int = MOST) -> bytes:
    """Return all bytes of a regular file. Raises ValueError if there are more than `most`, and OSError."""
    with open_regular(file) as handle:
        content = handle.read(most + 1)
    if len(content) > most:
        raise ValueError(f"it has more than {most:,} bytes")
    return content


def read_json(file: Path, most: int = MOST) -> Any:
    """Return the value of a JSON file. Raises ValueError as `parse_json` and `read_bytes` do, and OSError."""
    return parse_json(read_bytes(file, most))


def parse_json(text: str | bytes) -> Any:
    """Return the value of a JSON text. Raises ValueError if it is no JSON, or nested more than DEEPEST deep."""
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    if is_deeper_than(value, DEEPEST):
        raise ValueError(_TOO_DEEP)
    return value


def is_deeper_than(value: Any, limit: int) -> bool:
    """Return whether lists and maps are nested more than `limit` deep."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(limit):
        values = (inner for value in level for inner in (value.values() if isinstance(value, dict) else value))
        level = [inner for inner in values if isinstance(inner, dict | list)]
        if not level:
            return False
    return True


_TOO_DEEP = f"lists and maps are nested more than {DEEPEST} deep"


def _describe_kind(mode: int) -> str:
    if stat.S_ISREG(mode):
        return ""
    return next((name for is_kind, name in _KINDS if is_kind(mode)), "something else")
