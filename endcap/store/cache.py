"""Where copies of stored objects lie on this machine. All of it may be deleted at any time that nothing runs."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from endcap.errors import StorageError
from endcap.store.artifact_files import report_storage_errors

CACHE_VARIABLE = "ENDCAP_CACHE"


def find_cache_folder() -> Path:
    """Find the folder for copies of stored objects.

    Returns
    -------
    pathlib.Path
        The folder in ENDCAP_CACHE; else one in the user's cache; else, for example in a pod without a home, one in the
        temporary folder.

    Raises
    ------
    StorageError
        The folder cannot be written.
    """
    configured = os.environ.get(CACHE_VARIABLE)
    if configured:
        folder = Path(configured).expanduser().resolve()
        with report_storage_errors(f"{folder} ({CACHE_VARIABLE})"):
            folder.mkdir(parents=True, exist_ok=True)
        return folder
    home = os.environ.get("XDG_CACHE_HOME") or (os.environ["HOME"] + "/.cache" if os.environ.get("HOME") else None)
    candidates = [Path(home) / "endcap"] if home else []
    candidates.append(Path(tempfile.gettempdir()) / f"endcap-{os.getuid()}")
    for folder in candidates:
        if _is_private(folder):
            return folder
    raise StorageError(
        f"none of the cache folders {', '.join(map(str, candidates))} can be written; name another folder by "
        f"{CACHE_VARIABLE}",
        code="store.no-cache",
        folders=[str(folder) for folder in candidates],
        variable=CACHE_VARIABLE,
    )


@contextlib.contextmanager
def lock_copy(copy: Path) -> Iterator[None]:
    """Lock a copy, which is a file or a folder, for a block. One process of this machine at a time writes to it."""
    lock = copy.with_name(f".{copy.name}.lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _is_private(folder: Path) -> bool:
    """Tell whether a folder exists or can be made for this user alone. Otherwise others could put files into it."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder.stat().st_uid == os.getuid() and os.access(folder, os.W_OK | os.X_OK)
    except OSError:
        return False
