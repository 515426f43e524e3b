"""CSV and TSV by blocks, with the true line of every row, also after quoted line breaks and rejected rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from numpy.typing import NDArray

from endcap.events.batch import Batch, Reject, Rows, as_batch, not_utf8
from endcap.events.layouts import Text
from endcap.events.sources import SourceFile, open_text, readable
from endcap.events.utf8 import MARK, Utf8

BLOCK = 16 << 20
SEPARATOR = "\x1f"
"""What stands for a delimiter of several characters while the parser reads, which knows one: ASCII's own for this."""
UNCLOSED = "a quote is opened and never closed"
Ints = NDArray[np.int64]


def read_csv(file: SourceFile, text: Text) -> Rows | None:
    """The file's rows, or None where the file is empty."""
    header, delimiter = text.header, text.delimiter if len(text.delimiter) == 1 else SEPARATOR
    invalid: list[Any] = []

    def skip(row: Any) -> str:
        invalid.append(row)
        return "skip"

    # One thread: a record's number is known only so, and one thread parses some eight million rows a second.
    options = {
        "read_options": pa.csv.ReadOptions(block_size=BLOCK, use_threads=False, column_names=header),
        "parse_options": pa.csv.ParseOptions(
            delimiter=delimiter,
            quote_char='"' if text.quoted else False,
            newlines_in_values=text.quoted,
            invalid_row_handler=skip,
            ignore_empty_lines=False,
        ),
        "convert_options": pa.csv.ConvertOptions(default_column_type=pa.binary()),
    }
    with readable(file.name):
        try:
            stream = open_text(file, text.encoding, (text.delimiter, delimiter))
            reader = pa.csv.open_csv(pa.PythonFile(stream, mode="r"), **options)
        except pa.ArrowInvalid as error:
            if "Empty CSV file" in str(error):
                return None
            raise
    names = reader.schema.names
    lines = _Lines(1, 1) if header else _Lines(2, 2 + sum(name.count("\n") for name in names))
    return Rows(names, frozenset(), _batches(file, stream, reader, invalid, lines))


def _batches(file: SourceFile, stream: Utf8, reader: Any, invalid: list[Any], lines: _Lines) -> Iterator[Batch]:
    with readable(file.name), stream, reader:
        for block in reader:
            # The parser runs ahead in a thread of its own: rows of later blocks may be among the invalid ones already.
            ahead = invalid[:]
            del invalid[: len(ahead)]
            numbers, rejects, later = lines.place(block, ahead)
            invalid[:0] = later
            columns, numbers = _without_blank_lines(block.columns, numbers)
            yield as_batch(columns, numbers, rejects, stream.marked)
        yield Batch(pa.table({}), np.empty(0, np.int64), [lines.reject(row) for row in invalid])


class _Lines:
    """Keeps the count of records, and of the lines that they take, from block to block."""

    def __init__(self, record: int, line: int) -> None:
        self.record, self.line = record, line

    def place(self, block: pa.RecordBatch, invalid: Sequence[Any]) -> tuple[Ints, list[Reject], list[Any]]:
        """The line of each of the block's rows, the rejects among them, and the invalid rows that come after them."""
        count = block.num_rows
        skipped = np.array([row.number for row in invalid], dtype=np.int64) - self.record
        free = np.ones(count + len(skipped), dtype=bool)
        free[skipped[skipped < len(free)]] = False
        places = np.flatnonzero(free)[:count]  # the record of each row, counted from self.record
        end = int(places[-1]) + 1 if count else 0
        inside = [row for row, place in zip(invalid, skipped, strict=True) if place < end]
        height = np.ones(end, dtype=np.int64)
        height[places] += _line_breaks(block)
        height[skipped[skipped < end]] += np.array([row.text.count("\n") for row in inside], dtype=np.int64)
        starts = self.line + np.cumsum(height) - height
        rejects = [_reject(row, int(starts[row.number - self.record])) for row in inside]
        self.record, self.line = self.record + end, self.line + int(height.sum())
        return starts[places], rejects, list(invalid[len(inside) :])

    def reject(self, row: Any) -> Reject:
        """A rejected row after the last block's rows; they come one by one, in order."""
        self.line += row.number - self.record
        rejected = _reject(row, self.line)
        self.record, self.line = row.number + 1, self.line + rejected.rows
        return rejected


def _reject(row: Any, line: int) -> Reject:
    if MARK in row.text:
        return not_utf8(line, row.text)
    rows = 1 + row.text.count("\n")
    unclosed = rows > 1 and row.text.count('"') % 2
    reason = UNCLOSED if unclosed else f"{row.actual_columns} columns where {row.expected_columns} are expected"
    return Reject(line, reason, row.text, rows)


def _line_breaks(block: pa.RecordBatch) -> Any:
    """Line breaks inside each row's values: int64 [rows], or 0 where there are none at all."""
    total: Any = 0
    for column in block.columns:
        data = column.buffers()[2]
        if data is not None and (np.frombuffer(data, dtype=np.uint8) == 10).any():
            total = total + pc.count_substring(column, b"\n").to_numpy(zero_copy_only=False)
    return total


def _without_blank_lines(columns: list[pa.Array], lines: Ints) -> tuple[list[pa.Array], Ints]:
    blank = pc.equal(columns[0], b"")
    if not pc.any(blank).as_py():
        return columns, lines
    for column in columns[1:]:
        blank = pc.and_(blank, pc.equal(column, b""))
    keep = pc.invert(blank)
    return [column.filter(keep) for column in columns], lines[keep.to_numpy(zero_copy_only=False)]
