"""Envoy's admin page, on a socket in a folder that nobody but its owner may enter.

By TCP every process of the machine could use it, and by way of a browser every web page: it ends Envoy, and shows what
Envoy was told. A file has an owner and a mode.
"""

from __future__ import annotations

import http.client
import os
import socket
from pathlib import Path

SOCKET = "admin.sock"
MODE = 0o600
LONGEST = 100
"""Bytes of a socket's path: Linux allows 107, macOS 103."""


class Admin:
    """Asks the admin page at the socket `path`. A question without an answer raises OSError or HTTPException."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def get(self, question: str, within: float = 2.0) -> str:
        """The text of an answer. within: seconds; a question such as ``/ready``."""
        return self._ask("GET", question, within)

    def post(self, order: str, within: float = 2.0) -> str:
        """Have something done, such as ``/drain_listeners``."""
        return self._ask("POST", order, within)

    def answers(self, within: float) -> bool:
        """Whether Envoy answers at all, whatever it says."""
        try:
            self.get("/ready", within)
        except (OSError, http.client.HTTPException):
            return False
        return True

    def _ask(self, method: str, path: str, within: float) -> str:
        connection = _Connection(self.path, within)
        try:
            connection.request(method, path)
            return connection.getresponse().read().decode()
        finally:
            connection.close()


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path, within: float) -> None:
        super().__init__("localhost", timeout=within)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        if len(os.fsencode(self._path)) <= LONGEST:
            self.sock.connect(str(self._path))
            return
        # A path may be longer than a socket's may be: then it is named from its folder.
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            self.sock.connect(f"/proc/self/fd/{folder}/{self._path.name}")
        finally:
            os.close(folder)
