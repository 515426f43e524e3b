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
    """A lease on a name in a bucket: one process at a time holds it, as far as object storage allows.

    The lease is an object. Its holder rewrites it three times in `LEASE_SECONDS`, each time only over its own last
    version. Another process takes the lease over if the object is older than that by the server's clock, on the
    condition that it is still the same object. A holder that was stopped for too long finds this out at its next
    renewal, and `lost` is set.

    Parameters
    ----------
    bucket
        The bucket.
    name
        The object's name.

    Notes
    -----
    `generation` counts the holders. The object stays after the lease is given back, so that no generation occurs twice.
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
        """Wait until this process holds the lease.

        Parameters
        ----------
        progress
            Called with a line about the process that holds it.
        """
        reported = ""
        while not self._try_take():
            holder = self._read_holder()
            if holder and holder != reported:
                reported = holder
                progress(f"another process does the same work ({holder}); waiting for it")
            time.sleep(_POLL_SECONDS)
        self._thread.start()

    def take_turns(self, what: str) -> None:
        """Take the lease, after other processes that hold it for a short time.

        Parameters
        ----------
        what
            What the lease is for, for the message.

        Raises
        ------
        TransientError
            Other processes have held it for `HOLD_PATIENCE` seconds (`store.contended`).
        """
        attempts = ChangeAttempts(what, locks.HOLD_PATIENCE, most=_POLL_SECONDS)
        while not self._try_take():
            attempts.wait(self._read_holder)
        self._thread.start()

    def check(self) -> None:
        """Renew the lease now. For the next `LEASE_SECONDS` nobody can take it over.

        Raises
        ------
        TransientError
            Another process holds it (`store.hold-lost`).
        """
        if self.lost.is_set() or not self._renew():
            raise TransientError(
                f"{self._bucket.address(self._name)}: this process was stopped for so long that another one took "
                "over, so this one has ended without a change; run again",
                code="store.hold-lost",
                address=self._bucket.address(self._name),
                holder=self._read_holder(),
            )

    def give_back(self) -> None:
        """Give the lease back, so that another process need not wait until it expires."""
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
        # Read it back: an answer may have been lost, and some servers do not check and write in one step.
        return self._is_own()

    def _is_free(self, content: Json, blob: Blob) -> bool:
        if blob.etag != self._last_seen_etag[0]:
            self._last_seen_etag = (blob.etag, time.monotonic())
        if blob.age is None:  # the server sends no time
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
                continue  # the server is away; whether the lease is lost is known when it is back

    def _renew(self) -> bool:
        """Renew the lease, and tell whether this process still holds it."""
        with self._renewing:
            etag = self._bucket.write(self._name, self._encode_content(), etag=self._etag)
            if etag:
                self._etag = etag
            elif not self._is_own():
                self.lost.set()
        return not self.lost.is_set()

    def _encode_content(self, *, free: bool = False) -> bytes:
        # The content differs each time: most etags are checksums, and no etag may occur twice.
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
