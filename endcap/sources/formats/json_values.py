"""Cut JSON that is not one object per line into the texts of its objects: arrays, and objects over several lines."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator

from endcap.errors import DataError

LONGEST = 16 << 20
"""The most characters of one value."""
_SPACE = re.compile(r"[ \t\r\n]*")
_LINES_TRIED = 100
# The texts of the values count, not what they hold.
_decode = json.JSONDecoder(parse_int=str, parse_float=str).raw_decode


def is_json_lines(head: str) -> bool:
    """Return whether a text with this beginning has one object per line, valid or broken, and is no array."""
    start = _skip_space(head, 0)
    if head[start : start + 1] == "[":
        return False
    if head[start : start + 1] != "{":
        return True
    return any(map(_is_object, head[start:].split("\n", _LINES_TRIED)[:_LINES_TRIED])) and not _spans_lines(head, start)


class JsonValues:
    """The values of a file, one after another, with or without commas between. An array stands for its elements."""

    def __init__(self, file: str, read_piece: Callable[[], str]) -> None:
        """file: its name, for errors. read_piece: returns the next piece of its text, which is empty at the end."""
        self._file, self._read_piece = file, read_piece
        self._text, self._at = "", 0
        self._line, self._counted = 1, 0
        self._ended = False

    def __iter__(self) -> Iterator[tuple[int, str]]:
        """Yield each value's line (1-based) and text. Raises DataError, with the line, if the text is no JSON."""
        while self._advance():
            if self._text[self._at] == "[":
                self._at += 1
                yield from self._iterate_elements()
            else:
                yield self._read_value()
            if self._advance() and self._text[self._at] == ",":
                self._at += 1

    def _iterate_elements(self) -> Iterator[tuple[int, str]]:
        after = "["
        while True:
            if not self._advance():
                raise self._broken_error("the file ends within an array that is not closed")
            if self._text[self._at] == "]" and after != ",":
                self._at += 1
                return
            if after not in "[,":
                if self._text[self._at] != ",":
                    raise self._broken_error("a comma or ] is expected after an element of the array")
                self._at, after = self._at + 1, ","
                continue
            yield self._read_value()
            after = "value"

    def _read_value(self) -> tuple[int, str]:
        """Return the text of the value that begins at the current position."""
        while True:
            try:
                _, end = _decode(self._text, self._at)
            except (ValueError, RecursionError) as error:
                if len(self._text) - self._at > LONGEST:
                    raise self._too_long_error() from error
                start = self._at
                if self._read_more():
                    continue
                if isinstance(error, json.JSONDecodeError):
                    self._at = error.pos - start
                    raise self._broken_error(error.msg) from error
                raise self._broken_error("a value is nested too deeply") from error
            # A number may go on in the next piece.
            if end == len(self._text) and self._read_more():
                continue
            if end - self._at > LONGEST:
                raise self._too_long_error()
            line, text = self._count_line(), self._text[self._at : end]
            self._at = end
            return line, text

    def _advance(self) -> bool:
        """Go to the next character that is no space. Returns False at the end of the file."""
        while True:
            self._at = _skip_space(self._text, self._at)
            if self._at < len(self._text):
                return True
            if not self._read_more():
                return False

    def _read_more(self) -> bool:
        """Read as many characters as the value has already, so that a long value is not tried too often."""
        rest = self._text[self._at :]
        self._count_line()
        pieces, size = [rest], 0
        while not self._ended and size <= len(rest):
            piece = self._read_piece()
            self._ended = not piece
            pieces.append(piece)
            size += len(piece)
        self._text, self._at, self._counted = "".join(pieces), 0, 0
        return size > 0

    def _count_line(self) -> int:
        self._line += self._text.count("\n", self._counted, self._at)
        self._counted = self._at
        return self._line

    def _broken_error(self, reason: str) -> DataError:
        line = self._count_line()
        return DataError(
            f"{self._file}: line {line}: broken JSON: {reason}; correct it there, or write the file as JSON lines, "
            "of which a broken one costs no other",
            code="events.json-broken",
            path=self._file,
            line=line,
            reason=reason,
        )

    def _too_long_error(self) -> DataError:
        line = self._count_line()
        return DataError(
            f"{self._file}: line {line}: a JSON value is longer than 16 MiB, or never closed; write the objects of its "
            "list as JSON lines, one a line: jq -c '.data[]' in.json > out.jsonl (where `data` holds the list)",
            code="events.row-too-long",
            path=self._file,
            line=line,
            limit=LONGEST,
        )


def _spans_lines(head: str, start: int) -> bool:
    """Return whether the first value takes several lines, one of which may look like a whole object."""
    try:
        _, end = _decode(head, start)
    except (ValueError, RecursionError):
        return False
    return "\n" in head[start:end]


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _skip_space(text: str, start: int) -> int:
    match = _SPACE.match(text, start)
    assert match is not None  # it matches nothing too
    return match.end()
