"""Rows as text, batch by batch: the result of the reader of every format."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from endcap.errors import DataError
from endcap.sources.utf8 import MARK, unmark


@dataclass(frozen=True)
class RejectedText:
    """A piece of a file that is no row. rows: the number of rows that it counts as."""

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
    """The encoding, if some bytes are not valid in it and the text has marks in their place."""


@dataclass(frozen=True)
class SourceRows:
    """A file's rows.

    names: its columns. instants: the columns that hold typed times, whatever unit the shop declares. unseen: requested
    names without a value so far. In JSON a key may first occur late in the file, so the set shrinks while `batches` is
    read; for other formats it is empty. paths: lists the paths to nested values of the file's first rows.
    """

    names: Sequence[str]
    instants: frozenset[str]
    batches: Iterator[RowBatch]
    unseen: set[str] = field(default_factory=set)
    paths: Callable[[], list[str]] = list

    def track_unseen(self) -> SourceRows:
        """Return these rows with `unseen` updated during reading. If it is not empty, the first batch is read now."""
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


def column_name(place: int) -> str:
    """Return the name of a batch's column by its place, since the file's own names may differ in case alone."""
    return f"§{place}"


def make_batch(
    columns: Sequence[pa.Array], lines: NDArray[np.int64], rejects: list[RejectedText], marked: str = ""
) -> RowBatch:
    """Make a batch of columns that hold UTF-8 as binary or string."""
    texts = [column.cast(pa.string()) for column in columns]
    return RowBatch(pa.table(texts, names=[column_name(place) for place in range(len(texts))]), lines, rejects, marked)


def reject_marked(batch: RowBatch, columns: Sequence[int]) -> RowBatch:
    """Move rows with a mark in one of these columns (by their places) to the batch's rejects."""
    if not batch.marked or not len(batch.lines):
        return batch
    has_mark = np.zeros(len(batch.lines), dtype=bool)
    table = batch.table
    for place, column in enumerate(table.columns):
        bears = pc.fill_null(pc.match_substring(column, MARK), False).to_numpy()
        if bears.any():
            table = table.set_column(
                place, table.field(place), pc.replace_substring_regex(column, f"{MARK}(..)", r"\\x\1")
            )
            has_mark |= bears & (place in columns)
    rejects = [
        reject_undecodable(
            int(batch.lines[place]),
            ",".join(value or "" for value in table.slice(place, 1).to_pylist()[0].values()),
            batch.marked,
        )
        for place in np.flatnonzero(has_mark)
    ]
    return RowBatch(table.filter(pa.array(~has_mark)), batch.lines[~has_mark], batch.rejects + rejects)


def reject_undecodable(line: int, text: str, encoding: str, rows: int = 1) -> RejectedText:
    """Return the reject for a text with a mark."""
    reason = f"not {encoding.upper()} text: set the source's encoding, such as latin-1 or cp1252"
    return RejectedText(line, reason, unmark(text), rows)


def check_rows(name: str, rows_read: int, counted: int) -> None:
    """Raise DataError if the number of rows read differs from an independent count of the file's rows."""
    if rows_read != counted:
        raise DataError(
            f"{name}: {rows_read:,} rows were read where the file has {counted:,}: rows would be lost or made up in "
            "silence, which is a fault of Endcap; please report it with a part of the file that shows it",
            code="events.rows-vanished",
            path=name,
            read=rows_read,
            counted=counted,
        )
