"""Ids of requests: what a caller, or the gateway, calls a request is kept where it fits into headers, logs and rows."""

from __future__ import annotations

LONGEST = 256
"""Characters. A ranking's id is its request's with a number behind, and comes back in what the intake takes."""


def read_request_id(value: bytes | str) -> str | None:
    """The id, or None where none fit is value: printable ASCII, of 1 to `LONGEST` characters."""
    text = value if isinstance(value, str) else value.decode("latin-1")
    return text if 0 < len(text) <= LONGEST and text.isascii() and text.isprintable() else None
