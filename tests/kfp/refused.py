"""What KFP refuses with."""

from __future__ import annotations


class RefusedError(Exception):
    """An answer of an error status, with KFP's words. key: under which its document has them."""

    def __init__(self, status: int, message: str, key: str = "message") -> None:
        super().__init__(message)
        self.status, self.message, self.key = status, message, key
