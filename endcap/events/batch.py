"""Rows as text, block by block: what every reader gives, whatever the file's format."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from endcap.events.utf8 import MARK

NOT_UTF8 = "not UTF-8 text: convert the file to UTF-8"


@dataclass(frozen=True)
class Reject:
    """Something that is no row. `rows`: how many lines of the file went with it."""

    line: int
    reason: str
    text: str
    rows: int = 1


@dataclass(frozen=True)
class Batch:
    """Rows in file order. table: string columns, by `column_name`, as `Rows.names`; lines: int64 [rows], 1-based."""

    table: pa.Table
    lines: NDArray[np.int64]
    rejects: list[Reject] = field(default_factory=list)


@dataclass(frozen=True)
class Rows:
    """A file's rows. names: its columns; instants: those that hold typed times, whatever unit the shop declares.

    unseen: names that were asked for and not met so far. In JSON lines a key may first come late in the file, so the
    set shrinks while `batches` is read; elsewhere it is empty.
    """

    names: Sequence[str]
    instants: frozenset[str]
    batches: Iterator[Batch]
    unseen: set[str] = field(default_factory=set)


def column_name(at: int) -> str:
    """The name of a batch's column by its place, for the file's own names may differ in case only."""
    return f"§{at}"


def as_batch(columns: Sequence[pa.Array], lines: NDArray[np.int64], rejects: list[Reject], marked: bool) -> Batch:
    """A batch of these columns (UTF-8, binary or string); where `marked`, rows that bear a mark become rejects."""
    texts = [column.cast(pa.string()) for column in columns]
    if marked:
        bad = np.zeros(len(lines), dtype=bool)
        for column in texts:
            bad |= pc.match_substring(column, MARK).to_numpy(zero_copy_only=False)
        rejects += [
            not_utf8(int(lines[at]), ",".join(column[at].as_py() for column in texts)) for at in np.flatnonzero(bad)
        ]
        texts, lines = [column.filter(pa.array(~bad)) for column in texts], lines[~bad]
    return Batch(pa.table(texts, names=[column_name(at) for at in range(len(texts))]), lines, rejects)


def not_utf8(line: int, text: str) -> Reject:
    """The reject of a row that bears a mark."""
    return Reject(line, NOT_UTF8, text.replace(MARK, ""), 1 + text.count("\n"))
