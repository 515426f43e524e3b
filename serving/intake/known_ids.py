"""Which ids were taken in the last 24 hours, by 64-bit hashes.

The 24 hours are those in which an intake ran on this folder. The machine's clock does not come into it: it may be wrong
at a start, by years, and right a moment later. While no intake runs no id comes in, so more is not remembered for it.

The open segment's are in a set; each closed segment's are a sorted array on the disk, memory-mapped
(``ids/<stamp>-<first>-<last>.ids``), and an hour's arrays become one. So memory is bounded by a segment's size, and by
1 to 2 bytes an id for a bitmap in front of each array, without which every look-up would go through all of them.

Two ids of one hash: a new one is taken for a duplicate with the chance (ids of 24 h) / 2**64. At a thousand million
ids a day that is one event in 18 thousand million. The hash is BLAKE2b, which nobody finds ids of one hash for.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import mmap
import re
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np

from endcap.errors import IntegrityError
from endcap_serving.intake import metrics
from endcap_serving.intake.segments import replace_file
from endcap_serving.json_log import log_fields_of

log = logging.getLogger("endcap.intake")
REMEMBERED_MS = 86_400_000
HOUR_MS = 3_600_000
MOST_ARRAYS = 8
"""Arrays of the hour that has not ended; more are merged."""
SUFFIX = ".ids"
NAME = re.compile(r"[0-9]{15,}-[0-9]{12,}-[0-9]{12,}\.ids")
FEW = 40
"""Up to so many hashes are looked up one by one."""
_CHUNK = 1 << 20
Hashes = np.ndarray[tuple[int], np.dtype[np.uint64]]
Bits = np.ndarray[tuple[int], np.dtype[np.uint8]]

NONE: Hashes = np.empty(0, np.uint64)
HASH = NONE.itemsize
"""Bytes."""


def hash_id(kind: bytes, identity: str) -> int:
    """Of an id among the records of a kind."""
    return int.from_bytes(hashlib.blake2b(identity.encode(), digest_size=8, person=kind).digest(), "little")


@dataclass(frozen=True)
class ArrayStamp:
    """stamp: when the newest was taken, by `KnownIds`' clock (ms); first, last: sequence numbers of its segments."""

    stamp: int
    first: int
    last: int

    @classmethod
    def of(cls, file: Path) -> ArrayStamp:
        return cls(*map(int, file.stem.split("-")))

    @property
    def name(self) -> str:
        return f"{self.stamp:015d}-{self.first:012d}-{self.last:012d}{SUFFIX}"


class IdArray:
    """Sorted hashes in a file, and a bitmap that answers most look-ups."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.of = ArrayStamp.of(file)
        with file.open("rb") as handle:
            mapped = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
        self.hashes: Hashes = np.frombuffer(mapped, np.uint64, len(mapped) // HASH)
        self.damaged = len(mapped) % HASH > 0 or not _is_sorted(self.hashes)
        """Whether the disk has changed it; what is left of it is looked up all the same."""
        if self.damaged:
            self.hashes = np.sort(self.hashes)
        bits = max(10, int(8 * len(self.hashes) - 1).bit_length())
        self.shift = 64 - bits
        """How far a hash is shifted to be a place in the bitmap."""
        self._bitmap = np.zeros(1 << (bits - 3), np.uint8)
        for begin in range(0, len(self.hashes), _CHUNK):
            place, bit = places(self.hashes[begin : begin + _CHUNK], self.shift)
            starts = np.flatnonzero(np.concatenate(([True], place[1:] != place[:-1])))
            self._bitmap[place[starts]] |= np.bitwise_or.reduceat(bit, starts)
        self._quick = self._bitmap.data

    def holds(self, hashes: Hashes, place: Hashes, bit: Bits) -> Hashes:
        """Those that are among its own. place, bit: of these hashes, as `places` says for its shift."""
        return self._held(hashes[np.flatnonzero(self._bitmap.take(place) & bit)])

    def holds_of_few(self, hashes: Sequence[int]) -> Hashes:
        """As `holds`; of a few numbers, Python asks the bitmap before NumPy has begun."""
        bitmap, shift = self._quick, self.shift
        likely = [
            hash_value for hash_value in hashes if bitmap[hash_value >> shift >> 3] >> (hash_value >> shift & 7) & 1
        ]
        return self._held(np.array(likely, np.uint64)) if likely else NONE

    def _held(self, likely: Hashes) -> Hashes:
        if not len(likely):
            return NONE
        at = np.minimum(self.hashes.searchsorted(likely), len(self.hashes) - 1)
        matches: Hashes = likely[self.hashes[at] == likely]
        return matches


def _is_sorted(hashes: Hashes) -> bool:
    """In pieces: a comparison of the whole would take an eighth of its memory."""
    pieces = (hashes[begin : begin + _CHUNK + 1] for begin in range(0, len(hashes), _CHUNK))
    return all(bool((piece[1:] >= piece[:-1]).all()) for piece in pieces)


def places(hashes: Hashes, shift: int) -> tuple[Hashes, Bits]:
    """Bytes and bits of a bitmap that stand for hashes."""
    position = hashes >> np.uint64(shift)
    bit = np.left_shift(np.uint8(1), (position & np.uint64(7)).astype(np.uint8))
    return position >> np.uint64(3), bit


class KnownIds:
    """Asked and added to by the one thread that commits; arrays are made and merged by the one that seals."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "ids"
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._open: set[int] = set()
        self._closing: dict[int, set[int]] = {}
        files = {ArrayStamp.of(file): file for file in self.folder.glob(f"*{SUFFIX}") if NAME.fullmatch(file.name)}
        for stamp, file in list(files.items()):
            # A merge that was cut off after its array was written leaves what went into it.
            if any(other != stamp and other.first <= stamp.first and stamp.last <= other.last for other in files):
                file.unlink()
                del files[stamp]
        ordered = [file for _, file in sorted(files.items(), key=lambda pair: pair[0].first)]
        self._arrays = tuple(array for file in ordered if (array := _opened(file)) is not None)
        # Goes on where it stood when the last array was written; in a new folder it begins anywhere.
        begun = max([array.of.stamp for array in self._arrays], default=time.time_ns() // 1_000_000)
        self._begun = begun - time.monotonic_ns() // 1_000_000

    @property
    def now(self) -> int:
        """Ms, of a clock of its own that goes forward only, while an intake runs."""
        return self._begun + time.monotonic_ns() // 1_000_000

    @property
    def last(self) -> int:
        """The highest number of a segment whose ids are in an array, or 0."""
        return max((array.of.last for array in self._arrays), default=0)

    def has(self, sequence: int) -> bool:
        """Whether a segment's ids are in an array."""
        return any(array.of.first <= sequence <= array.of.last for array in self._arrays)

    def known(self, hashes: Sequence[int]) -> set[int]:
        """Those that were taken."""
        with self._lock:
            sets, arrays = [self._open, *self._closing.values()], self._arrays
        matches: set[int] = set()
        for hash_value in sets:
            matches.update(hash_value.intersection(hashes))
        if arrays and len(hashes) <= FEW:
            for array in arrays:
                matches.update(array.holds_of_few(hashes).tolist())
        elif arrays:
            wanted_hashes = np.array(hashes, np.uint64)
            # Bitmaps have few sizes, powers of two: places are reckoned once for each.
            by_shift = {shift: places(wanted_hashes, shift) for shift in {array.shift for array in arrays}}
            for array in arrays:
                matches.update(array.holds(wanted_hashes, *by_shift[array.shift]).tolist())
        return matches

    def add(self, hashes: Iterable[int]) -> None:
        """Of records that are durable now."""
        self._open.update(hashes)

    def close(self, sequence: int) -> None:
        """The open segment ends: its ids wait for their array."""
        with self._lock:
            self._closing[sequence], self._open = self._open, set()

    def keep(self, sequence: int, hashes: Sequence[Hashes]) -> None:
        """Write a closed segment's array, if it is not there. Raises OSError."""
        if hashes and not self.has(sequence):
            self._write(ArrayStamp(self.now, sequence, sequence), hashes, replaced=())
        with self._lock:
            self._closing.pop(sequence, None)

    def keep_or_remember(self, sequence: int, hashes: Sequence[Hashes]) -> None:
        """The same at the start, where a disk may be full: then they are in memory until `keep` goes."""
        try:
            self.keep(sequence, hashes)
        except OSError as error:
            own = IntegrityError(str(error), code="intake.ids-unwritten", segment=sequence)
            log.error("a segment's ids cannot be written yet", extra=log_fields_of(own))
            with self._lock:
                self._closing[sequence] = {number for hash_value in hashes for number in hash_value.tolist()}

    def tidy(self) -> None:
        """Forget what is older than 24 hours, and make one array of an hour's. Raises OSError."""
        now = self.now
        old = [array for array in self._arrays if array.of.stamp < now - REMEMBERED_MS]
        with self._lock:
            self._arrays = tuple(array for array in self._arrays if array not in old)
        for array in old:
            _remove(array.file)
        for hour, of_hour in groupby(self._arrays, key=lambda array: array.of.stamp // HOUR_MS):
            together = list(of_hour)
            if self._waits(together[0].of.first, together[-1].of.last):
                continue
            if len(together) > (MOST_ARRAYS if hour == now // HOUR_MS else 1):
                stamp = ArrayStamp(
                    max(hash_value.of.stamp for hash_value in together), together[0].of.first, together[-1].of.last
                )
                self._write(stamp, [hash_value.hashes for hash_value in together], together)

    def _waits(self, first: int, last: int) -> bool:
        """Whether a segment among these has no array yet: one of all would look as if it had that segment's ids."""
        with self._lock:
            return any(first <= sequence <= last for sequence in self._closing)

    def _write(self, stamp: ArrayStamp, hashes: Sequence[Hashes], replaced: Sequence[IdArray]) -> None:
        joined = np.concatenate(hashes)
        joined.sort()
        file = self.folder / stamp.name
        replace_file(file, joined.tobytes())
        new_array = IdArray(file)
        with self._lock:
            kept = [array for array in self._arrays if array not in replaced]
            self._arrays = tuple(sorted([*kept, new_array], key=lambda array: array.of.first))
        for array in replaced:
            _remove(array.file)


def _opened(file: Path) -> IdArray | None:
    """A file's array; None where there is nothing in it. What the disk has changed is told."""
    array = IdArray(file) if file.stat().st_size >= HASH else None
    if array is None or array.damaged:
        metrics.DAMAGED_IDS.inc()
        own = IntegrityError("some ids may count a second time", code="intake.ids-damaged", file=str(file))
        log.error("the disk has changed a file of ids", extra=log_fields_of(own))
    return array


def _remove(file: Path) -> None:
    """One that stays is met again at the next start."""
    with contextlib.suppress(OSError):
        file.unlink(missing_ok=True)
