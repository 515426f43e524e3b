"""Envoy's admin page, on a socket in a folder that only its owner may enter.

The page can end Envoy and shows its configuration. On a TCP port every process of the machine could use it, and every
web page through a browser. A socket is a file with an owner and a mode. In a pod,
``python -m endcap_serving.gateway.admin /config_dump`` asks it.
"""

from __future__ import annotations

import http.client
import os
import socket
import stat
import sys
import tempfile
from pathlib import Path

from endcap.errors import UserError

SOCKET = "admin.sock"
MODE = 0o600
LONGEST_PATH = 100
"""Bytes of a socket's path. Linux allows 107, macOS 103."""


class AdminClient:
    """Asks the admin page at the socket `path`.

    `get` and `post` raise OSError or http.client.HTTPException if Envoy does not answer.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def get(self, path: str, timeout: float = 2.0) -> str:
        """Read a page, such as ``/ready``. timeout: seconds."""
        return self._ask("GET", path, timeout)

    def post(self, path: str, timeout: float = 2.0) -> str:
        """Give a command, such as ``/drain_listeners``. timeout: seconds."""
        return self._ask("POST", path, timeout)

    def is_alive(self, timeout: float) -> bool:
        """Whether Envoy answers within `timeout` seconds, whatever the answer is."""
        try:
            self.get("/ready", timeout)
        except (OSError, http.client.HTTPException):
            return False
        return True

    def _ask(self, method: str, path: str, timeout: float) -> str:
        connection = _SocketConnection(self.path, timeout)
        try:
            connection.request(method, path)
            return connection.getresponse().read().decode()
        finally:
            connection.close()


class _SocketConnection(http.client.HTTPConnection):
    """HTTP on a Unix socket."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        if len(os.fsencode(self._path)) <= LONGEST_PATH:
            self.sock.connect(str(self._path))
            return
        # A longer path cannot be a socket's address, so it is named from its folder.
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            self.sock.connect(f"/proc/self/fd/{folder}/{self._path.name}")
        finally:
            os.close(folder)


def get_default_socket() -> Path:
    """Return the path of the socket in a gateway's pod."""
    return Path(tempfile.gettempdir()) / "endcap-envoy" / SOCKET


def make_private_folder(folder: Path) -> None:
    """Make a folder that only this user may enter.

    Raises
    ------
    UserError
        If the folder exists and belongs to another user, or others may enter it.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    status = folder.lstat()
    if status.st_uid != os.getuid() or not stat.S_ISDIR(status.st_mode) or status.st_mode & 0o077:
        raise UserError(
            f"--admin: others may enter {folder}; allowed: a folder of this user with mode 700; name another folder",
            code="gateway.admin-folder-open",
            folder=str(folder),
        )


if __name__ == "__main__":
    print(AdminClient(get_default_socket()).get(sys.argv[1]))
