"""Group commit: one thread writes the records of all waiting requests, flushes once, and only then answers them."""

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
from endcap_serving.json_log import make_log_fields

log = logging.getLogger("endcap.intake")
PAUSE = 1.0
"""Seconds after a failed write in which no write is tried. A full disk is tried once a second, not once a request."""
RECENT = 10.0
"""Seconds for which a failed write makes the intake not ready. After that it must get requests again, because only a
request can show that writing works."""


@dataclass
class RecordBatch:
    """The valid records of one request.

    Parameters
    ----------
    kind
        Position of the records' kind in `records.NAMES`.
    hashes
        The 64-bit hash of each record's id.
    lines
        Each record as JSON, without a line end.
    records
        The records themselves.
    acknowledge
        The committing thread calls it once, when the records are durable or cannot be.
    accepted
        The records that are durable now and whose ids were not known.
    failure
        Why no record was kept; None if all are durable.
    """

    kind: int
    hashes: list[int]
    lines: list[bytes]
    records: list[dict[str, Any]]
    acknowledge: Callable[[], None] = lambda: None
    accepted: list[dict[str, Any]] = field(default_factory=list)
    failure: EndcapError | None = None

    @property
    def duplicates(self) -> int:
        """How many records have an id that was known."""
        return len(self.records) - len(self.accepted)


class SegmentWriter:
    """The open segment, and the thread that writes it.

    Parameters
    ----------
    folder
        The intake's folder.
    known_ids
        The ids of the last 24 hours.
    on_close
        Gets the file of each segment that is closed, and how many bytes of it are good.
    on_accept
        Gets the batches of a commit that accepted records.
    max_bytes
        Size at which a segment is closed.
    max_seconds
        Age at which a segment is closed.
    reserve
        Bytes of the disk that stay free, so that closed segments can still be sealed, which makes room.
    """

    def __init__(
        self,
        folder: Path,
        known_ids: KnownIds,
        *,
        on_close: Callable[[Path, int], None],
        on_accept: Callable[[Sequence[RecordBatch]], None],
        max_bytes: int,
        max_seconds: float,
        reserve: int,
    ) -> None:
        self._folder, self._known_ids = SegmentFolder(folder), known_ids
        self._on_close, self._on_accept = on_close, on_accept
        self._max_bytes, self._max_seconds, self._reserve = max_bytes, max_seconds, reserve
        self._waiting: list[RecordBatch] = []
        self._wake = threading.Condition()
        self._ending = False
        self._segment: Segment | None = None
        self._open_time = 0.0
        self._failure: EndcapError | None = None
        self._retry_at = 0.0
        self._thread = threading.Thread(target=self._run, name="commit", daemon=True)

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    @property
    def failure(self) -> EndcapError | None:
        """Why a write failed in the last seconds; None if all is well, or if another try is due."""
        return (self._failure if time.monotonic() < self._retry_at + RECENT else None) or self._find_space_shortage()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def submit(self, batch: RecordBatch) -> None:
        """Have a batch written. The thread calls its `acknowledge`."""
        with self._wake:
            self._waiting.append(batch)
            self._wake.notify()

    def end(self) -> None:
        """Commit the waiting batches, close the segment, and stop the thread."""
        with self._wake:
            self._ending = True
            self._wake.notify()
        self._thread.join()

    def _run(self) -> None:
        """Commit groups of batches until the end."""
        while True:
            with self._wake:
                if not self._waiting and not self._ending:
                    self._wake.wait(self._get_seconds_to_close())
                group, self._waiting = self._waiting, []
                ending = self._ending and not group
            if group:
                self._commit_group(group)
            if self._segment and (ending or self._is_full(self._segment)):
                self._close()
            if ending:
                return

    def _commit_group(self, group: list[RecordBatch]) -> None:
        """Commit a group, and acknowledge each of its batches whether that went well or not."""
        start_time = time.monotonic()
        try:
            self._commit(group)
        except EndcapError as error:
            self._fail(group, error)
        except OSError as error:
            self._fail(group, _make_disk_error(error))
        except Exception:
            # The waiting requests get an answer whatever it is, and the next group is tried.
            failure = EndcapError("the intake itself failed; see its log", code="intake.commit-failed")
            log.exception("a commit failed", extra={"code": failure.code})
            self._fail(group, failure)
        metrics.COMMIT.observe(time.monotonic() - start_time)
        for batch in group:
            batch.acknowledge()
        if any(batch.accepted for batch in group):
            self._on_accept(group)

    def _commit(self, group: list[RecordBatch]) -> None:
        """Write the new records of a group. If this raises, none of them is kept.

        Raises EndcapError if there is no point in a write now, OSError if a write failed.
        """
        new_records, hashes = self._find_new_records(group)
        frames = b"".join(
            encode_frame(kind, [number for number, _ in of_kind], [line for _, line in of_kind])
            for kind, of_kind in new_records.items()
        )
        if not frames:
            return  # All ids are known, and known records are durable.
        if self._failure and time.monotonic() < self._retry_at:
            raise self._failure
        if shortage := self._find_space_shortage():
            raise shortage
        if self._segment is None:
            self._segment = self._folder.open(time.time_ns() // 1_000_000, self._known_ids.last)
            self._open_time = time.monotonic()
        self._segment.append(frames)
        self._known_ids.add(hashes)
        self._failure = None
        metrics.OPEN_BYTES.set(self._segment.bytes)

    def _find_new_records(self, group: list[RecordBatch]) -> tuple[dict[int, list[tuple[int, bytes]]], set[int]]:
        """Find the records with new ids, and add them to `accepted` of their batches.

        Returns their hashes and lines by kind, and all their hashes.
        """
        known = self._known_ids.find_known([number for batch in group for number in batch.hashes])
        new_hashes: set[int] = set()
        new_records: dict[int, list[tuple[int, bytes]]] = {}
        for batch in group:
            records_of_kind = new_records.setdefault(batch.kind, [])
            for number, line, record in zip(batch.hashes, batch.lines, batch.records, strict=True):
                # If two records of a group have one id, the first is durable when both are answered.
                if number not in known and number not in new_hashes:
                    new_hashes.add(number)
                    records_of_kind.append((number, line))
                    batch.accepted.append(record)
        return {kind: lines for kind, lines in new_records.items() if lines}, new_hashes

    def _fail(self, group: list[RecordBatch], error: EndcapError) -> None:
        """Give a group the error, and close the segment."""
        if not self._failure:
            log.error("records cannot be written", extra=make_log_fields(error))
        metrics.FAILED.inc()
        if time.monotonic() >= self._retry_at:
            self._failure, self._retry_at = error, time.monotonic() + PAUSE
        for batch in group:
            batch.accepted, batch.failure = [], error
        # After a failed flush nobody knows how much of the file is on the disk, so no more is written to it.
        if self._segment is not None:
            self._close()

    def _close(self) -> None:
        """Close the open segment and hand it on, or remove it if it is empty."""
        segment, self._segment = self._segment, None
        assert segment is not None
        segment.close()
        if not segment.bytes:
            # If it cannot be removed now, the next start removes it.
            with contextlib.suppress(OSError):
                segment.file.unlink(missing_ok=True)
            return
        self._known_ids.close(parse_sequence(segment.file))
        metrics.OPEN_BYTES.set(0)
        self._on_close(segment.file, segment.bytes)

    def _is_full(self, segment: Segment) -> bool:
        """Whether a segment has reached its size or its age."""
        return segment.bytes >= self._max_bytes or time.monotonic() >= self._open_time + self._max_seconds

    def _get_seconds_to_close(self) -> float | None:
        """Return the seconds until the open segment reaches its age; None if there is none."""
        return max(self._open_time + self._max_seconds - time.monotonic(), 0.0) if self._segment else None

    def _find_space_shortage(self) -> EndcapError | None:
        """Return an error if less of the disk is free than the reserve, or if the disk does not say."""
        try:
            disk = os.statvfs(self._folder.path)
        except OSError as error:
            return _make_disk_error(error)
        free = disk.f_bavail * disk.f_frsize
        if free >= self._reserve:
            return None
        return StorageError(
            f"the disk is full: {free >> 20:,} MiB are free, and {self._reserve >> 20:,} MiB are reserved for sealing",
            code="intake.disk-full",
            free=free,
            reserve=self._reserve,
        )


def _make_disk_error(error: OSError) -> StorageError:
    """Make the error for a failed write."""
    reason = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return StorageError(f"the disk is full: {reason}", code="intake.disk-full", reason=reason)
    return StorageError(f"the disk cannot be written: {reason}", code="intake.disk-unwritable", reason=reason)
