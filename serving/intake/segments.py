"""Segments: files that hold each record from its acknowledgement until it is in Parquet.

``segments/<sequence>.log`` is a header and then frames. Each commit writes one frame for each kind of records:

    header  "ENDCAPS1", when the segment was opened (epoch ms, uint64), CRC-32 of both
    frame   marker, kind (uint8), head check (3 bytes), records (uint32), bytes of the payload (uint32), CRC-32 of all
    payload the 64-bit hashes of the records' ids, then the records as JSON lines

Sequence numbers only grow, whatever the clock does: the next number is written durably before a segment gets it. A
reader reads a frame by its length and checks it by its checksum. The head check shows whether the length itself is
right: it is a CRC of the kind, the records and the length. It is 0 in frames of release 0.1.0. Behind a bad frame a
reader goes on at the next marker, so one bad frame costs no other.

Behind the last good frame there may be the beginning of a frame that ends with the file. That is a write that a kill or
a full disk cut, and no client was told that it is durable. It is called *torn*. Everything else there is *damage*: the
disk changed what was acknowledged.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from endcap.store.artifact_files import sync_folder

HEADER = struct.Struct("<8sQI")
FRAME = struct.Struct("<4sB3sIII")
_CRC = struct.Struct("<I")
MAGIC, MARKER = b"ENDCAPS1", b"\xf5EF\xf5"
"""UTF-8 never has a byte 0xf5, so a marker is never a part of a record."""
SUFFIX, DRAFT = ".log", ".draft"
_BLOCK = 4096


def encode_frame(kind: int, hashes: Sequence[int], lines: Sequence[bytes]) -> bytes:
    """Encode records of one kind as a frame.

    Parameters
    ----------
    kind
        Position of the kind in `records.NAMES`.
    hashes
        The 64-bit hash of each record's id.
    lines
        Each record as JSON, without a line end.
    """
    payload = np.array(hashes, np.uint64).tobytes() + b"\n".join(lines) + b"\n"
    head = FRAME.pack(MARKER, kind, _compute_head_check(kind, len(lines), len(payload)), len(lines), len(payload), 0)
    head = head[: -_CRC.size]
    return head + _CRC.pack(zlib.crc32(payload, zlib.crc32(head))) + payload


def _compute_head_check(kind: int, count: int, length: int) -> bytes:
    """Compute a frame's head check. It is never three zeros, which mean that a frame has no such check."""
    check = zlib.crc32(struct.pack("<BII", kind, count, length)) & 0xFFFFFF
    return (check or 1).to_bytes(3, "little")


@dataclass(frozen=True)
class Frame:
    """A frame that was read.

    Parameters
    ----------
    kind
        Position of the kind in `records.NAMES`.
    hashes
        The hashes of the records' ids, of the shape [records].
    lines
        The records as JSON lines, each with its line end.
    """

    kind: int
    hashes: np.ndarray[tuple[int], np.dtype[np.uint64]]
    lines: memoryview

    def list_records(self) -> list[bytes]:
        """List the JSON of each record."""
        return bytes(self.lines).splitlines()


@dataclass
class SegmentContent:
    """What was read of a segment.

    Attributes
    ----------
    opened
        When the segment was opened, in epoch milliseconds.
    frames
        The good frames, in order.
    end
        Where the last good frame ends, in bytes.
    size
        Bytes of the file.
    damaged
        How many stretches of bytes before `end` are not frames any more.
    torn
        Whether the bytes behind `end` are the beginning of a frame, or of a header, that ends with the file.
    """

    opened: int = 0
    frames: list[Frame] = field(default_factory=list)
    end: int = 0
    size: int = 0
    damaged: int = 0
    torn: bool = False

    @property
    def tail(self) -> int:
        """How many bytes follow the last good frame."""
        return self.size - self.end


def read_segment(file: Path, end: int | None = None) -> SegmentContent:
    """Read every good frame of a segment.

    Parameters
    ----------
    file
        The segment.
    end
        How many bytes are good, if that is known. The clients of what follows were told that it failed.

    Raises
    ------
    OSError
        The file cannot be read.
    """
    raw = _read_bytes(file)[:end]
    content = SegmentContent(size=len(raw), damaged=int(end is not None and len(raw) < end))
    if len(raw) >= HEADER.size:
        magic, opened, crc = HEADER.unpack_from(raw)
        if magic == MAGIC and crc == zlib.crc32(raw[: HEADER.size - _CRC.size]):
            content.opened, content.end = opened, HEADER.size
    position = HEADER.size
    while (position := raw.find(MARKER, position)) >= 0:
        frame_and_end = _read_frame(raw, position)
        if frame_and_end is None:
            position += 1
            continue
        content.damaged += position != content.end
        content.frames.append(frame_and_end[0])
        content.end = position = frame_and_end[1]
    if not content.opened:
        content.opened = file.stat().st_mtime_ns // 1_000_000
    content.torn = content.tail > 0 and _is_torn(raw[content.end :], header=content.end == 0)
    return content


def _read_bytes(file: Path) -> bytes:
    """Read a file, with zeros for blocks that the disk cannot read. Raises OSError for all other failures."""
    try:
        return file.read_bytes()
    except OSError as error:
        if error.errno != errno.EIO:
            raise
    blocks = []
    with file.open("rb", buffering=0) as handle:
        size = os.fstat(handle.fileno()).st_size
        for begin in range(0, size, _BLOCK):
            length = min(_BLOCK, size - begin)
            block = b""
            with contextlib.suppress(OSError):
                block = os.pread(handle.fileno(), length, begin)
            blocks.append(block.ljust(length, b"\0"))
    return b"".join(blocks)


def _is_torn(tail: bytes, *, header: bool) -> bool:
    """Return whether a tail is the beginning of a write. header: whether the file's own header is missing."""
    if header:
        return len(tail) < HEADER.size and tail[: len(MAGIC)] == MAGIC[: len(tail)]
    if len(tail) < FRAME.size:
        return tail[: len(MARKER)] == MARKER[: len(tail)]
    marker, kind, check, count, length, _ = FRAME.unpack_from(tail)
    is_plausible = check == _compute_head_check(kind, count, length) or (check == b"\0\0\0" and 8 * count <= length)
    return marker == MARKER and is_plausible and FRAME.size + length > len(tail)


def _read_frame(raw: bytes, position: int) -> tuple[Frame, int] | None:
    """Read the frame that begins at a position, and where it ends; None if there is no whole frame."""
    if position + FRAME.size > len(raw):
        return None
    _, kind, _, count, length, crc = FRAME.unpack_from(raw, position)
    begin, end = position + FRAME.size, position + FRAME.size + length
    if end > len(raw) or 8 * count > length:
        return None
    payload = memoryview(raw)[begin:end]
    if zlib.crc32(payload, zlib.crc32(raw[position : begin - _CRC.size])) != crc:
        return None
    return Frame(kind, np.frombuffer(payload[: 8 * count], np.uint64), payload[8 * count :]), end


class Segment:
    """The open segment.

    Parameters
    ----------
    file
        The segment's file, which must not exist.
    opened
        The current time in epoch milliseconds.

    Attributes
    ----------
    bytes
        How many bytes of the file are good.

    Raises
    ------
    OSError
        The file cannot be made.
    """

    def __init__(self, file: Path, opened: int) -> None:
        self.file = file
        head = HEADER.pack(MAGIC, opened, 0)[: -_CRC.size]
        self._header = head + _CRC.pack(zlib.crc32(head))
        self._handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640)
        self.bytes = 0
        try:
            sync_folder(file.parent)
        except OSError:
            self.close()
            with contextlib.suppress(OSError):
                file.unlink(missing_ok=True)
            raise

    def append(self, frames: bytes) -> None:
        """Write frames. On return they are on the disk.

        Raises
        ------
        OSError
            A write failed. Then the file is as it was before.
        """
        remaining = memoryview(frames if self.bytes else self._header + frames)
        position = self.bytes
        try:
            while remaining:
                written = os.pwrite(self._handle, remaining, position)
                remaining, position = remaining[written:], position + written
            os.fdatasync(self._handle)
        except OSError:
            # The caller gets the error of the write. `close` tries once more to cut off what it left.
            with contextlib.suppress(OSError):
                self._cut_failed_append()
            raise
        self.bytes = position

    def close(self) -> None:
        """Close the file. Never raises: its frames are durable, or their clients were told that they failed."""
        with contextlib.suppress(OSError):
            if os.fstat(self._handle).st_size != self.bytes:
                self._cut_failed_append()
        with contextlib.suppress(OSError):
            os.close(self._handle)

    def _cut_failed_append(self) -> None:
        """Cut off what a failed append left. Its clients are told to send the records again."""
        os.ftruncate(self._handle, self.bytes)
        os.fdatasync(self._handle)


class SegmentFolder:
    """The segments of one intake, and their sequence numbers.

    Parameters
    ----------
    folder
        The intake's folder. The segments lie in its folder `segments`, which `path` names.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "segments"
        self.path.mkdir(parents=True, exist_ok=True)
        self._next = folder / "next-sequence"

    def list_files(self) -> list[Path]:
        """List the segments, oldest first."""
        return sorted(self.path.glob(f"*{SUFFIX}"))

    def open(self, now: int, after: int = 0) -> Segment:
        """Open a new segment.

        Parameters
        ----------
        now
            The current time in epoch milliseconds.
        after
            The segment's number is greater than this one.

        Raises
        ------
        OSError
            The segment cannot be made.
        """
        sequence = self._reserve_sequence(after)
        return Segment(self.path / f"{sequence:012d}{SUFFIX}", now)

    def remove(self, file: Path) -> None:
        """Remove a segment, durably. Raises OSError."""
        file.unlink()
        sync_folder(self.path)

    def _reserve_sequence(self, after: int) -> int:
        """Take the next sequence number, and write down the one after it. Raises OSError."""
        # If the written number was lost, the new number must not be one that a file has.
        number = max(
            [self._read_next_sequence(), after + 1, *(parse_sequence(file) + 1 for file in self.path.glob("[0-9]*"))]
        )
        replace_file(self._next, str(number + 1).encode())
        return number

    def _read_next_sequence(self) -> int:
        """Read the next sequence number. If it was lost, return one that no segment can have had.

        Sealed segments left no file, and their Parquet files must not be replaced. An intake opens less than one
        segment a second, so the time in seconds is greater than all numbers.
        """
        with contextlib.suppress(FileNotFoundError, ValueError):
            return int(self._next.read_text(encoding="ascii"))
        return int(time.time())

    def write_first_sequence(self) -> None:
        """Write down the first sequence number, if the folder has none. Raises OSError."""
        if not self._next.exists():
            replace_file(self._next, b"1")


def parse_sequence(file: Path) -> int:
    """Parse the sequence number in a segment's name."""
    return int(file.name.partition(".")[0])


def replace_file(file: Path, content: bytes, mode: int = 0o666) -> None:
    """Replace a file durably in one step. After a kill there is the old file or the new one.

    Parameters
    ----------
    file
        The file.
    content
        Its new content.
    mode
        The mode of the new file, less the process's umask.

    Raises
    ------
    OSError
        The file cannot be written. Then the old one stays.
    """
    draft = file.with_name(f".{file.name}{DRAFT}")
    try:
        with open(draft, "wb", opener=lambda path, flags: os.open(path, flags, mode)) as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        draft.replace(file)
    except BaseException:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
        raise
    sync_folder(file.parent)


def remove_drafts(folder: Path) -> None:
    """Remove drafts of `replace_file` that a killed process left. Raises nothing."""
    for draft in folder.glob(f".*{DRAFT}"):
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
