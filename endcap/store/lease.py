"""One holder at a time of a name in a bucket, as far as object storage allows."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable
from datetime import timedelta

from endcap.errors import EndcapError, TransientError
from endcap.safe_reading import parse_json
from endcap.store import locks
from endcap.store.base import Json
from endcap.store.bucket import Blob, Bucket
from endcap.store.locks import ChangeAttempts, describe_this_process

LEASE_SECONDS = 30.0
"""Seconds without a sign of life after which a holder counts as dead."""
_POLL_SECONDS = 1.0


class Lease:
    """An object that its holder writes anew three times in LASTS seconds, each time only over what it wrote itself.

    Whoever finds it older (by the server's own clock) takes it over, on the condition that it is still the same. A
    holder that was stopped for longer finds at its next sign that it is not its own any more: `lost` is then set.
    `generation` counts the holders. The object stays when it is given back, so that no generation comes twice.
    """

    def __init__(self, bucket: Bucket, name: str) -> None:
        self._bucket, self._name, self._lasts = bucket, name, timedelta(seconds=LEASE_SECONDS)
        self.token = uuid.uuid4().hex
        self.generation = 0
        self.lost = threading.Event()
        self._etag = ""
        self._last_seen_etag = ("", 0.0)
        self._renewing = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep_renewing, name="lease", daemon=True)

    def take(self, progress: Callable[[str], None]) -> None:
        """Return when it is this one's; `progress` is told for whom it waits."""
        reported = ""
        while not self._try_take():
            holder = self._read_holder()
            if holder and holder != reported:
                reported = holder
                progress(f"another process does the same work ({holder}); waiting for it")
            time.sleep(_POLL_SECONDS)
        self._thread.start()

    def take_turns(self, what: str) -> None:
        """Take the lease. what: the subject of an error. Raises TransientError after `HOLD_PATIENCE` seconds."""
        turns = ChangeAttempts(what, locks.HOLD_PATIENCE, most=_POLL_SECONDS)
        while not self._try_take():
            turns.wait(self._read_holder)
        self._thread.start()

    def check(self) -> None:
        """Give a sign of life now. Raises TransientError where it is another's by now.

        What is done within LASTS afterwards is done before anybody can take it over.
        """
        if self.lost.is_set() or not self._renew():
            raise TransientError(
                f"{self._bucket.address(self._name)}: this process was stopped for so long that another one took its "
                "place, and it has not gone on; run again",
                code="store.hold-lost",
                address=self._bucket.address(self._name),
                holder=self._read_holder(),
            )

    def give_back(self) -> None:
        """End it, so that another need not wait for its time to run out."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        if not self.lost.is_set():
            self._bucket.write(self._name, self._encode_content(free=True), etag=self._etag)

    def _try_take(self) -> bool:
        stored = self._bucket.read(self._name)
        if stored is None:
            self.generation = 1
            self._bucket.write(self._name, self._encode_content(), absent=True)
        else:
            content, blob = _parse_lease(stored[0]), stored[1]
            if not self._is_free(content, blob):
                return False
            self.generation = int(content["generation"]) + 1
            self._bucket.write(self._name, self._encode_content(), etag=blob.etag)
        # Read back: an answer may have been lost, and not every server looks and writes in one step.
        return self._is_own()

    def _is_free(self, content: Json, blob: Blob) -> bool:
        if blob.etag != self._last_seen_etag[0]:
            self._last_seen_etag = (blob.etag, time.monotonic())
        if blob.age is None:  # the server does not tell its time
            return bool(content["free"]) or time.monotonic() - self._last_seen_etag[1] > self._lasts.total_seconds()
        return bool(content["free"]) or blob.age > self._lasts

    def _is_own(self) -> bool:
        stored = self._bucket.read(self._name)
        if stored is None or _parse_lease(stored[0])["token"] != self.token:
            return False
        self._etag = stored[1].etag
        return True

    def _read_holder(self) -> str:
        stored = self._bucket.read(self._name)
        return str(_parse_lease(stored[0])["holder"]) if stored else ""

    def _keep_renewing(self) -> None:
        while not self._ended.wait(self._lasts.total_seconds() / 3):
            try:
                if not self._renew():
                    return
            except EndcapError:
                continue  # the server is away: whether the lease was lost shows when it is back

    def _renew(self) -> bool:
        """Give a sign of life; whether it is still this one's."""
        with self._renewing:
            etag = self._bucket.write(self._name, self._encode_content(), etag=self._etag)
            if etag:
                self._etag = etag
            elif not self._is_own():
                self.lost.set()
        return not self.lost.is_set()

    def _encode_content(self, *, free: bool = False) -> bytes:
        # Another content each time: an etag is mostly a checksum, and must not come back.
        sign = uuid.uuid4().hex
        document = {"token": self.token, "generation": self.generation, "free": free, "sign": sign}
        document["holder"] = describe_this_process()
        return json.dumps(document).encode()


def _parse_lease(content: bytes) -> Json:
    try:
        parsed: Json = {"token": "", "generation": 0, "holder": "unknown", "free": False, **parse_json(content)}
        return {**parsed, "generation": int(parsed["generation"])}
    except (ValueError, TypeError, OverflowError):
        return {"token": "", "generation": 0, "holder": "unknown", "free": True}
