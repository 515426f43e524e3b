"""Segments: the files that a record is in before it is acknowledged, and until it is in Parquet.

``segments/<sequence>.log`` is a header and then frames, one a kind of records and commit:

    header  "ENDCAPS1", when it was opened (epoch ms, uint64), CRC-32 of both
    frame   marker, kind (uint8), head check (3 bytes), records (uint32), bytes of the payload (uint32), CRC-32 of all
    payload the records' 64-bit hashes of ids, then the records as JSON lines

Sequence numbers only ever grow, whatever the clock does: the next one is noted durably before a segment bears it.
A frame is read by its length and believed by its checksum. The head check tells a length that can be believed: it is a
CRC of what stands before and behind it, and 0 in frames of release 0.1.0. A reader goes on at the next marker behind a
frame that is bad, so that one bad frame costs no other.

Behind the last good frame may stand the beginning of a frame that ends with the file: a write that a kill or a full
disk cut, which nobody was told of. It is *torn*. All else there is *damage*: the disk changed what was acknowledged.
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
"""No UTF-8 text has a byte 0xf5, so that a marker is never a piece of a record."""
SUFFIX, DRAFT = ".log", ".draft"
_BLOCK = 4096


def encode_frame(kind: int, hashes: Sequence[int], lines: Sequence[bytes]) -> bytes:
    """Records of one kind as they lie in a segment. hashes: of their ids; lines: JSON, without line ends."""
    payload = np.array(hashes, np.uint64).tobytes() + b"\n".join(lines) + b"\n"
    head = FRAME.pack(MARKER, kind, _head_check(kind, len(lines), len(payload)), len(lines), len(payload), 0)
    head = head[: -_CRC.size]
    return head + _CRC.pack(zlib.crc32(payload, zlib.crc32(head))) + payload


def _head_check(kind: int, count: int, length: int) -> bytes:
    """Never three zeros, which stand for a frame that has no such check."""
    check = zlib.crc32(struct.pack("<BII", kind, count, length)) & 0xFFFFFF
    return (check or 1).to_bytes(3, "little")


@dataclass(frozen=True)
class Frame:
    """kind: index into the kinds' names. hashes: uint64 [records]. lines: JSON lines, each with its end."""

    kind: int
    hashes: np.ndarray[tuple[int], np.dtype[np.uint64]]
    lines: memoryview

    def records(self) -> list[bytes]:
        """Each record's JSON."""
        return bytes(self.lines).splitlines()


@dataclass
class SegmentContent:
    """What is good in a segment. opened: epoch ms. end: where the last good frame ends. size: bytes of the file."""

    opened: int = 0
    frames: list[Frame] = field(default_factory=list)
    end: int = 0
    size: int = 0
    damaged: int = 0
    """Stretches of bytes before `end` that are no frames any more."""
    torn: bool = False
    """Whether what stands behind `end` is the beginning of a frame, or of a header, that ends with the file."""

    @property
    def tail(self) -> int:
        """Bytes behind the last good frame."""
        return self.size - self.end


def read_segment(file: Path, end: int | None = None) -> SegmentContent:
    """Every good frame of a segment, in order. Raises OSError.

    end: how far the file is good, where that is known. What stands behind was told to have failed.
    """
    raw = _bytes(file)[:end]
    content = SegmentContent(size=len(raw), damaged=int(end is not None and len(raw) < end))
    if len(raw) >= HEADER.size:
        magic, opened, crc = HEADER.unpack_from(raw)
        if magic == MAGIC and crc == zlib.crc32(raw[: HEADER.size - _CRC.size]):
            content.opened, content.end = opened, HEADER.size
    position = HEADER.size
    while (position := raw.find(MARKER, position)) >= 0:
        good = _frame_at(raw, position)
        if good is None:
            position += 1
            continue
        content.damaged += position != content.end
        content.frames.append(good[0])
        content.end = position = good[1]
    if not content.opened:
        content.opened = file.stat().st_mtime_ns // 1_000_000
    content.torn = content.tail > 0 and _is_torn(raw[content.end :], header=content.end == 0)
    return content


def _bytes(file: Path) -> bytes:
    """A file's bytes, with zeros for blocks that the disk cannot read. Raises OSError for all other trouble."""
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
    """Whether a tail is what is left of a write that was cut. header: whether the file's own header is missing."""
    if header:
        return len(tail) < HEADER.size and tail[: len(MAGIC)] == MAGIC[: len(tail)]
    if len(tail) < FRAME.size:
        return tail[: len(MARKER)] == MARKER[: len(tail)]
    marker, kind, check, count, length, _ = FRAME.unpack_from(tail)
    believed = check == _head_check(kind, count, length) or (check == b"\0\0\0" and 8 * count <= length)
    return marker == MARKER and believed and FRAME.size + length > len(tail)


def _frame_at(raw: bytes, position: int) -> tuple[Frame, int] | None:
    """The frame that begins there and where it ends; None where there is no whole one."""
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
    """The open segment. Its file is made by the first append, so that an idle intake makes none."""

    def __init__(self, file: Path, opened: int) -> None:
        """opened: epoch ms. Raises OSError, and then there is no file."""
        self.file = file
        head = HEADER.pack(MAGIC, opened, 0)[: -_CRC.size]
        self._header = head + _CRC.pack(zlib.crc32(head))
        self._handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640)
        self.bytes = 0
        """How far the file is good."""
        try:
            sync_folder(file.parent)
        except OSError:
            self.close()
            with contextlib.suppress(OSError):
                file.unlink(missing_ok=True)
            raise

    def append(self, frames: bytes) -> None:
        """Write frames; on return they are on the disk. Raises OSError, and then the file is as it was."""
        rest = memoryview(frames if self.bytes else self._header + frames)
        position = self.bytes
        try:
            while rest:
                written = os.pwrite(self._handle, rest, position)
                rest, position = rest[written:], position + written
            os.fdatasync(self._handle)
        except OSError:
            # The error of the write is the one to tell. `close` tries once more to take it back.
            with contextlib.suppress(OSError):
                self._take_back()
            raise
        self.bytes = position

    def close(self) -> None:
        """Let go of the file. Never raises: what is in it is durable, or was told to have failed."""
        with contextlib.suppress(OSError):
            if os.fstat(self._handle).st_size != self.bytes:
                self._take_back()
        with contextlib.suppress(OSError):
            os.close(self._handle)

    def _take_back(self) -> None:
        """Cut off what an append has left that failed: whoever sent it is told to send it again."""
        os.ftruncate(self._handle, self.bytes)
        os.fdatasync(self._handle)


class SegmentFolder:
    """The segments of one intake, and their numbers."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "segments"
        self.path.mkdir(parents=True, exist_ok=True)
        self._next = folder / "next-sequence"

    def list_files(self) -> list[Path]:
        """Segment files, oldest first."""
        return sorted(self.path.glob(f"*{SUFFIX}"))

    def open(self, now: int, after: int = 0) -> Segment:
        """A new segment, whose number is greater than `after`. now: epoch ms. Raises OSError."""
        sequence = self._take(after)
        return Segment(self.path / f"{sequence:012d}{SUFFIX}", now)

    def remove(self, file: Path) -> None:
        file.unlink()
        sync_folder(self.path)

    def _take(self, after: int) -> int:
        # Of a note that was lost: never a number that a file has.
        number = max([self._noted(), after + 1, *(parse_sequence(file) + 1 for file in self.path.glob("[0-9]*"))])
        replace_file(self._next, str(number + 1).encode())
        return number

    def _noted(self) -> int:
        """The next number, as it was noted. Of a note that was lost one that no segment can have had.

        Sealed segments left no file, and their Parquet must not be written over. There is less than one a second.
        """
        with contextlib.suppress(FileNotFoundError, ValueError):
            return int(self._next.read_text(encoding="ascii"))
        return int(time.time())

    def begin(self) -> None:
        """Note the first number of a folder that has none. Raises OSError."""
        if not self._next.exists():
            replace_file(self._next, b"1")


def parse_sequence(file: Path) -> int:
    return int(file.name.partition(".")[0])


def replace_file(file: Path, content: bytes, mode: int = 0o666) -> None:
    """Write a file in one step and durably: after a kill there is the old one or the new one. Raises OSError.

    mode: of a new file, less what the process masks.
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
    """Remove the drafts that `replace_file` had begun when the process was killed."""
    for draft in folder.glob(f".*{DRAFT}"):
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
