"""Sealing: closed segments become Parquet files, one after the other. Only then is a segment removed."""

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
from endcap_serving.json_log import make_log_fields

log = logging.getLogger("endcap.intake")
WAITS = (1.0, 2.0, 5.0, 15.0, 30.0)
"""Seconds before the next try after the first, second, … failure in a row; later ones wait as long as the last."""
TIDYING = 60.0
"""Seconds between two times that ids are merged and forgotten while nothing is sealed."""


class Sealer:
    """A thread that seals segments in the order of their numbers, and tries again until it succeeds.

    Parameters
    ----------
    folder
        The intake's folder.
    known_ids
        The ids of the last 24 hours.
    open_destination
        Opens the place for the Parquet files. It may fail when the intake starts and succeed later.
    instance
        A part of the files' names that the files of no other intake have.
    """

    def __init__(
        self, folder: Path, known_ids: KnownIds, open_destination: Callable[[], Destination], instance: str
    ) -> None:
        self._folder, self._known_ids = SegmentFolder(folder), known_ids
        self._open_destination, self._instance = open_destination, instance
        self._destination: Destination | None = None
        self._waiting: deque[tuple[Path, float, int | None]] = deque()
        self._wake = threading.Condition()
        self._ending = False
        self._tidy_time = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="seal", daemon=True)

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    @property
    def lag(self) -> float:
        """Seconds since the oldest unsealed segment was closed; 0 if there is none."""
        with self._wake:
            return time.monotonic() - self._waiting[0][1] if self._waiting else 0.0

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def add(self, file: Path, end: int | None = None) -> None:
        """Have a closed segment sealed.

        Parameters
        ----------
        file
            The segment.
        end
            How many bytes of it are good, if that is known.
        """
        with self._wake:
            self._waiting.append((file, time.monotonic(), end))
            metrics.SEALING_WAITING.set(len(self._waiting))
            self._wake.notify()

    def end(self, patience: float) -> bool:
        """Seal what waits, for `patience` seconds at most, and stop.

        Returns
        -------
        bool
            True if everything is sealed. If not, the next start seals the rest.
        """
        with self._wake:
            self._ending = True
            self._wake.notify()
        self._thread.join(patience)
        return not self._waiting

    def _run(self) -> None:
        """Seal segments until the end, and tidy the ids between."""
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
                # The disk is full, or the bucket cannot be reached. The segment stays until it is sealed.
                tries += 1
                metrics.SEALING_FAILED.inc()
                segment = file and file.name
                log.error(
                    "a segment is not sealed yet",
                    extra=make_log_fields(_make_sealing_error(error)) | {"segment": segment},
                )
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
        """Seal a segment. If a kill cuts this off, the next time makes the same files under the same names."""
        if not file.exists():
            return
        start_time, content, sequence = time.monotonic(), read_segment(file, end), parse_sequence(file)
        self._known_ids.keep(sequence, [frame.hashes for frame in content.frames])
        if self._destination is None:
            self._destination = self._open_destination()
        day = datetime.fromtimestamp(content.opened / 1000, UTC).date()
        tables = build_tables(content.frames)
        for kind, table in tables.items():
            self._destination.put(f"{kind}/date={day}/{self._instance}-{sequence:012d}.parquet", table)
        if content.damaged or content.tail:
            # A closed segment ends with a frame, because a torn tail was cut off at the start. So the disk changed it.
            damaged_segments.set_aside(file, content)
        else:
            self._folder.remove(file)
        metrics.SEALED.inc()
        rows = {kind: len(table) for kind, table in tables.items()}
        seconds = round(time.monotonic() - start_time, 3)
        log.info("sealed", extra={"segment": file.name, **rows, "seconds": seconds})

    def _tidy(self, *, sealed: bool) -> None:
        """Merge and forget ids. Never raises.

        Sealing comes first, because it makes room on the disk and merging needs some.
        """
        if not sealed and time.monotonic() < self._tidy_time + TIDYING:
            return
        self._tidy_time = time.monotonic()
        try:
            self._known_ids.tidy()
        except Exception as error:
            metrics.UNTIDY.inc()
            log.error("ids are not merged yet", extra=make_log_fields(_make_sealing_error(error)))


def _make_sealing_error(error: Exception) -> EndcapError:
    """Convert an error of sealing or merging to one of Endcap's."""
    if isinstance(error, EndcapError):
        return error
    return StorageError(str(error) or repr(error), code="intake.segment-unsealed", kind=type(error).__name__)


def recover(folder: Path, known_ids: KnownIds, replay: Callable[[Sequence[Frame]], None]) -> list[Path]:
    """Recover what an earlier process left: cut off torn tails, and make ids known again.

    Parameters
    ----------
    folder
        The intake's folder.
    known_ids
        Gets the ids of the segments.
    replay
        Gets the frames of the newest segment, which the online store may lack.

    Returns
    -------
    list[Path]
        The segments to seal, oldest first.

    Raises
    ------
    OSError
        The folder cannot be read.
    """
    segments = SegmentFolder(folder)
    for work_folder in (folder, segments.path, known_ids.folder):
        remove_drafts(work_folder)
    damaged_segments.remove_oldest(segments.path)
    unsealed_files = []
    newest: Sequence[Frame] = ()
    files = segments.list_files()
    for file in files:
        content = read_segment(file)
        # Only the newest segment was being written when the process ended. A bad tail of another one is damage, which
        # sealing notices.
        if content.torn and file == files[-1]:
            _cut_tail(file, content)
        if not content.frames and not content.tail:
            segments.remove(file)
            continue
        known_ids.keep_or_remember(parse_sequence(file), [frame.hashes for frame in content.frames])
        newest = content.frames
        unsealed_files.append(file)
    replay(newest)
    return unsealed_files


def _cut_tail(file: Path, content: SegmentContent) -> None:
    """Cut off a torn tail. If there is no room to keep it, it stays, and sealing sets the whole segment aside."""
    try:
        damaged_segments.cut_torn_tail(file, content)
    except OSError as error:
        log.error(
            "a torn tail cannot be copied, so it is not cut off yet",
            extra=make_log_fields(_make_sealing_error(error)) | {"segment": file.name},
        )
    else:
        content.size = content.end
