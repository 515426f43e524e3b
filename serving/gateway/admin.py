"""Envoy's admin page, on a socket in a folder that nobody but its owner may enter.

By TCP every process of the machine could use it, and through a browser every web page. The page ends Envoy, and shows
Envoy's configuration. A socket is a file with an owner and a mode. In a pod ``python -m endcap_serving.gateway.admin
/config_dump`` asks it.
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
LONGEST = 100
"""Bytes of a socket's path: Linux allows 107, macOS 103."""


class AdminClient:
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


def get_default_socket() -> Path:
    """Where the gateway of a pod has it."""
    return Path(tempfile.gettempdir()) / "endcap-envoy" / SOCKET


def make_private_folder(folder: Path) -> None:
    """A folder that nobody else may enter. Raises UserError where it is somebody else's, or open."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    status = folder.lstat()
    if status.st_uid != os.getuid() or not stat.S_ISDIR(status.st_mode) or status.st_mode & 0o077:
        raise UserError(
            f"--admin: {folder} is open to others; allowed: a folder of mode 700 of this user's own",
            code="gateway.admin-folder-open",
            folder=str(folder),
        )


if __name__ == "__main__":
    print(AdminClient(get_default_socket()).get(sys.argv[1]))
