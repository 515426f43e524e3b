"""The errors that the simulated KFP answers with."""

from __future__ import annotations


class RefusedError(Exception):
    """An answer with an error status and KFP's own message. key: the key of the message in the answer's document."""

    def __init__(self, status: int, message: str, key: str = "message") -> None:
        super().__init__(message)
        self.status, self.message, self.key = status, message, key
