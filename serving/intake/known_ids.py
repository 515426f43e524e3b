"""The ids that an intake accepted in the last 24 hours, as 64-bit hashes.

Only hours in which an intake ran on this folder count. The machine's clock plays no part: it may be wrong by years at
a start, and right a moment later.

The hashes of the open segment are in a set. Those of each closed segment are a sorted array on the disk
(``ids/<time>-<first>-<last>.ids``), which is memory-mapped. The arrays of an hour are merged to one. So memory is
bounded by a segment's size, and by 1 to 2 bytes an id for a bitmap of each array. Without the bitmaps every look-up
would search all arrays.

A new id is taken for a duplicate if its hash equals a known one. The chance of that is (ids of 24 hours) / 2**64. With
10**9 ids a day it happens to one event in 18 * 10**9. The hash is BLAKE2b (RFC 7693), so nobody can construct ids with
the same hash.
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
from endcap_serving.json_log import make_log_fields

log = logging.getLogger("endcap.intake")
REMEMBERED_MS = 86_400_000
"""For how long an id is known, in milliseconds."""
HOUR_MS = 3_600_000
MOST_ARRAYS = 8
"""Arrays of the hour that has not ended. If there are more, they are merged."""
SUFFIX = ".ids"
NAME = re.compile(r"[0-9]{15,}-[0-9]{12,}-[0-9]{12,}\.ids")
FEW = 40
"""Up to this number, hashes are looked up one by one."""
_CHUNK = 1 << 20
Hashes = np.ndarray[tuple[int], np.dtype[np.uint64]]
Bits = np.ndarray[tuple[int], np.dtype[np.uint8]]

NONE: Hashes = np.empty(0, np.uint64)
HASH = NONE.itemsize
"""Bytes of one hash."""


def hash_id(kind: bytes, identity: str) -> int:
    """Compute the hash of a record's id.

    Parameters
    ----------
    kind
        The name of the records' kind. Equal ids of different kinds have different hashes.
    identity
        The id.

    Returns
    -------
    int
        A 64-bit unsigned integer.
    """
    return int.from_bytes(hashlib.blake2b(identity.encode(), digest_size=8, person=kind).digest(), "little")


@dataclass(frozen=True)
class ArrayStamp:
    """What the name of an array's file says.

    Parameters
    ----------
    time
        When the newest id was accepted, in milliseconds of `KnownIds.now`.
    first, last
        The sequence numbers of the first and the last segment whose ids are in the array.
    """

    time: int
    first: int
    last: int

    @classmethod
    def from_file(cls, file: Path) -> ArrayStamp:
        """Read the stamp from a file's name."""
        return cls(*map(int, file.stem.split("-")))

    @property
    def name(self) -> str:
        """The file's name."""
        return f"{self.time:015d}-{self.first:012d}-{self.last:012d}{SUFFIX}"


class IdArray:
    """Sorted hashes in a file, and a bitmap in memory that answers most look-ups.

    Parameters
    ----------
    file
        The array's file.

    Attributes
    ----------
    stamp
        What the file's name says.
    hashes
        The hashes, sorted, of the shape [ids].
    damaged
        Whether the disk has changed the file. The remaining hashes are looked up all the same.
    shift
        How many bits a hash is shifted to the right to become a position in the bitmap.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.stamp = ArrayStamp.from_file(file)
        with file.open("rb") as handle:
            content = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
        self.hashes: Hashes = np.frombuffer(content, np.uint64, len(content) // HASH)
        self.damaged = len(content) % HASH > 0 or not _is_sorted(self.hashes)
        if self.damaged:
            self.hashes = np.sort(self.hashes)
        bits = max(10, int(8 * len(self.hashes) - 1).bit_length())
        self.shift = 64 - bits
        self._bitmap = np.zeros(1 << (bits - 3), np.uint8)
        for begin in range(0, len(self.hashes), _CHUNK):
            place, bit = compute_places(self.hashes[begin : begin + _CHUNK], self.shift)
            starts = np.flatnonzero(np.concatenate(([True], place[1:] != place[:-1])))
            self._bitmap[place[starts]] |= np.bitwise_or.reduceat(bit, starts)
        self._bitmap_bytes = self._bitmap.data

    def find(self, hashes: Hashes, place: Hashes, bit: Bits) -> Hashes:
        """Find the hashes that are in the array.

        Parameters
        ----------
        hashes
            The hashes to look up.
        place, bit
            Their bytes and bits in the bitmap, as `compute_places` returns them for the array's `shift`.

        Returns
        -------
        Hashes
            Those that are in the array.
        """
        return self._search(hashes[np.flatnonzero(self._bitmap.take(place) & bit)])

    def find_few(self, hashes: Sequence[int]) -> Hashes:
        """Find a few hashes, as `find` does. For few, plain Python is faster than NumPy."""
        bitmap, shift = self._bitmap_bytes, self.shift
        likely = [
            hash_value for hash_value in hashes if bitmap[hash_value >> shift >> 3] >> (hash_value >> shift & 7) & 1
        ]
        return self._search(np.array(likely, np.uint64)) if likely else NONE

    def _search(self, likely: Hashes) -> Hashes:
        """Find hashes by binary search."""
        if not len(likely):
            return NONE
        positions = np.minimum(self.hashes.searchsorted(likely), len(self.hashes) - 1)
        matches: Hashes = likely[self.hashes[positions] == likely]
        return matches


def _is_sorted(hashes: Hashes) -> bool:
    """Check the order in pieces, because a comparison of the whole array would take an eighth of its memory."""
    pieces = (hashes[begin : begin + _CHUNK + 1] for begin in range(0, len(hashes), _CHUNK))
    return all(bool((piece[1:] >= piece[:-1]).all()) for piece in pieces)


def compute_places(hashes: Hashes, shift: int) -> tuple[Hashes, Bits]:
    """Compute the position of each hash in a bitmap.

    Returns
    -------
    tuple[Hashes, Bits]
        The index of the byte, and the byte with the hash's bit set.
    """
    position = hashes >> np.uint64(shift)
    bit = np.left_shift(np.uint8(1), (position & np.uint64(7)).astype(np.uint8))
    return position >> np.uint64(3), bit


class KnownIds:
    """The known ids of one intake.

    Only the committing thread looks ids up and adds them. Only the sealing thread makes and merges arrays.

    Parameters
    ----------
    folder
        The intake's folder. The arrays lie in its folder `ids`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "ids"
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._open: set[int] = set()
        self._closing: dict[int, set[int]] = {}
        files = {
            ArrayStamp.from_file(file): file for file in self.folder.glob(f"*{SUFFIX}") if NAME.fullmatch(file.name)
        }
        for stamp, file in list(files.items()):
            # If a kill cut off a merge after its array was written, the merged arrays are still there.
            if any(merged != stamp and merged.first <= stamp.first and stamp.last <= merged.last for merged in files):
                file.unlink()
                del files[stamp]
        ordered = [file for _, file in sorted(files.items(), key=lambda pair: pair[0].first)]
        self._arrays = tuple(array for file in ordered if (array := _open_array(file)) is not None)
        # The clock goes on from the time of the last array. In a new folder it may begin anywhere.
        start = max([array.stamp.time for array in self._arrays], default=time.time_ns() // 1_000_000)
        self._start = start - time.monotonic_ns() // 1_000_000

    @property
    def now(self) -> int:
        """Milliseconds of a clock that only goes forward, and only while an intake runs."""
        return self._start + time.monotonic_ns() // 1_000_000

    @property
    def last(self) -> int:
        """The highest sequence number of a segment whose ids are in an array, or 0."""
        return max((array.stamp.last for array in self._arrays), default=0)

    def has_segment(self, sequence: int) -> bool:
        """Return whether a segment's ids are in an array."""
        return any(array.stamp.first <= sequence <= array.stamp.last for array in self._arrays)

    def find_known(self, hashes: Sequence[int]) -> set[int]:
        """Find the hashes of ids that were accepted in the last 24 hours.

        Parameters
        ----------
        hashes
            The hashes to look up.

        Returns
        -------
        set[int]
            Those that are known.
        """
        with self._lock:
            sets, arrays = [self._open, *self._closing.values()], self._arrays
        matches: set[int] = set()
        for id_set in sets:
            matches.update(id_set.intersection(hashes))
        if arrays and len(hashes) <= FEW:
            for array in arrays:
                matches.update(array.find_few(hashes).tolist())
        elif arrays:
            hash_array = np.array(hashes, np.uint64)
            # Bitmaps have few sizes, powers of two, so positions are computed once for each size.
            by_shift = {shift: compute_places(hash_array, shift) for shift in {array.shift for array in arrays}}
            for array in arrays:
                matches.update(array.find(hash_array, *by_shift[array.shift]).tolist())
        return matches

    def add(self, hashes: Iterable[int]) -> None:
        """Add the hashes of records that are durable now."""
        self._open.update(hashes)

    def close(self, sequence: int) -> None:
        """Note that the open segment is closed. Its ids stay in memory until `keep` writes their array."""
        with self._lock:
            self._closing[sequence], self._open = self._open, set()

    def keep(self, sequence: int, hashes: Sequence[Hashes]) -> None:
        """Write the array of a closed segment, if there is none yet.

        Parameters
        ----------
        sequence
            The segment's number.
        hashes
            The hashes of its frames.

        Raises
        ------
        OSError
            The array cannot be written. The ids stay in memory.
        """
        if hashes and not self.has_segment(sequence):
            self._write(ArrayStamp(self.now, sequence, sequence), hashes, replaced=())
        with self._lock:
            self._closing.pop(sequence, None)

    def keep_or_remember(self, sequence: int, hashes: Sequence[Hashes]) -> None:
        """Write a segment's array as `keep` does. If the disk refuses, keep the ids in memory. Raises nothing."""
        try:
            self.keep(sequence, hashes)
        except OSError as error:
            report = IntegrityError(str(error), code="intake.ids-unwritten", segment=sequence)
            log.error("a segment's ids cannot be written yet", extra=make_log_fields(report))
            with self._lock:
                self._closing[sequence] = {number for array in hashes for number in array.tolist()}

    def tidy(self) -> None:
        """Forget ids that are older than 24 hours, and merge the arrays of each hour. Raises OSError."""
        now = self.now
        old = [array for array in self._arrays if array.stamp.time < now - REMEMBERED_MS]
        with self._lock:
            self._arrays = tuple(array for array in self._arrays if array not in old)
        for array in old:
            _remove_file(array.file)
        for hour, of_hour in groupby(self._arrays, key=lambda array: array.stamp.time // HOUR_MS):
            arrays = list(of_hour)
            if self._has_unwritten_segment(arrays[0].stamp.first, arrays[-1].stamp.last):
                continue
            if len(arrays) > (MOST_ARRAYS if hour == now // HOUR_MS else 1):
                stamp = ArrayStamp(
                    max(array.stamp.time for array in arrays), arrays[0].stamp.first, arrays[-1].stamp.last
                )
                self._write(stamp, [array.hashes for array in arrays], arrays)

    def _has_unwritten_segment(self, first: int, last: int) -> bool:
        """Return whether a segment among these has no array yet. A merged array would claim to have its ids."""
        with self._lock:
            return any(first <= sequence <= last for sequence in self._closing)

    def _write(self, stamp: ArrayStamp, hashes: Sequence[Hashes], replaced: Sequence[IdArray]) -> None:
        """Write an array, and remove those that it replaces."""
        hash_values = np.concatenate(hashes)
        hash_values.sort()
        file = self.folder / stamp.name
        replace_file(file, hash_values.tobytes())
        new_array = IdArray(file)
        with self._lock:
            kept = [array for array in self._arrays if array not in replaced]
            self._arrays = tuple(sorted([*kept, new_array], key=lambda array: array.stamp.first))
        for array in replaced:
            _remove_file(array.file)


def _open_array(file: Path) -> IdArray | None:
    """Open a file's array; None if the file is empty. Damage is logged and counted."""
    array = IdArray(file) if file.stat().st_size >= HASH else None
    if array is None or array.damaged:
        metrics.DAMAGED_IDS.inc()
        report = IntegrityError("some ids may count a second time", code="intake.ids-damaged", file=str(file))
        log.error("the disk has changed a file of ids", extra=make_log_fields(report))
    return array


def _remove_file(file: Path) -> None:
    """Remove a file. If it cannot be removed, the next start tries again."""
    with contextlib.suppress(OSError):
        file.unlink(missing_ok=True)
