"""Ids of requests. An id that a caller or the gateway gave is kept if it fits into headers, logs and rows."""

from __future__ import annotations

LONGEST = 256
"""Characters. A ranking's id is its request's id with a number behind it, and the intake takes ids of up to this
length."""


def read_request_id(value: bytes | str) -> str | None:
    """Read a request's id from a header.

    Returns
    -------
    str or None
        The id, if it is printable ASCII of 1 to `LONGEST` characters.
    """
    text = value if isinstance(value, str) else value.decode("latin-1")
    return text if 0 < len(text) <= LONGEST and text.isascii() and text.isprintable() else None
