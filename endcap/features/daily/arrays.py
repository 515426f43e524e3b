"""Integers and texts in arrays: what the coding of days and their assembly both do with them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Codes = NDArray[np.int32]
Flags = NDArray[np.bool_]
MISSING = -1
"""The code of a missing text."""
_WORD_MASKS = np.array([(1 << 8 * size) - 1 for size in range(9)], np.uint64)
_ROW_BITS = 32
_ROW_MASK = (1 << _ROW_BITS) - 1


@dataclass(frozen=True)
class CodedTexts:
    """Texts as numbers. codes: int32 [n], the place in `ids`, or MISSING. ids: strings, each once."""

    codes: Codes
    ids: pa.Array

    @classmethod
    def of(cls, column: pa.ChunkedArray) -> CodedTexts:
        """Encode a column of texts, or of dictionaries of texts."""
        if pa.types.is_dictionary(column.type):
            chunk = column.unify_dictionaries().combine_chunks()
        else:
            # Together, because each chunk would be given a dictionary with all ids of those before it.
            chunk = column.combine_chunks().dictionary_encode()
        codes = chunk.indices.fill_null(MISSING) if chunk.null_count else chunk.indices
        return cls(codes.to_numpy().astype(np.int32, copy=False), chunk.dictionary.cast(pa.string()))

    def take(self, rows: Any) -> CodedTexts:
        """Return the texts of some rows, or under a mask. `ids` stay."""
        return CodedTexts(self.codes[rows], self.ids)

    def compact(self) -> CodedTexts:
        """Return the same texts without unused ids. Those that stay keep their order."""
        used = np.zeros(len(self.ids) + 1, dtype=np.bool_)
        used[self.codes] = True  # a missing text marks the last place, which is no id's
        if used[:-1].all():
            return self
        numbers = np.cumsum(used, dtype=np.int32) - 1
        numbers[-1] = MISSING
        return CodedTexts(numbers[self.codes], self.ids.filter(pa.array(used[:-1])))

    def mark(self, names: list[str]) -> Flags:
        """Mark the rows whose text is one of these names: bool [n]."""
        known = np.append(pc.is_in(self.ids, pa.array(names, pa.string())).to_numpy(zero_copy_only=False), False)
        marks: Flags = known[self.codes]
        return marks


def sort_stably(keys: NDArray[Any]) -> Ints:
    """Return the stable order of small integers from 0: int64 [n].

    Notes
    -----
    The key and the row lie in one integer, so that the fastest sort of integers serves: for keys below 2^31.
    """
    if len(keys) and keys.max() >> (63 - _ROW_BITS):
        return np.argsort(keys, kind="stable")
    packed = keys.astype(np.int64)
    packed <<= _ROW_BITS
    packed |= np.arange(len(keys), dtype=np.int64)
    packed.sort()
    packed &= _ROW_MASK
    return packed


def list_ranges(starts: NDArray[Any], lengths: NDArray[Any]) -> Ints:
    """List the numbers of ranges, one range behind the other: int64 [sum of lengths]."""
    ends = np.cumsum(lengths, dtype=np.int64)
    total = int(ends[-1]) if len(ends) else 0
    numbers = np.repeat(starts - ends + lengths, lengths)
    numbers += np.arange(total)
    return numbers


def find_first(codes: NDArray[Any], size: int) -> Ints:
    """Find the first row of each code: int64 [size]. A code without a row gets the number of rows."""
    first = np.full(size, len(codes), dtype=np.int64)
    first[codes[::-1]] = np.arange(len(codes) - 1, -1, -1)  # of equal codes the last write stays
    return first


def count_offsets(codes: NDArray[Any], size: int) -> Ints:
    """Return where each code's rows begin, if the rows are sorted by code: int64 [size + 1]."""
    return np.concatenate([[0], np.cumsum(np.bincount(codes, minlength=size))]).astype(np.int64)


def sort_by_texts(runs: NDArray[Any], texts: list[pa.Array]) -> Ints:
    """Return the order by run, then by the bytes of texts: int64 [n]."""
    table = pa.table([pa.array(runs), *texts], names=["run", *map(str, range(len(texts)))])
    order: Ints = pc.sort_indices(table, [(name, "ascending") for name in table.column_names]).to_numpy()
    return order.astype(np.int64)


def sort_texts(ids: pa.Array) -> Ints:
    """Return the order of texts by their bytes: int64 [n].

    Notes
    -----
    Ids often begin alike, as in `customer-17`. The eight bytes behind what all have in common are read as a number, by
    which most texts are in order. Only those that share it are compared as texts.
    """
    if not len(ids):
        return np.zeros(0, np.int64)
    low, high = (value.as_py().encode() for value in pc.min_max(ids).values())
    common = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(low, high, strict=False)))
    ends, data = view_text(ids)
    starts, left = ends[:-1].astype(np.int64) + common, np.diff(ends) - common
    padded = np.zeros(len(data) + 8, np.uint8)
    padded[: len(data)] = data
    words = np.ndarray((len(data) + 1,), np.dtype(">u8"), padded, strides=(1,))  # the word at each byte
    keys = words[starts].astype(np.uint64) & ~(_WORD_MASKS[8 - np.minimum(left, 8)])
    order = np.argsort(keys)
    tied, runs = find_ties(keys[order])
    places = np.flatnonzero(tied)
    if len(places):
        order[places] = order[places[sort_by_texts(runs[places], [ids.take(pa.array(order[places]))])]]
    return order


def find_ties(values: NDArray[Any]) -> tuple[Flags, Ints]:
    """Find equal neighbours: bool [n], whether a value has an equal one beside it; int64 [n], the number of its run."""
    same = values[1:] == values[:-1]
    tied = np.zeros(len(values), dtype=np.bool_)
    tied[1:] |= same
    tied[:-1] |= same
    runs = np.zeros(len(values), dtype=np.int64)
    np.cumsum(~same, out=runs[1:])
    return tied, runs


def view_text(ids: pa.Array) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """View a string array: int32 [n + 1], where each text begins and ends; uint8, the bytes of all. No nulls."""
    _, offsets, data = ids.buffers()
    ends = np.frombuffer(offsets, np.int32, len(ids) + 1, ids.offset * 4) if offsets else np.zeros(1, np.int32)
    return ends, np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8)


def hash_texts(ids: pa.Array) -> NDArray[np.uint64]:
    """Hash texts: uint64 [n]. Two texts may share a hash, so whoever needs to know compares them.

    Notes
    -----
    A text is read in words of eight bytes, all texts at once. The finaliser of SplitMix64 (Steele and others, "Fast
    splittable pseudorandom number generators", 2014) mixes each word into the hash.
    """
    ends, data = view_text(ids)
    size = int(ends[-1] - ends[0])
    padded = np.zeros(size + 8, np.uint8)
    padded[:size] = data[ends[0] : ends[-1]]
    words = np.ndarray((size + 1,), np.dtype("<u8"), padded, strides=(1,))  # the word at each byte
    starts, left = (ends[:-1] - ends[0]).astype(np.int64), np.diff(ends).astype(np.int64)
    hashes = left.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    rows = np.arange(len(ids))
    while len(rows):
        hashes[rows] = _mix(hashes[rows] ^ (words[starts] & _WORD_MASKS[np.minimum(left, 8)]))
        more = left > 8
        rows, starts, left = rows[more], starts[more] + 8, left[more] - 8
    return hashes


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
