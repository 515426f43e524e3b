"""Errors of the system and of libraries, converted to Endcap's errors with a code and fields."""

from __future__ import annotations

import errno

from endcap.errors import EndcapError, StorageError


def wrap_error(error: BaseException) -> EndcapError:
    """Convert any error to one of Endcap's, whose code and fields can be shown.

    Parameters
    ----------
    error
        Any exception. An error of Endcap's is returned as it is.

    Returns
    -------
    EndcapError
        `serving.disk-full` or `serving.disk-refused` for errors of the disk, else `serving.failed`.
    """
    if isinstance(error, EndcapError):
        return error
    reason = getattr(error, "strerror", None) or str(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return StorageError(f"the disk is full: {error}", code="serving.disk-full", reason=reason)
    if isinstance(error, OSError) and error.filename is not None:
        return StorageError(
            f"{error.filename} cannot be read or written: {reason}",
            code="serving.disk-refused",
            path=str(error.filename),
            reason=reason,
        )
    kind = type(error).__name__
    return EndcapError(f"{kind}: {error}", code="serving.failed", kind=kind)
