"""Errors of the system and of libraries, as errors of Endcap's own, with a code and fields."""

from __future__ import annotations

import errno

from endcap.errors import EndcapError, StorageError


def wrap_error(error: BaseException) -> EndcapError:
    """Any error as one of Endcap's own, whose code and fields can be told."""
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
