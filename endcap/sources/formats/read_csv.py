"""Read CSV and TSV by blocks. Every row has its true line, even after quoted line breaks and rejected rows.

Arrow parses. A text up to its first quote is read without quoting, so that each line is a row.
`endcap.sources.formats.quotes` decides how a second parser reads the rest.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from numpy.typing import NDArray

from endcap.errors import DataError
from endcap.sources.files import SourceFile, convert_read_errors
from endcap.sources.formats.quotes import QuotedText, are_all_rows, are_surely_rows
from endcap.sources.formats.rows import RejectedText, RowBatch, SourceRows, check_rows, make_batch, reject_undecodable
from endcap.sources.layouts import TextFormat
from endcap.sources.opening import open_text
from endcap.sources.utf8 import BREAK, MARK, PieceStream, Utf8Stream, count_line_breaks, unmark

BLOCK = 16 << 20
SEPARATOR = "\x1f"
"""Replaces a delimiter of several characters, since the parser accepts only one: the unit separator of ASCII."""
UNCLOSED = "a quote is opened and never closed"
DELIMITER_LINE = re.compile(rb'"?sep=([^"\r\n])"?(?:\r\n|[\r\n])', re.IGNORECASE)
"""The line before the header in which spreadsheets name the delimiter."""
Ints = NDArray[np.int64]


def read_csv(file: SourceFile, text: TextFormat) -> SourceRows | None:
    """Read a file's rows. None: the file is empty. A first line such as `sep=;` names the delimiter and is no row."""
    delimiter = text.delimiter if len(text.delimiter) == 1 else SEPARATOR
    with convert_read_errors(file.name):
        stream = open_text(file, text.encoding, (text.delimiter, delimiter))
        delimiter_line = stream.skip(DELIMITER_LINE)
        lines = _LineCounter()
        if delimiter_line:
            delimiter, lines.line = delimiter_line[1].decode(), 2
        parsers = _open_parsers(file, stream, text, delimiter, lines)
        first = next(parsers, None)
    if first is None:
        return None
    return SourceRows(
        [unmark(name) for name in first.names], frozenset(), _read_batches(file, stream, chain([first], parsers), lines)
    )


def _open_parsers(
    file: SourceFile, stream: Utf8Stream, text: TextFormat, delimiter: str, lines: _LineCounter
) -> Iterator[_PartParser]:
    """Yield the parsers of the file's parts. The next one comes after the one before has read its part."""
    names = text.header
    if text.quoted is not None:
        parser = _open_parser(stream, delimiter, text.quoted, names)
        if parser is not None:
            yield parser
        return
    parts = QuotedText(stream)
    parser = _open_parser(parts.before, delimiter, False, names)
    if parser is not None:
        names = parser.names
        yield parser
    if not parts.quotes:
        return
    verdict = parts.judge(delimiter.encode(), len(names) if names else None)
    if verdict.quoted is None:
        raise _unclear_quotes_error(file, lines.line + verdict.line - 1, verdict.lines)
    guard = _QuotingGuard(file, delimiter.encode(), verdict.proven) if verdict.quoted else None
    parser = _open_parser(parts.rest, delimiter, verdict.quoted, names, guard=guard, plain=not verdict.quoted)
    if parser is not None:
        yield parser


def _open_parser(
    part: PieceStream,
    delimiter: str,
    quoted: bool,
    header: Sequence[str] | None,
    *,
    guard: _QuotingGuard | None = None,
    plain: bool = False,
) -> _PartParser | None:
    """Open a parser for a part of a text. None: the part is empty. header: None if its first line is the header.

    plain: whether the text has quotes that do not seem to enclose values.
    """
    try:
        return _PartParser(part, delimiter, quoted, header, guard, plain)
    except pa.ArrowInvalid as error:
        if "Empty CSV file" in str(error):
            return None
        raise


class _PartParser:
    """Arrow's parser of a part of a text, with the invalid rows that were not taken yet."""

    def __init__(
        self,
        part: PieceStream,
        delimiter: str,
        quoted: bool,
        header: Sequence[str] | None,
        guard: _QuotingGuard | None,
        plain: bool,
    ) -> None:
        self.invalid: list[Any] = []
        # With one thread Arrow reports a record's number. It parses about eight million rows per second.
        self.reader = pa.csv.open_csv(
            pa.PythonFile(part, mode="r"),
            read_options=pa.csv.ReadOptions(block_size=BLOCK, use_threads=False, column_names=header),
            parse_options=pa.csv.ParseOptions(
                delimiter=delimiter,
                quote_char='"' if quoted else False,
                newlines_in_values=quoted,
                invalid_row_handler=self._skip,
                ignore_empty_lines=False,
            ),
            convert_options=pa.csv.ConvertOptions(default_column_type=pa.binary()),
        )
        self.names: list[str] = self.reader.schema.names
        self.quoted, self.guard, self.plain = quoted, guard, plain
        self.header_lines = 0 if header else 1 + sum(count_line_breaks(name.encode()) for name in self.names)

    def _skip(self, row: Any) -> str:
        self.invalid.append(row)
        return "skip"


def _read_batches(
    file: SourceFile, stream: Utf8Stream, parsers: Iterator[_PartParser], lines: _LineCounter
) -> Iterator[RowBatch]:
    rows, other_lines = 0, lines.line - 1
    with convert_read_errors(file.name), stream:
        for parser in parsers:
            lines.begin(parser.header_lines)
            other_lines += parser.header_lines
            with parser.reader:
                for block, last in _mark_last(parser.reader):
                    batch, no_rows = _make_batch(block, last, parser, stream, lines)
                    rows, other_lines = rows + _count_rows(batch), other_lines + no_rows
                    yield batch
            rejects = [lines.reject(row, parser, stream.marked) for row in parser.invalid]
            if parser.guard is not None:
                parser.guard.check_rejects(rejects, len(parser.names))
            batch = RowBatch(pa.table({}), np.empty(0, np.int64), rejects)
            rows += _count_rows(batch)
            yield batch
        check_rows(file.name, rows, stream.lines - other_lines)


def _count_rows(batch: RowBatch) -> int:
    return len(batch.lines) + sum(reject.rows for reject in batch.rejects)


def _mark_last(reader: Any) -> Iterator[tuple[pa.RecordBatch, bool]]:
    """The blocks, and whether each is the last."""
    block = None
    for following in reader:
        if block is not None:
            yield block, False
        block = following
    if block is not None:
        yield block, True


def _make_batch(
    block: pa.RecordBatch, last: bool, parser: _PartParser, stream: Utf8Stream, lines: _LineCounter
) -> tuple[RowBatch, int]:
    """Return a block's rows, and the number of its lines that are no rows: blank ones and breaks inside values."""
    # The parser runs ahead in a thread of its own: rows of later blocks may be among the invalid ones already.
    ahead = parser.invalid[:]
    del parser.invalid[: len(ahead)]
    breaks = _count_breaks(block, stream.returns) if parser.quoted else np.zeros(block.num_rows, dtype=np.int64)
    numbers, rejects, later = lines.locate_rows(breaks, ahead, parser, stream.marked)
    parser.invalid[:0] = later
    if last and lines.line - 1 > stream.lines:
        # A value that is never closed has the break of the file's last line, which ends no record then.
        values = [column[-1].as_py().decode() for column in block.columns]
        rejects.append(RejectedText(int(numbers[-1]), UNCLOSED, ",".join(values).rstrip("\r\n"), int(breaks[-1])))
        block, breaks, numbers = block.slice(0, block.num_rows - 1), breaks[:-1], numbers[:-1]
    if parser.guard is not None:
        parser.guard.check_rows(block, breaks, numbers)
        parser.guard.check_rejects(rejects, block.num_columns)
    blank = _find_blank(block)
    columns, inside = block.columns, int(breaks.sum())
    if blank is None:
        return make_batch(columns, numbers, rejects, stream.marked), inside
    keep = pc.invert(blank)
    columns, numbers = [column.filter(keep) for column in columns], numbers[keep.to_numpy(zero_copy_only=False)]
    return make_batch(columns, numbers, rejects, stream.marked), inside + pc.sum(blank).as_py()


class _LineCounter:
    """Counts records and their lines across blocks and parts."""

    def __init__(self) -> None:
        self.record = self.line = 1

    def begin(self, header: int) -> None:
        """Begin a part whose header has this number of lines."""
        self.record, self.line = 2 if header else 1, self.line + header

    def locate_rows(
        self, breaks: Ints, invalid: Sequence[Any], parser: _PartParser, marked: str
    ) -> tuple[Ints, list[RejectedText], list[Any]]:
        """The line of each of a block's rows, the rejects among them, and the invalid rows that come after them.

        breaks: line breaks inside each row.
        """
        count = len(breaks)
        skipped = np.array([row.number for row in invalid], dtype=np.int64) - self.record
        free = np.ones(count + len(skipped), dtype=bool)
        free[skipped[skipped < len(free)]] = False
        places = np.flatnonzero(free)[:count]  # the record of each row, counted from self.record
        end = int(places[-1]) + 1 if count else 0
        inside = [row for row, place in zip(invalid, skipped, strict=True) if place < end]
        height = np.ones(end, dtype=np.int64)
        height[places] += breaks
        height[skipped[skipped < end]] += np.array(
            [count_line_breaks(row.text.encode()) for row in inside], dtype=np.int64
        )
        starts = self.line + np.cumsum(height) - height
        rejects = [_make_reject(row, int(starts[row.number - self.record]), parser, marked) for row in inside]
        self.record, self.line = self.record + end, self.line + int(height.sum())
        return starts[places], rejects, list(invalid[len(inside) :])

    def reject(self, row: Any, parser: _PartParser, marked: str) -> RejectedText:
        """A rejected row after the last block's rows; they come one by one, in order."""
        self.line += row.number - self.record
        rejected = _make_reject(row, self.line, parser, marked)
        self.record, self.line = row.number + 1, self.line + rejected.rows
        return rejected


class _QuotingGuard:
    """Checks each record of several lines in a file whose first quotes seem to enclose values."""

    def __init__(self, file: SourceFile, delimiter: bytes, proven: bool) -> None:
        self._file, self._delimiter, self._proven = file, delimiter, proven

    def check_rows(self, block: pa.RecordBatch, breaks: Ints, numbers: Ints) -> None:
        """Raise DataError if a value contains rows. breaks: line breaks inside each row."""
        long = np.flatnonzero(breaks)
        if not len(long):
            return
        columns = [column.take(pa.array(long)) for column in block.columns]
        delimiters = sum(pc.count_substring(column, self._delimiter).to_numpy() for column in columns)
        rows = delimiters == breaks[long] * (len(columns) - 1)  # as many as rows have in all, wherever they stand
        self._proven = self._proven or not rows.all()
        for row in np.flatnonzero(rows).tolist():
            record = BREAK.split(self._delimiter.join(column[row].as_py() for column in columns))
            if not are_all_rows(record, self._delimiter, len(columns)):
                self._proven = True
            elif not self._proven or are_surely_rows(len(record), self._delimiter, len(columns)):
                raise _unclear_quotes_error(self._file, int(numbers[long[row]]), len(record))

    def check_rejects(self, rejects: Sequence[RejectedText], columns: int) -> None:
        """Check records with a wrong number of columns. They are bad rows if quotes surely enclose values."""
        for reject in rejects:
            record = BREAK.split(reject.text.encode())
            if not self._proven and len(record) > 1 and are_all_rows(record, self._delimiter, columns):
                raise _unclear_quotes_error(self._file, reject.line, len(record))


def _unclear_quotes_error(file: SourceFile, line: int, rows: int) -> DataError:
    return DataError(
        f"{file.name}, line {line}: a quote opens a value of several lines there, and each of the {rows} lines has the "
        "columns of a row by itself; set the source's quoted to false if quotes are plain text in this file, or to "
        "true if they enclose values with line breaks",
        code="events.quotes-unclear",
        path=file.name,
        line=line,
        lines=rows,
    )


def _make_reject(row: Any, line: int, parser: _PartParser, marked: str) -> RejectedText:
    rows = 1 + count_line_breaks(row.text.encode())
    if marked and MARK in row.text:
        return reject_undecodable(line, row.text, marked, rows)
    unclosed = rows > 1 and row.text.count('"') % 2
    reason = UNCLOSED if unclosed else f"{row.actual_columns} columns where {row.expected_columns} are expected"
    if '\\"' in row.text:
        reason += ', and a quote in a value is written \\" there, which is not read: write it doubled ("")'
    elif parser.plain and '"' in row.text:
        reason += ", as quotes are read as plain text here: set the source's quoted to true if they enclose values"
    return RejectedText(line, reason, row.text, rows)


def _count_breaks(block: pa.RecordBatch, returns: bool) -> Ints:
    """Count the line breaks inside each row's values. returns: whether some may have a ``\r``."""
    total = np.zeros(block.num_rows, dtype=np.int64)
    for column in block.columns:
        data = column.buffers()[2]
        if data is None:
            continue
        values = np.frombuffer(data, dtype=np.uint8)
        if (values == 10).any():
            total += pc.count_substring(column, b"\n").to_numpy(zero_copy_only=False)
        if returns and (values == 13).any():
            total += pc.count_substring(column, b"\r").to_numpy(zero_copy_only=False)
            total -= pc.count_substring(column, b"\r\n").to_numpy(zero_copy_only=False)
    return total


def _find_blank(block: pa.RecordBatch) -> pa.Array | None:
    """Return which rows have no value at all. None: every row has one."""
    blank = pc.equal(block.column(0), b"")
    if not pc.any(blank).as_py():
        return None
    for column in block.columns[1:]:
        blank = pc.and_(blank, pc.equal(column, b""))
    return blank
