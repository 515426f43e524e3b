"""Closed segments become Parquet files, one after the other; only then is a segment removed."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from endcap.errors import EndcapError, StorageError
from endcap_serving.intake import damaged_segments, metrics
from endcap_serving.intake.destinations import Destination
from endcap_serving.intake.known_ids import KnownIds
from endcap_serving.intake.parquet import build_tables
from endcap_serving.intake.segments import (
    Frame,
    SegmentContent,
    SegmentFolder,
    parse_sequence,
    read_segment,
    remove_drafts,
)
from endcap_serving.json_log import log_fields_of

log = logging.getLogger("endcap.intake")
WAITS = (1.0, 2.0, 5.0, 15.0, 30.0)
"""Seconds before a segment that could not be sealed is tried again; the last for ever."""
TIDYING = 60.0


class Sealer:
    """A thread that seals segments in the order of their numbers, and tries again until it goes."""

    def __init__(self, folder: Path, known_ids: KnownIds, outlet: Callable[[], Destination], instance: str) -> None:
        """outlet: opens it, or raises as the outlet itself does: it may be away when the intake starts.

        instance: the part of files' names that no other intake's files have.
        """
        self._folder, self._known_ids, self._open, self._instance = SegmentFolder(folder), known_ids, outlet, instance
        self._outlet: Destination | None = None
        self._waiting: deque[tuple[Path, float, int | None]] = deque()
        self._wake = threading.Condition()
        self._ending = False
        self._tidied = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="seal", daemon=True)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def lag(self) -> float:
        """Seconds since the oldest segment that is not sealed was closed."""
        with self._wake:
            return time.monotonic() - self._waiting[0][1] if self._waiting else 0.0

    def start(self) -> None:
        self._thread.start()

    def add(self, file: Path, end: int | None = None) -> None:
        """end: how far the file is good, where that is known."""
        with self._wake:
            self._waiting.append((file, time.monotonic(), end))
            metrics.SEALING_WAITING.set(len(self._waiting))
            self._wake.notify()

    def end(self, patience: float) -> bool:
        """Seal what waits, for so many seconds at most; whether all is. The rest is left for the next start."""
        with self._wake:
            self._ending = True
            self._wake.notify()
        self._thread.join(patience)
        return not self._waiting

    def _run(self) -> None:
        tries = 0
        while True:
            with self._wake:
                if not self._waiting:
                    if self._ending:
                        return
                    self._wake.wait(TIDYING)
                file, _, end = self._waiting[0] if self._waiting else (None, 0.0, None)
            try:
                if file is not None:
                    self._seal(file, end)
            except Exception as error:
                # A full disk, a bucket that is away: the segment stays, and is the truth until it goes.
                tries += 1
                metrics.SEALING_FAILED.inc()
                segment = file and file.name
                log.error("a segment is not sealed yet", extra=log_fields_of(_unsealed(error)) | {"segment": segment})
                with self._wake:
                    if self._ending:
                        return
                    self._wake.wait(WAITS[min(tries, len(WAITS)) - 1])
                continue
            tries = 0
            if file is not None:
                with self._wake:
                    self._waiting.popleft()
                    metrics.SEALING_WAITING.set(len(self._waiting))
            self._tidy(sealed=file is not None)

    def _seal(self, file: Path, end: int | None) -> None:
        """Done again after a kill it makes the same files under the same names."""
        if not file.exists():
            return
        begun, content, sequence = time.monotonic(), read_segment(file, end), parse_sequence(file)
        self._known_ids.keep(sequence, [frame.hashes for frame in content.frames])
        if self._outlet is None:
            self._outlet = self._open()
        day = datetime.fromtimestamp(content.opened / 1000, UTC).date()
        tables = build_tables(content.frames)
        for kind, table in tables.items():
            self._outlet.put(f"{kind}/date={day}/{self._instance}-{sequence:012d}.parquet", table)
        if content.damaged or content.tail:
            # A closed segment ends with a frame: a torn tail of the newest was cut off at the start.
            damaged_segments.set_aside(file, content)
        else:
            self._folder.remove(file)
        metrics.SEALED.inc()
        rows = {kind: len(table) for kind, table in tables.items()}
        seconds = round(time.monotonic() - begun, 3)
        log.info("sealed", extra={"segment": file.name, **rows, "seconds": seconds})

    def _tidy(self, *, sealed: bool) -> None:
        """Sealing does not wait for it: it makes room, and merging ids needs some. Never raises."""
        if not sealed and time.monotonic() < self._tidied + TIDYING:
            return
        self._tidied = time.monotonic()
        try:
            self._known_ids.tidy()
        except Exception as error:
            metrics.UNTIDY.inc()
            log.error("ids are not merged yet", extra=log_fields_of(_unsealed(error)))


def _unsealed(error: Exception) -> EndcapError:
    if isinstance(error, EndcapError):
        return error
    return StorageError(str(error) or repr(error), code="intake.segment-unsealed", kind=type(error).__name__)


def recover(folder: Path, known_ids: KnownIds, replay: Callable[[Sequence[Frame]], None]) -> list[Path]:
    """What an earlier process left: torn tails are cut off, ids are known again; the segments that are to be sealed.

    replay: is given the records of the newest, which the online store may not have got.
    """
    segments = SegmentFolder(folder)
    for place in (folder, segments.path, known_ids.folder):
        remove_drafts(place)
    damaged_segments.bound(segments.path)
    left = []
    newest: Sequence[Frame] = ()
    files = segments.list_files()
    for file in files:
        content = read_segment(file)
        # Only the newest was written to when the process ended. A bad tail of another is damage, which sealing sees.
        if content.torn and file == files[-1]:
            _cut(file, content)
        if not content.frames and not content.tail:
            segments.remove(file)
            continue
        known_ids.keep_or_remember(parse_sequence(file), [frame.hashes for frame in content.frames])
        newest = content.frames
        left.append(file)
    replay(newest)
    return left


def _cut(file: Path, content: SegmentContent) -> None:
    """Where there is no room to keep the tail it stays, and the whole segment is set aside when it is sealed."""
    try:
        damaged_segments.cut_torn_tail(file, content)
    except OSError as error:
        log.error("a torn tail cannot be kept beside", extra=log_fields_of(_unsealed(error)) | {"segment": file.name})
    else:
        content.size = content.end
