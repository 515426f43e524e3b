"""Segments: the files that a record is in before it is acknowledged, and until it is in Parquet.

``segments/<sequence>.log`` is a header and then frames, one a kind of records and commit:

    header  "ENDCAPS1", when it was opened (epoch ms, uint64), CRC-32 of both
    frame   marker, kind (uint8), 3 empty bytes, records (uint32), bytes of the payload (uint32), CRC-32 of all
    payload the records' 64-bit hashes of ids, then the records as JSON lines

Sequence numbers only ever grow, whatever the clock does: the next one is noted durably before a segment bears it.
A frame is read by its length and believed by its checksum. What stands behind the last good frame was never
acknowledged (a write that a kill or a full disk cut), and is cut off. Where a good frame follows a bad one, the disk
has changed something: that is told, and the rest is kept.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from endcap.store.contents import sync_folder

HEADER = struct.Struct("<8sQI")
FRAME = struct.Struct("<4sB3xIII")
_CRC = struct.Struct("<I")
MAGIC, MARKER = b"ENDCAPS1", b"\xf5EF\xf5"
"""No UTF-8 text has a byte 0xf5, so that a marker is never a piece of a record."""
SUFFIX = ".log"


def frame(kind: int, hashes: Sequence[int], lines: Sequence[bytes]) -> bytes:
    """Records of one kind as they lie in a segment. hashes: of their ids; lines: JSON, without line ends."""
    payload = np.array(hashes, np.uint64).tobytes() + b"\n".join(lines) + b"\n"
    head = FRAME.pack(MARKER, kind, len(lines), len(payload), 0)[: -_CRC.size]
    return head + _CRC.pack(zlib.crc32(payload, zlib.crc32(head))) + payload


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
class Content:
    """What is good in a segment. opened: epoch ms. end: where the last good frame ends."""

    opened: int = 0
    frames: list[Frame] = field(default_factory=list)
    end: int = 0
    damaged: int = 0
    """Stretches of bytes before `end` that are no frames any more."""


def read(file: Path) -> Content:
    """Every good frame of a segment, in order."""
    raw = file.read_bytes()
    found = Content()
    if len(raw) >= HEADER.size:
        magic, opened, crc = HEADER.unpack_from(raw)
        if magic == MAGIC and crc == zlib.crc32(raw[: HEADER.size - _CRC.size]):
            found.opened, found.end = opened, HEADER.size
    position = HEADER.size
    while (position := raw.find(MARKER, position)) >= 0:
        one = _frame_at(raw, position)
        if one is None:
            position += 1
            continue
        found.damaged += position != found.end
        found.frames.append(one[0])
        found.end = position = one[1]
    if found.frames and not found.opened:
        found.opened = file.stat().st_mtime_ns // 1_000_000
    return found


def _frame_at(raw: bytes, position: int) -> tuple[Frame, int] | None:
    """The frame that begins there and where it ends; None where there is no whole one."""
    if position + FRAME.size > len(raw):
        return None
    _, kind, count, length, crc = FRAME.unpack_from(raw, position)
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
        """opened: epoch ms."""
        self.file = file
        head = HEADER.pack(MAGIC, opened, 0)[: -_CRC.size]
        self._header = head + _CRC.pack(zlib.crc32(head))
        self._handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640)
        self.bytes = 0
        """How far the file is good."""
        sync_folder(file.parent)

    def append(self, frames: bytes) -> None:
        """Write frames; on return they are on the disk. Raises OSError, and then the file is as it was."""
        rest = memoryview(frames if self.bytes else self._header + frames)
        begin = position = self.bytes
        try:
            while rest:
                written = os.pwrite(self._handle, rest, position)
                rest, position = rest[written:], position + written
            os.fdatasync(self._handle)
        except OSError:
            os.ftruncate(self._handle, begin)
            raise
        self.bytes = position

    def close(self) -> None:
        os.close(self._handle)


class Folder:
    """The segments of one intake, and their numbers."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "segments"
        self.path.mkdir(parents=True, exist_ok=True)
        self._next = folder / "next-sequence"

    def there(self) -> list[Path]:
        """Segment files, oldest first."""
        return sorted(self.path.glob(f"*{SUFFIX}"))

    def open(self, now: int) -> Segment:
        """A new segment. now: epoch ms. Raises OSError."""
        sequence = self._take()
        return Segment(self.path / f"{sequence:012d}{SUFFIX}", now)

    def remove(self, file: Path) -> None:
        file.unlink()
        sync_folder(self.path)

    def _take(self) -> int:
        noted = int(self._next.read_text()) if self._next.exists() else 1
        # Of a note that was lost: never a number that a segment has.
        number = max([noted, *(sequence_of(file) + 1 for file in self.there())])
        replace(self._next, str(number + 1).encode())
        return number


def sequence_of(file: Path) -> int:
    return int(file.stem)


def cut_torn_tail(file: Path, content: Content) -> int:
    """Cut off what stands behind the last good frame; how many bytes that were."""
    torn = file.stat().st_size - content.end
    if torn:
        with file.open("r+b") as handle:
            handle.truncate(content.end)
            os.fsync(handle.fileno())
    return torn


def replace(file: Path, content: bytes) -> None:
    """Write a file in one step and durably: after a kill there is the old one or the new one."""
    draft = file.with_name(f".{file.name}.draft")
    try:
        with draft.open("wb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        draft.replace(file)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    sync_folder(file.parent)
