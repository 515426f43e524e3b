"""The parts of an intake together: segments that are written and sealed, and the online store that follows."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import re
import secrets
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from endcap.errors import StorageError, TransientError, UserError
from endcap.online import OnlineStore
from endcap.online.record_updates import Retention
from endcap_serving.intake import damaged_segments, metrics
from endcap_serving.intake.commit import RecordBatch, SegmentWriter
from endcap_serving.intake.destinations import Destination, open_destination
from endcap_serving.intake.known_ids import KnownIds
from endcap_serving.intake.online_writer import OnlineWriter
from endcap_serving.intake.records import NAMES
from endcap_serving.intake.sealing import Sealer, recover
from endcap_serving.intake.segments import SegmentFolder, replace_file
from endcap_serving.json_log import make_log_fields

log = logging.getLogger("endcap.intake")
_MARK = re.compile(r"[0-9a-f]{8}")


@dataclass(frozen=True)
class IntakeSettings:
    """Settings of one intake.

    Parameters
    ----------
    folder
        Where segments and ids lie. The intake needs a volume of its own.
    out
        Where Parquet files go: a folder or ``s3://bucket/prefix``.
    instance
        A part of the Parquet files' names, before the folder's mark.
    segment_bytes, segment_seconds
        Size and age at which a segment is closed.
    reserve
        Bytes of the disk that stay free for sealing.
    end_seconds
        Seconds that the end may take to seal. The online store gets a quarter of that besides.
    retention
        How long the online store keeps events and owned items.
    """

    folder: Path
    out: str
    instance: str = field(default_factory=lambda: socket.gethostname())
    segment_bytes: int = 64 << 20
    segment_seconds: float = 300.0
    reserve: int = 256 << 20
    end_seconds: float = 30.0
    retention: Retention = field(default_factory=Retention)


class Intake:
    """An intake's threads and files. Only one process at a time may use a folder.

    Parameters
    ----------
    settings
        The intake's settings.
    online
        The online store that follows. The intake closes it at the end.

    Raises
    ------
    UserError
        Another intake has the folder, or the address of the destination is wrong.
    StorageError
        The folder or the bucket cannot be used.
    """

    def __init__(self, settings: IntakeSettings, online: OnlineStore | None = None) -> None:
        self.settings = settings
        folder = settings.folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with contextlib.ExitStack() as stack:
                self._lock = stack.enter_context((folder / "lock").open("w"))
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                instance = f"{settings.instance}-{_read_mark(folder)}"
                open_outlet = _prepare_destination(settings.out, folder)
                self._segments = SegmentFolder(folder).path
                self.known_ids = KnownIds(folder)
                stack.pop_all()
        except BlockingIOError:
            raise UserError(
                f"--folder {folder}: another intake uses it; give each intake a folder of its own",
                code="intake.folder-taken",
                folder=str(folder),
            ) from None
        except OSError as error:
            raise StorageError(
                f"cannot use {error.filename or folder}: {error.strerror}; name another folder",
                code="intake.folder-unusable",
                folder=str(error.filename or folder),
                reason=error.strerror,
            ) from error
        self.online_writer = OnlineWriter(online, settings.retention) if online is not None else None
        self.sealer = Sealer(folder, self.known_ids, open_outlet, instance)
        self.writer = SegmentWriter(
            folder,
            self.known_ids,
            on_close=self.sealer.add,
            on_accept=self._offer_accepted,
            max_bytes=settings.segment_bytes,
            max_seconds=settings.segment_seconds,
            reserve=settings.reserve,
        )
        metrics.SEALING_LAG.set_function(lambda: self.sealer.lag)
        metrics.ONLINE_LAG.set_function(lambda: self.online_writer.lag if self.online_writer else 0.0)

    @property
    def kept_files(self) -> dict[str, int]:
        """Count damaged files that are kept for a person, by kind."""
        return damaged_segments.count_files(self._segments)

    @property
    def alive(self) -> bool:
        """Whether the writing and the sealing thread run."""
        return self.writer.alive and self.sealer.alive

    def start(self) -> None:
        """Recover what an earlier process left, and start the threads."""
        segments = recover(
            self.settings.folder,
            self.known_ids,
            self.online_writer.replay if self.online_writer else lambda frames: None,
        )
        for file in segments:
            self.sealer.add(file)
        for part in (self.online_writer, self.sealer, self.writer):
            if part is not None:
                part.start()
        log.info("started", extra={"folder": str(self.settings.folder), "segments": len(segments)})

    def end(self) -> None:
        """Commit, seal and send what waits. The next start goes on with what takes too long."""
        self.writer.end()
        sealed = self.sealer.end(self.settings.end_seconds)
        if self.online_writer is not None:
            self.online_writer.end(self.settings.end_seconds / 4)
        message = "ended" if sealed else "ended; the next start seals the remaining segments"
        log.info(message, extra={"lag": round(self.sealer.lag, 1)})
        self._lock.close()

    def _offer_accepted(self, group: Sequence[RecordBatch]) -> None:
        """Offer the accepted records of a group to the online store."""
        if self.online_writer is not None:
            for batch in group:
                if batch.accepted:
                    self.online_writer.offer(batch.kind, batch.accepted)


def count_batch(batch: RecordBatch) -> None:
    """Count the records of a batch that was answered, in the metrics."""
    metrics.ACCEPTED.labels(NAMES[batch.kind]).inc(len(batch.accepted))
    if batch.duplicates:
        metrics.DUPLICATES.labels(NAMES[batch.kind]).inc(batch.duplicates)


def _read_mark(folder: Path) -> str:
    """Read the folder's mark, or make one. No other folder has it. Raises OSError.

    A pod that comes back with an empty volume counts its segments from 1 again. The mark in the files' names keeps it
    from replacing the Parquet files of the pod before it.
    """
    file = folder / "mark"
    with contextlib.suppress(FileNotFoundError, ValueError):
        mark = file.read_text(encoding="ascii")
        if _MARK.fullmatch(mark):
            return mark
    # This file comes before the mark, and the mark before every segment. So if it is missing later, it was lost.
    SegmentFolder(folder).write_first_sequence()
    replace_file(file, secrets.token_hex(4).encode())
    return file.read_text()


def _prepare_destination(out: str, staging: Path) -> Callable[[], Destination]:
    """Return a function that opens the destination.

    A wrong address raises now. A bucket that cannot be reached is opened when there is something to write.
    """
    try:
        destination = open_destination(out, staging)
    except TransientError as error:
        log.warning("the bucket cannot be reached; segments wait for it", extra=make_log_fields(error))
        return lambda: open_destination(out, staging)
    return lambda: destination
