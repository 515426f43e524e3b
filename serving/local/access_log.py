"""The access log on a laptop: a file that Envoy writes itself, or this process with pseudonyms; rotated by its size."""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path

from endcap_serving.gateway.admin import AdminClient
from endcap_serving.gateway.pseudonyms import Pseudonyms, ShopperLogging, start_rewriting, write_all
from endcap_serving.local.process import open_private


class AccessLog:
    """Of one Envoy. `input`: what Envoy's standard output is to be; None: Envoy writes the file itself."""

    def __init__(self, file: Path, shoppers: ShopperLogging) -> None:
        """Raises UserError where the key of the pseudonyms is none."""
        self.file = file
        self.input: int | None = None
        self._admin: AdminClient | None = None
        self._pseudonyms = Pseudonyms() if shoppers == "pseudonym" else None
        self._handle: int | None = None
        self._lock = threading.Lock()
        if self._pseudonyms:
            self._source, self.input = os.pipe()

    def start(self, admin: AdminClient) -> None:
        """Once Envoy runs."""
        self._admin = admin
        if self._pseudonyms and self.input is not None:
            # Envoy alone holds that end now, so that the other ends with it.
            os.close(self.input)
            self.input = None
            self._thread = start_rewriting(self._source, self._write, self._pseudonyms)

    def reopen(self) -> None:
        """Go on in a new file: this one was renamed. Raises OSError or HTTPException where Envoy does not hear."""
        if not self._pseudonyms:
            if self._admin is not None:
                self._admin.post("/reopen_logs")
            return
        with self._lock:
            self._close_file()

    def close(self) -> None:
        """After Envoy has ended: write what it wrote last."""
        if self.input is not None:
            os.close(self.input)
            os.close(self._source)
        elif self._pseudonyms:
            self._thread.join(5.0)
        with self._lock:
            self._close_file()

    def _write(self, lines: bytes) -> None:
        with self._lock:
            if self._handle is None:
                self._handle = open_private(str(self.file), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            write_all(self._handle, lines)

    def _close_file(self) -> None:
        if self._handle is not None:
            with contextlib.suppress(OSError):
                os.close(self._handle)
            self._handle = None
