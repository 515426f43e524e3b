"""One holder at a time of a name in a bucket, as far as object storage allows."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from datetime import timedelta

from endcap.errors import EndcapError
from endcap.store.base import Json
from endcap.store.bucket import Blob, Bucket

LASTS = 30.0
"""Seconds without a sign of life after which a holder counts as dead."""
_LOOK = 1.0


class Lease:
    """An object that its holder writes anew three times in LASTS seconds, each time only over what it wrote itself.

    Whoever finds it older (by the server's own clock) takes it over, on the condition that it is still the same. A
    holder that was stopped for longer finds at its next sign that it is not its own any more: `lost` is then set.
    `generation` counts the holders. The object stays when it is given back, so that no generation comes twice.
    """

    def __init__(self, bucket: Bucket, name: str) -> None:
        self._bucket, self._name, self._lasts = bucket, name, timedelta(seconds=LASTS)
        self.token = uuid.uuid4().hex
        self.generation = 0
        self.lost = threading.Event()
        self._etag = ""
        self._seen = ("", 0.0)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)

    def take(self, progress: Callable[[str], None]) -> None:
        """Return when it is this one's; `progress` is told for whom it waits."""
        told = ""
        while not self._taken():
            holder = self._holder()
            if holder and holder != told:
                told = holder
                progress(f"another process does the same work ({holder}); waiting for it")
            time.sleep(_LOOK)
        self._thread.start()

    def give_back(self) -> None:
        """End it, so that another need not wait for its time to run out."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        if not self.lost.is_set():
            self._bucket.write(self._name, self._content(free=True), etag=self._etag)

    def _taken(self) -> bool:
        found = self._bucket.read(self._name)
        if found is None:
            self.generation = 1
            self._bucket.write(self._name, self._content(), absent=True)
        else:
            content, blob = _parse(found[0]), found[1]
            if not self._free(content, blob):
                return False
            self.generation = int(content["generation"]) + 1
            self._bucket.write(self._name, self._content(), etag=blob.etag)
        # Read back: an answer may have been lost, and not every server looks and writes in one step.
        return self._mine()

    def _free(self, content: Json, blob: Blob) -> bool:
        if blob.etag != self._seen[0]:
            self._seen = (blob.etag, time.monotonic())
        if blob.age is None:  # the server does not tell its time
            return bool(content["free"]) or time.monotonic() - self._seen[1] > self._lasts.total_seconds()
        return bool(content["free"]) or blob.age > self._lasts

    def _mine(self) -> bool:
        found = self._bucket.read(self._name)
        if found is None or _parse(found[0])["token"] != self.token:
            return False
        self._etag = found[1].etag
        return True

    def _holder(self) -> str:
        found = self._bucket.read(self._name)
        return str(_parse(found[0])["holder"]) if found else ""

    def _keep(self) -> None:
        while not self._ended.wait(self._lasts.total_seconds() / 3):
            try:
                etag = self._bucket.write(self._name, self._content(), etag=self._etag)
                if etag:
                    self._etag = etag
                elif not self._mine():
                    self.lost.set()
                    return
            except EndcapError:
                continue  # the server is away: whether the lease was lost shows when it is back

    def _content(self, *, free: bool = False) -> bytes:
        holder = f"{socket.gethostname()}, process {os.getpid()}"
        # Another content each time: an etag is mostly a checksum, and must not come back.
        sign = uuid.uuid4().hex
        document = {"token": self.token, "generation": self.generation, "holder": holder, "free": free, "sign": sign}
        return json.dumps(document).encode()


def _parse(content: bytes) -> Json:
    try:
        parsed: Json = json.loads(content)
        return {"token": "", "generation": 0, "holder": "unknown", "free": False, **parsed}
    except (ValueError, TypeError):
        return {"token": "", "generation": 0, "holder": "unknown", "free": True}
