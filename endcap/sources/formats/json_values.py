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

    def __init__(self, file: str, read: Callable[[], str]) -> None:
        """file: its name, for errors. read: returns the next piece of its text, which is empty at the end."""
        self._file, self._read = file, read
        self._text, self._at = "", 0
        self._line, self._counted = 1, 0
        self._ended = False

    def __iter__(self) -> Iterator[tuple[int, str]]:
        """Yield each value's line (1-based) and text. Raises DataError, with the line, if the text is no JSON."""
        while self._next():
            if self._text[self._at] == "[":
                self._at += 1
                yield from self._elements()
            else:
                yield self._value()
            if self._next() and self._text[self._at] == ",":
                self._at += 1

    def _elements(self) -> Iterator[tuple[int, str]]:
        after = "["
        while True:
            if not self._next():
                raise self._broken("the file ends within an array that is not closed")
            if self._text[self._at] == "]" and after != ",":
                self._at += 1
                return
            if after not in "[,":
                if self._text[self._at] != ",":
                    raise self._broken("a comma or ] is expected after an element of the array")
                self._at, after = self._at + 1, ","
                continue
            yield self._value()
            after = "value"

    def _value(self) -> tuple[int, str]:
        """Return the text of the value that begins at the current position."""
        while True:
            try:
                _, end = _decode(self._text, self._at)
            except (ValueError, RecursionError) as error:
                if len(self._text) - self._at > LONGEST:
                    raise self._too_long() from error
                start = self._at
                if self._more():
                    continue
                if isinstance(error, json.JSONDecodeError):
                    self._at = error.pos - start
                    raise self._broken(error.msg) from error
                raise self._broken("a value is nested too deeply") from error
            # A number may go on in the next piece.
            if end == len(self._text) and self._more():
                continue
            if end - self._at > LONGEST:
                raise self._too_long()
            line, text = self._line_here(), self._text[self._at : end]
            self._at = end
            return line, text

    def _next(self) -> bool:
        """Go to the next character that is no space. Returns False at the end of the file."""
        while True:
            self._at = _skip_space(self._text, self._at)
            if self._at < len(self._text):
                return True
            if not self._more():
                return False

    def _more(self) -> bool:
        """Read as many characters as the value has already, so that a long value is not tried too often."""
        kept = self._text[self._at :]
        self._line_here()
        pieces, size = [kept], 0
        while not self._ended and size <= len(kept):
            piece = self._read()
            self._ended = not piece
            pieces.append(piece)
            size += len(piece)
        self._text, self._at, self._counted = "".join(pieces), 0, 0
        return size > 0

    def _line_here(self) -> int:
        self._line += self._text.count("\n", self._counted, self._at)
        self._counted = self._at
        return self._line

    def _broken(self, reason: str) -> DataError:
        line = self._line_here()
        return DataError(
            f"{self._file}: line {line}: broken JSON: {reason}; correct it there, or write the file as JSON lines, "
            "of which a broken one costs no other",
            code="events.json-broken",
            path=self._file,
            line=line,
            reason=reason,
        )

    def _too_long(self) -> DataError:
        line = self._line_here()
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
