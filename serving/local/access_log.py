"""The access log on one machine. Envoy writes the file itself, or this process does with pseudonyms for shoppers."""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path

from endcap_serving.gateway.admin import AdminClient
from endcap_serving.gateway.pseudonyms import Pseudonyms, ShopperLogging, start_rewriting, write_all
from endcap_serving.local.process import open_private


class AccessLog:
    """The access log of one Envoy.

    Parameters
    ----------
    file
        The log.
    shoppers
        What the log says of a shopper.

    Attributes
    ----------
    input
        The file descriptor that Envoy's standard output must be. None: Envoy writes the file itself.

    Raises
    ------
    UserError
        The key of the pseudonyms cannot be used.
    """

    def __init__(self, file: Path, shoppers: ShopperLogging) -> None:
        self.file = file
        self.input: int | None = None
        self._admin: AdminClient | None = None
        self._pseudonyms = Pseudonyms() if shoppers == "pseudonym" else None
        self._handle: int | None = None
        self._lock = threading.Lock()
        if self._pseudonyms:
            self._source, self.input = os.pipe()

    def start(self, admin: AdminClient) -> None:
        """Begin to write. Call it once Envoy runs.

        Parameters
        ----------
        admin
            The client of Envoy's admin interface.
        """
        self._admin = admin
        if self._pseudonyms and self.input is not None:
            # From now on only Envoy holds this end, so the other end closes when Envoy ends.
            os.close(self.input)
            self.input = None
            self._thread = start_rewriting(self._source, self._write, self._pseudonyms)

    def reopen(self) -> None:
        """Go on in a new file, because this one was renamed. Raises OSError or HTTPException."""
        if not self._pseudonyms:
            if self._admin is not None:
                self._admin.post("/reopen_logs")
            return
        with self._lock:
            self._close_file()

    def close(self) -> None:
        """Write Envoy's last lines, and close the file. Call it after Envoy has ended."""
        if self.input is not None:
            os.close(self.input)
            os.close(self._source)
        elif self._pseudonyms:
            self._thread.join(5.0)
        with self._lock:
            self._close_file()

    def _write(self, lines: bytes) -> None:
        """Append lines to the file. Open it if it is not open."""
        with self._lock:
            if self._handle is None:
                self._handle = open_private(str(self.file), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            write_all(self._handle, lines)

    def _close_file(self) -> None:
        """Close the file, if it is open."""
        if self._handle is not None:
            with contextlib.suppress(OSError):
                os.close(self._handle)
            self._handle = None
