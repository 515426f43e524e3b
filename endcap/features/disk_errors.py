"""The error of a disk that is full, or that refuses a file, the same from every engine."""

from __future__ import annotations

from pathlib import Path

from endcap.errors import StorageError


def make_disk_error(place: Path, error: Exception) -> StorageError:
    """Make the error for a read or a write that failed below `place`."""
    return StorageError(
        f"features: the disk refused a read or a write ({error}); nothing was published. "
        f"Free space beside {place}, or choose another store (--store)",
        code="features.disk-refused",
        path=str(place),
        reason=str(error),
    )
