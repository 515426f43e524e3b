"""The parts of an intake together: what is taken, written, sealed and told to the online store."""

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
from endcap_serving.intake import damaged_segments, metrics
from endcap_serving.intake.commit import RecordBatch, SegmentWriter
from endcap_serving.intake.destinations import Destination, open_destination
from endcap_serving.intake.known_ids import KnownIds
from endcap_serving.intake.online_writer import OnlineWriter, Retention
from endcap_serving.intake.records import NAMES
from endcap_serving.intake.sealing import Sealer, recover
from endcap_serving.intake.segments import SegmentFolder, replace_file
from endcap_serving.json_log import log_fields_of

log = logging.getLogger("endcap.intake")
_MARK = re.compile(r"[0-9a-f]{8}")


@dataclass(frozen=True)
class IntakeSettings:
    """Of one intake."""

    folder: Path
    """Where segments and ids lie: a volume of its own."""
    out: str
    """Where Parquet goes: a folder or ``s3://bucket/prefix``."""
    instance: str = field(default_factory=lambda: socket.gethostname())
    """Stands in files' names, before a mark of the folder."""
    segment_bytes: int = 64 << 20
    segment_seconds: float = 300.0
    reserve: int = 256 << 20
    """Bytes of the disk that are left free for sealing."""
    end_seconds: float = 30.0
    """How long the end may take to seal, and to tell the online store."""
    keeping: Retention = field(default_factory=Retention)


class Intake:
    """Raises UserError or StorageError where it cannot start. One process at a time has a folder."""

    def __init__(self, settings: IntakeSettings, online: OnlineStore | None = None) -> None:
        """online: the online store that follows; it is closed at the end."""
        self.settings = settings
        folder = settings.folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with contextlib.ExitStack() as undone:
                self._lock = undone.enter_context((folder / "lock").open("w"))
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                instance = f"{settings.instance}-{_mark(folder)}"
                outlet = _now_or_later(settings.out, folder)
                self._segments = SegmentFolder(folder).path
                self.known_ids = KnownIds(folder)
                undone.pop_all()
        except BlockingIOError:
            raise UserError(
                f"--folder {folder}: another intake has it; give each its own",
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
        self.follower = OnlineWriter(online, settings.keeping) if online is not None else None
        self.sealer = Sealer(folder, self.known_ids, outlet, instance)
        self.writer = SegmentWriter(
            folder,
            self.known_ids,
            closed=self.sealer.add,
            accepted=self._accepted,
            most_bytes=settings.segment_bytes,
            most_seconds=settings.segment_seconds,
            reserve=settings.reserve,
        )
        metrics.SEALING_LAG.set_function(lambda: self.sealer.lag)
        metrics.ONLINE_LAG.set_function(lambda: self.follower.lag if self.follower else 0.0)

    @property
    def kept(self) -> dict[str, int]:
        """What lies beside the segments for a person, by kind."""
        return damaged_segments.counted(self._segments)

    @property
    def alive(self) -> bool:
        return self.writer.alive and self.sealer.alive

    def start(self) -> None:
        """Take up what an earlier process left, and begin."""
        left = recover(
            self.settings.folder, self.known_ids, self.follower.replay if self.follower else lambda frames: None
        )
        for file in left:
            self.sealer.add(file)
        for part in (self.follower, self.sealer, self.writer):
            if part is not None:
                part.start()
        log.info("started", extra={"folder": str(self.settings.folder), "segments": len(left)})

    def end(self) -> None:
        """Commit, seal and tell what there is; what takes too long is gone on with at the next start."""
        self.writer.end()
        sealed = self.sealer.end(self.settings.end_seconds)
        if self.follower is not None:
            self.follower.end(self.settings.end_seconds / 4)
        log.info("ended" if sealed else "ended; segments are left to seal", extra={"lag": round(self.sealer.lag, 1)})
        self._lock.close()

    def _accepted(self, group: Sequence[RecordBatch]) -> None:
        if self.follower is not None:
            for batch in group:
                if batch.accepted:
                    self.follower.offer(batch.kind, batch.accepted)


def count(batch: RecordBatch) -> None:
    """A batch that was taken, in the metrics."""
    metrics.ACCEPTED.labels(NAMES[batch.kind]).inc(len(batch.accepted))
    if batch.duplicates:
        metrics.DUPLICATES.labels(NAMES[batch.kind]).inc(batch.duplicates)


def _mark(folder: Path) -> str:
    """Of this folder and no other: a pod that comes back with an empty volume begins to count anew, and must not write
    over the files of the one before it. Raises OSError.
    """
    file = folder / "mark"
    with contextlib.suppress(FileNotFoundError, ValueError):
        mark = file.read_text(encoding="ascii")
        if _MARK.fullmatch(mark):
            return mark
    # Before the mark, without which there is no segment: a note that is missing later was lost.
    SegmentFolder(folder).begin()
    replace_file(file, secrets.token_hex(4).encode())
    return file.read_text()


def _now_or_later(out: str, staging: Path) -> Callable[[], Destination]:
    """What opens the outlet. A wrong address is told now; a bucket that is away is asked again when there is a need."""
    try:
        opened = open_destination(out, staging)
    except TransientError as error:
        log.warning("the bucket is away; segments wait for it", extra=log_fields_of(error))
        return lambda: open_destination(out, staging)
    return lambda: opened
