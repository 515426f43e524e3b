"""Group commit: one thread writes what all waiting requests brought, flushes it once, and only then answers them."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from endcap.errors import EndcapError, StorageError
from endcap_serving.intake import metrics
from endcap_serving.intake.known_ids import KnownIds
from endcap_serving.intake.segments import Segment, SegmentFolder, encode_frame, parse_sequence
from endcap_serving.json_log import log_fields_of

log = logging.getLogger("endcap.intake")
PAUSE = 1.0
"""Seconds after a failed write in which nothing is tried: a full disk is asked once a second, not once a request."""
RECENT = 10.0
"""Seconds for which a failed write tells of itself: who is not ready gets no request that could show that it went."""


@dataclass
class RecordBatch:
    """The valid records of one request. The committing thread calls `acknowledge` once, when it has decided."""

    kind: int
    hashes: list[int]
    lines: list[bytes]
    records: list[dict[str, Any]]
    acknowledge: Callable[[], None] = lambda: None
    accepted: list[dict[str, Any]] = field(default_factory=list)
    """Records that are durable now and were not known."""
    failure: EndcapError | None = None
    """Why nothing of it was kept."""

    @property
    def duplicates(self) -> int:
        return len(self.records) - len(self.accepted)


class SegmentWriter:
    """The open segment, and the thread that writes it."""

    def __init__(
        self,
        folder: Path,
        known_ids: KnownIds,
        *,
        closed: Callable[[Path, int], None],
        accepted: Callable[[Sequence[RecordBatch]], None],
        most_bytes: int,
        most_seconds: float,
        reserve: int,
    ) -> None:
        """closed: is given each segment that is closed, and how far it is good; accepted: what became durable, of
        several batches.

        reserve: bytes of the disk that are left free, so that what is there can still be sealed and so make room.
        """
        self._folder, self._known_ids, self._closed, self._accepted = SegmentFolder(folder), known_ids, closed, accepted
        self._most_bytes, self._most_seconds, self._reserve = most_bytes, most_seconds, reserve
        self._waiting: list[RecordBatch] = []
        self._wake = threading.Condition()
        self._ending = False
        self._segment: Segment | None = None
        self._opened = 0.0
        self._failure: EndcapError | None = None
        self._until = 0.0
        self._thread = threading.Thread(target=self._run, name="commit", daemon=True)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def failure(self) -> EndcapError | None:
        """Why nothing could be written a moment ago; None where all is well, or worth another try."""
        return (self._failure if time.monotonic() < self._until + RECENT else None) or self._short_of_space()

    def start(self) -> None:
        self._thread.start()

    def submit(self, batch: RecordBatch) -> None:
        with self._wake:
            self._waiting.append(batch)
            self._wake.notify()

    def end(self) -> None:
        """Commit what waits, close the segment, and stop."""
        with self._wake:
            self._ending = True
            self._wake.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._wake:
                if not self._waiting and not self._ending:
                    self._wake.wait(self._until_closing())
                group, self._waiting = self._waiting, []
                ending = self._ending and not group
            if group:
                self._commit_or_tell(group)
            if self._segment and (ending or self._is_full(self._segment)):
                self._close()
            if ending:
                return

    def _commit_or_tell(self, group: list[RecordBatch]) -> None:
        begun = time.monotonic()
        try:
            self._commit(group)
        except EndcapError as known:
            self._fail(group, known)
        except OSError as error:
            self._fail(group, _of_disk(error))
        except Exception:
            # Whatever it is, those who wait are told, and the next group is tried.
            own = EndcapError("an error of the intake's own, which its log tells", code="intake.commit-failed")
            log.exception("a commit failed", extra={"code": own.code})
            self._fail(group, own)
        metrics.COMMIT.observe(time.monotonic() - begun)
        for batch in group:
            batch.acknowledge()
        if any(batch.accepted for batch in group):
            self._accepted(group)

    def _commit(self, group: list[RecordBatch]) -> None:
        """Write what is new of a group. Nothing of it is kept where this raises.

        Raises EndcapError where there is no point in a try, OSError where one failed.
        """
        kept, hashes = self._new_of(group)
        frames = b"".join(
            encode_frame(kind, [number for number, _ in of_kind], [line for _, line in of_kind])
            for kind, of_kind in kept.items()
        )
        if not frames:
            return  # All known, and what is known is durable.
        if self._failure and time.monotonic() < self._until:
            raise self._failure
        if short := self._short_of_space():
            raise short
        if self._segment is None:
            self._segment = self._folder.open(time.time_ns() // 1_000_000, self._known_ids.last)
            self._opened = time.monotonic()
        self._segment.append(frames)
        self._known_ids.add(hashes)
        self._failure = None
        metrics.OPEN_BYTES.set(self._segment.bytes)

    def _new_of(self, group: list[RecordBatch]) -> tuple[dict[int, list[tuple[int, bytes]]], set[int]]:
        """Hashes and lines by kind of the records that are new, and all those hashes; each batch is told its own."""
        known = self._known_ids.known([number for batch in group for number in batch.hashes])
        taken: set[int] = set()
        kept: dict[int, list[tuple[int, bytes]]] = {}
        for batch in group:
            new_hashes = kept.setdefault(batch.kind, [])
            for number, line, record in zip(batch.hashes, batch.lines, batch.records, strict=True):
                # Of two with one id in one group the second is as durable as the first, when it is answered.
                if number not in known and number not in taken:
                    taken.add(number)
                    new_hashes.append((number, line))
                    batch.accepted.append(record)
        return {kind: lines for kind, lines in kept.items() if lines}, taken

    def _fail(self, group: list[RecordBatch], why: EndcapError) -> None:
        if not self._failure:
            log.error("nothing can be written", extra=log_fields_of(why))
        metrics.FAILED.inc()
        if time.monotonic() >= self._until:
            self._failure, self._until = why, time.monotonic() + PAUSE
        for batch in group:
            batch.accepted, batch.failure = [], why
        # After a failed flush nobody knows what of the file is on the disk: it is not written to any more.
        if self._segment is not None:
            self._close()

    def _close(self) -> None:
        segment, self._segment = self._segment, None
        assert segment is not None
        segment.close()
        if not segment.bytes:
            # One that stays is removed at the next start.
            with contextlib.suppress(OSError):
                segment.file.unlink(missing_ok=True)
            return
        self._known_ids.close(parse_sequence(segment.file))
        metrics.OPEN_BYTES.set(0)
        self._closed(segment.file, segment.bytes)

    def _is_full(self, segment: Segment) -> bool:
        return segment.bytes >= self._most_bytes or time.monotonic() >= self._opened + self._most_seconds

    def _until_closing(self) -> float | None:
        return max(self._opened + self._most_seconds - time.monotonic(), 0.0) if self._segment else None

    def _short_of_space(self) -> EndcapError | None:
        try:
            disk = os.statvfs(self._folder.path)
        except OSError as error:
            return _of_disk(error)
        free = disk.f_bavail * disk.f_frsize
        if free >= self._reserve:
            return None
        return StorageError(
            f"the disk is full: {free >> 20:,} MiB are free, and {self._reserve >> 20:,} MiB are kept for sealing",
            code="intake.disk-full",
            free=free,
            reserve=self._reserve,
        )


def _of_disk(error: OSError) -> StorageError:
    reason = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return StorageError(f"the disk is full: {reason}", code="intake.disk-full", reason=reason)
    return StorageError(f"the disk cannot be written: {reason}", code="intake.disk-unwritable", reason=reason)
