"""An address that does not answer at all, as that of a pod whose node is gone."""

from __future__ import annotations

import contextlib
import socket
from typing import Self


class BlackHole:
    """Listens on `host:port` and takes nobody: the kernel drops what would open a connection (Linux)."""

    def __init__(self, host: str, port: int) -> None:
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind((host, port))
        # One connection waits to be accepted, and there is no room for another.
        self._listener.listen(0)
        self._waiting = [socket.socket() for _ in range(3)]
        for waiting in self._waiting:
            waiting.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                waiting.connect((host, port))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for opened in (*self._waiting, self._listener):
            opened.close()
