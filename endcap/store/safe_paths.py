"""Names that come from outside, and the paths within a folder that they may become.

Whoever may write to a bucket, or hands over a folder, chooses the names in its manifests, the keys of its objects and
what is a link. None of them may lead to a place outside of the folder that it is for. Every name that others chose
becomes a path here, and nowhere else.
"""

from __future__ import annotations

import re
from pathlib import Path

from endcap.errors import IntegrityError

MAX_NAME_BYTES, MAX_PART_BYTES = 1024, 255
"""Bytes of a name, and of each of its parts."""
_DRIVE = re.compile(r"[A-Za-z]:")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


def find_name_fault(name: object) -> str:
    """Say why a name cannot be a path within a folder, in words that follow the name; an empty text if it can.

    A name is relative, with `/` between its parts, on every system: `a/b.parquet`.
    """
    if not isinstance(name, str):
        return "is no text"
    parts = name.split("/")
    if "" in parts:
        return "has an empty part" if name[:1] != "/" else "is absolute"
    if {".", ".."} & set(parts):
        return "has a part . or .."
    if "\\" in name or _CONTROL.search(name):
        return "has a backslash or a control character"
    if _DRIVE.match(name):
        return "begins with a drive"
    if len(name.encode()) > MAX_NAME_BYTES or any(len(part.encode()) > MAX_PART_BYTES for part in parts):
        return f"is longer than {MAX_NAME_BYTES:,} bytes, or a part of it than {MAX_PART_BYTES}"
    return ""


def check_name(name: object, of: str) -> None:
    """Raise IntegrityError (`store.name-unsafe`) if a name cannot be a path within a folder. of: see `join_safely`."""
    if fault := find_name_fault(name):
        raise make_unsafe_name_error(name, of, fault)


def make_unsafe_name_error(name: object, of: str, fault: str) -> IntegrityError:
    """Make the error for a name that could lead out of a folder. No release of Endcap writes such a name."""
    shown = f"{name!r:.100}"
    return IntegrityError(
        f"{of}: the name {shown} {fault}; nothing was read or written under it. Do not use what it came from until you "
        "know who wrote it",
        code="store.name-unsafe",
        of=of,
        name=shown,
        fault=fault,
    )


def join_safely(folder: Path, name: object, of: str) -> Path:
    """Join a folder and a name.

    Parameters
    ----------
    folder
        The folder.
    name
        A relative name, with ``/`` between its parts.
    of
        What the name comes from, for the message, such as an artifact's address.

    Returns
    -------
    pathlib.Path
        The path, which need not exist.

    Raises
    ------
    IntegrityError
        The name could lead out of the folder (`store.name-unsafe`), or a link leads out of it (`store.leads-out`).
    """
    check_name(name, of)
    path = folder / str(name)
    if not stays_inside(folder, path):
        raise IntegrityError(
            f"{of}: {name} leads out of {folder} by a link; put the file itself there",
            code="store.leads-out",
            of=of,
            name=str(name),
            folder=str(folder),
        )
    return path


def stays_inside(folder: Path, path: Path) -> bool:
    """Tell whether a path lies within a folder after all links on the way are followed."""
    try:
        return path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # links that lead in a circle
        return False
