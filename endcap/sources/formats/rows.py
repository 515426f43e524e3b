"""Rows as text, block by block: what every reader gives, whatever the file's format."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from endcap.errors import DataError
from endcap.sources.formats.utf8 import MARK, unmark


@dataclass(frozen=True)
class RejectedText:
    """Something that is no row. `rows`: how many lines of the file went with it."""

    line: int
    reason: str
    text: str
    rows: int = 1


@dataclass(frozen=True)
class RowBatch:
    """Rows in file order. table: string columns, by `column_name`, as `Rows.names`; lines: int64 [rows], 1-based."""

    table: pa.Table
    lines: NDArray[np.int64]
    rejects: list[RejectedText] = field(default_factory=list)
    marked: str = ""
    """The encoding, where some of the text is not of it and bears a mark."""


@dataclass(frozen=True)
class SourceRows:
    """A file's rows. names: its columns; instants: those that hold typed times, whatever unit the shop declares.

    unseen: names that were asked for and not met so far. In JSON a key may first come late in the file, so the set
    shrinks while `batches` is read; elsewhere it is empty. paths: lists the paths to what is nested in the file's first
    rows.
    """

    names: Sequence[str]
    instants: frozenset[str]
    batches: Iterator[RowBatch]
    unseen: set[str] = field(default_factory=set)
    paths: Callable[[], list[str]] = list

    def watched(self) -> SourceRows:
        """These rows, with `unseen` kept while they are read; where it is not empty, the first batch is read now."""
        if not self.unseen:
            return self
        batches = self._watch()
        first = next(batches, None)
        return replace(self, batches=batches if first is None else chain([first], batches))

    def _watch(self) -> Iterator[RowBatch]:
        for batch in self.batches:
            columns = zip(self.names, batch.table.columns, strict=False)
            self.unseen.difference_update([name for name, column in columns if column.null_count < len(column)])
            yield batch


def column_name(at: int) -> str:
    """The name of a batch's column by its place, for the file's own names may differ in case only."""
    return f"§{at}"


def make_batch(
    columns: Sequence[pa.Array], lines: NDArray[np.int64], rejects: list[RejectedText], marked: str = ""
) -> RowBatch:
    """A batch of these columns: UTF-8, binary or string."""
    texts = [column.cast(pa.string()) for column in columns]
    return RowBatch(pa.table(texts, names=[column_name(at) for at in range(len(texts))]), lines, rejects, marked)


def reject_marked(batch: RowBatch, wanted: Sequence[int]) -> RowBatch:
    """The batch without the rows that bear a mark in one of the wanted columns (by their places): they are rejects."""
    if not batch.marked or not len(batch.lines):
        return batch
    bad = np.zeros(len(batch.lines), dtype=bool)
    table = batch.table
    for at, column in enumerate(table.columns):
        bears = pc.fill_null(pc.match_substring(column, MARK), False).to_numpy()
        if bears.any():
            table = table.set_column(at, table.field(at), pc.replace_substring_regex(column, f"{MARK}(..)", r"\\x\1"))
            bad |= bears & (at in wanted)
    rejects = [
        reject_undecodable(
            int(batch.lines[at]),
            ",".join(value or "" for value in table.slice(at, 1).to_pylist()[0].values()),
            batch.marked,
        )
        for at in np.flatnonzero(bad)
    ]
    return RowBatch(table.filter(pa.array(~bad)), batch.lines[~bad], batch.rejects + rejects)


def reject_undecodable(line: int, text: str, encoding: str, rows: int = 1) -> RejectedText:
    """The reject of a text that bears a mark."""
    reason = f"not {encoding.upper()} text: set the source's encoding, such as latin-1 or cp1252"
    return RejectedText(line, reason, unmark(text), rows)


def check_rows(name: str, read: int, counted: int) -> None:
    """Raise DataError if not as many rows of a file came through as it has by a count of its own."""
    if read != counted:
        raise DataError(
            f"{name}: {read:,} rows were read where the file has {counted:,}: rows would be lost or made up in "
            "silence, which is a fault of Endcap; please report it with a part of the file that shows it",
            code="events.rows-vanished",
            path=name,
            read=read,
            counted=counted,
        )
