"""Decide whether the double quotes of a text enclose values, as in RFC 4180, or are plain characters."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from endcap.sources.utf8 import BREAK, PieceStream, Utf8Stream, count_line_breaks

SAMPLE = 1 << 20
BEFORE = 1 << 16
RECORDS = 500
"""The most records with quotes that are examined."""
CHANCE, CERTAIN = 8, 12
"""Numbers of delimiters in a seeming value with line breaks, placed as in rows: from the first number on it is refused,
and from the second on it is surely several rows."""
_TAB = b"\t"
_NUMBER = re.compile(rb"[-+]?[\d.,]+(?:[eE][-+]?\d+)?|NA|NULL|\\N")


class QuotingVerdict(NamedTuple):
    """How to read the rest of a text.

    quoted: whether quotes enclose values. None: both ways give rows, and different ones. proven: whether some values
    only make sense if quotes enclose them. line, lines: the first line of an unclear record, counted from the rest's
    first line, and its number of lines.
    """

    quoted: bool | None
    proven: bool = False
    line: int = 1
    lines: int = 1


class TextPart(PieceStream):
    """A part of a text that a parser of its own reads."""

    def __init__(self, take: Callable[[], bytes]) -> None:
        super().__init__()
        self._take = take

    def take(self) -> bytes:
        return self._take()


class QuotedText:
    """A text in two parts: `before` its first quote, where both ways of reading give the same, and the `rest`.

    If the first quote comes early, the rest is the whole text. It must be read after `before`.
    """

    def __init__(self, stream: Utf8Stream) -> None:
        self._stream = stream
        self._begun, self._context = False, b""
        self._pending: list[bytes] = []
        self.before, self.rest = TextPart(self._take_before), TextPart(self._take_rest)

    @property
    def quotes(self) -> bool:
        """Whether the text has a quote. Valid after `before` is read."""
        return bool(self._pending)

    def judge(self, delimiter: bytes, columns: int | None) -> QuotingVerdict:
        """Decide how to read the rest by its first records with quotes. columns: None if its first line is a header."""
        if columns is None:
            header = _QuotedRecord(self._pending[0], 0, delimiter)
            if header.enclosed and not header.broken:
                return QuotingVerdict(True, proven=True)
            columns = header.columns
        size, ended = sum(map(len, self._pending)), False
        while size < SAMPLE and not ended:
            piece = self._stream.take()
            size, ended = size + len(piece), not piece
            self._pending += [piece] if piece else []
        text = b"".join(self._pending)
        begin = _find_line_start(text, text.find(b'"'))
        end = len(text) if ended else min(len(text), begin + SAMPLE)
        is_end = ended and end == len(text)
        sample = text[begin : end if is_end else _find_line_start(text, end)]
        verdict = weigh_quotes(
            sample, delimiter, columns, self._context + text[max(0, begin - BEFORE) : begin], is_end=is_end
        )
        return verdict._replace(line=verdict.line + count_line_breaks(text[:begin]))

    def _take_before(self) -> bytes:
        if self._pending:
            return b""
        piece = self._stream.take()
        quote = piece.find(b'"')
        cut = len(piece) if quote < 0 else _find_line_start(piece, quote) if self._begun else 0
        self._begun = True
        if cut < len(piece):
            self._pending.append(piece[cut:])
        self._context = piece[:cut][-BEFORE:] or self._context
        return piece[:cut]

    def _take_rest(self) -> bytes:
        return self._pending.pop(0) if self._pending else self._stream.take()


def weigh_quotes(sample: bytes, delimiter: bytes, columns: int, before: bytes, *, is_end: bool) -> QuotingVerdict:
    """Decide by a sample whether quotes enclose values.

    Parameters
    ----------
    sample
        Records with quotes.
    delimiter
        The delimiter of values.
    columns
        The number of columns of a row.
    before
        Lines before the sample.
    is_end
        Whether the text ends with the sample.

    Notes
    -----
    Evidence for enclosing quotes: a record that has its columns only that way, and doubled quotes. Evidence against: a
    quote that opens a value and closes before its end while the line has its columns anyway, and rows that would become
    line breaks of a value.
    """
    pro = contra = bare = records = enclosed = position = 0
    unclear, needless = QuotingVerdict(None), set[int]()
    while records < RECORDS and (quote := sample.find(b'"', position)) >= 0:
        begin = _find_line_start(sample, quote, position)
        record = _QuotedRecord(sample, begin, delimiter)
        rows = are_all_rows(record.lines, delimiter, columns)
        has_columns = record.columns == columns and not record.broken
        if has_columns and rows and len(record.lines) > 1:
            if are_surely_rows(len(record.lines), delimiter, columns, CERTAIN):
                contra += 1
            elif unclear.lines == 1:
                unclear = QuotingVerdict(None, line=1 + count_line_breaks(sample[:begin]), lines=len(record.lines))
        elif has_columns and (not rows or record.doubled):
            pro += 1
        elif rows and record.opened and not has_columns:
            contra += 1
        bare += count_line_breaks(sample[position:begin])
        enclosed += record.enclosed > 0
        needless |= record.needless
        records, position = records + 1, record.end
    everywhere = records >= 20 and bare * 20 <= records and enclosed * 20 >= records * 19
    if contra > pro and not everywhere:
        return QuotingVerdict(False)
    if pro or everywhere:
        return QuotingVerdict(True, proven=True)
    if unclear.lines > 1:
        return unclear
    # Who writes tabs does not enclose values without need, unless all of a column: such quotes are the values' own.
    return QuotingVerdict(delimiter != _TAB or not _has_bare_text(before + sample, needless))


def are_all_rows(lines: Sequence[bytes], delimiter: bytes, columns: int) -> bool:
    """Return whether each line of a record has a row's columns by itself, if quotes do not count."""
    return all(line.count(delimiter) + 1 == columns for line in lines)


def are_surely_rows(lines: int, delimiter: bytes, columns: int, limit: int = CHANCE) -> bool:
    """Return whether so many lines with a row's columns must be rows, since a value hardly looks like that."""
    return lines * (columns - 1) >= (1 if delimiter == _TAB else limit)


class _QuotedRecord:
    """A record of `text` from `begin` on, as RFC 4180 reads it.

    broken: a quote that opens a value is not closed at its end; needless: columns of values in quotes that need none.
    """

    def __init__(self, text: bytes, begin: int, delimiter: bytes) -> None:
        field = _field_pattern(delimiter)
        self.columns = self.enclosed = 0
        self.opened = self.broken = self.doubled = False
        self.needless: set[int] = set()
        position, continues = begin, True
        while continues:
            match = field.match(text, position)
            assert match is not None  # each part of the pattern may be empty
            value, closed, trailing, end = match.groups()
            if value is not None:
                self.opened = True
                self.broken = self.broken or bool(trailing) or not closed
                self.enclosed += bool(closed and not trailing)
                self.doubled = self.doubled or b'""' in value
                if value.strip() == value != b"" and not (b'"' in value or delimiter in value or BREAK.search(value)):
                    self.needless |= set() if _NUMBER.fullmatch(value) else {self.columns}
            self.columns += 1
            position, continues = match.end(), end == delimiter
        self.end = position
        self.lines = text[begin:position].splitlines()


@functools.cache
def _field_pattern(delimiter: bytes) -> re.Pattern[bytes]:
    """A value of a record: what quotes enclose, the closing quote, what else there is, and what ends it."""
    escaped = re.escape(delimiter)
    return re.compile(rb'(?:"([^"]*(?:""[^"]*)*)("|\Z))?([^%b\r\n]*)(%b|\r\n|[\r\n]|\Z)' % (escaped, escaped))


def _find_line_start(text: bytes, position: int, after: int = 0) -> int:
    """Where the line begins that `at` is in. after: where some line before it begins."""
    return max(text.rfind(b"\n", after, position) + 1, text.rfind(b"\r", after, position) + 1, after)


def _has_bare_text(text: bytes, columns: set[int]) -> bool:
    """Whether one of these columns of a text with tabs has values without quotes that are no numbers."""
    rows = [line.split(_TAB) for line in text.splitlines()[1:]] if columns else []  # the first may be a header
    values = (row[column] for row in rows for column in columns if column < len(row))
    return any(value and value[:1] != b'"' and not _NUMBER.fullmatch(value) for value in values)
