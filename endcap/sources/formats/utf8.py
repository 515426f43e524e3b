"""Text of any encoding as UTF-8 in blocks of whole lines, where what is not of the encoding is marked and not lost."""

from __future__ import annotations

import codecs
import io
import re
from typing import Any

# A noncharacter: Unicode keeps it out of text that is exchanged.
MARK = "\ufdd0"
CHUNK = 4 << 20
LONGEST = 32 << 20
BREAK = re.compile(rb"\r\n|[\r\n]")
_MARKED = re.compile(f"{MARK}(..)")
_HANDLER = "endcap.mark"


def _mark(error: UnicodeError) -> tuple[str, int]:
    """Each byte that is not of the encoding as MARK and its two hexadecimal digits, which JSON takes as well."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "".join(f"{MARK}{byte:02x}" for byte in error.object[error.start : error.end]), error.end


codecs.register_error(_HANDLER, _mark)


def unmark(text: str) -> str:
    """The text for people: a marked byte as its escape (``\\xff``)."""
    return _MARKED.sub(r"\\x\1", text)


def count_line_breaks(text: bytes) -> int:
    """How many line breaks there are: ``\\n``, ``\\r\\n`` or a lone ``\\r``, as parsers of CSV read them."""
    return text.count(b"\n") + _count_lone_returns(text)


def _count_lone_returns(text: bytes) -> int:
    return text.count(b"\r") - text.count(b"\r\n") if b"\r" in text else 0


class PieceStream(io.RawIOBase):
    """A stream of bytes that come in pieces of their own size."""

    def __init__(self) -> None:
        self._piece, self._at = b"", 0

    def take(self) -> bytes:
        """The next piece; empty only at the end."""
        raise NotImplementedError

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes of a piece; empty only at the end."""
        if self._at == len(self._piece):
            self._piece, self._at = self.take(), 0
        end = len(self._piece) if size < 0 else self._at + size
        part = self._piece[self._at : end]
        self._at += len(part)
        return part


class Utf8Stream(PieceStream):
    """The text of `stream` in pieces that end with a line break, also where the text itself does not.

    A byte that is not of the encoding becomes MARK and its two hexadecimal digits, and `marked` the encoding's name.
    Of what was taken so far, `lines` counts the line breaks, `newlines` those that have a ``\\n``, and `returns` says
    whether any has a ``\\r``. begun: what was read of the stream before. replaced: text, and what stands in its place.
    """

    def __init__(self, stream: Any, begun: bytes, encoding: str, replaced: tuple[str, str] = ("", "")) -> None:
        super().__init__()
        self._stream, self._begun, self._rest = stream, begun, b""
        name = codecs.lookup(encoding).name
        self._decoder = None if name == "utf-8" else codecs.getincrementaldecoder(name)(_HANDLER)
        self._old, self._new = (part.encode() for part in replaced)
        self._encoding, self.marked = encoding, ""
        self.lines = self.newlines = 0
        self.returns = False
        self._ahead = b""

    def skip(self, start: re.Pattern[bytes]) -> re.Match[bytes] | None:
        """Leave out what the text begins with, if it does so; what is left out is counted all the same."""
        piece = self.take()
        match = start.match(piece)
        self._ahead = piece[match.end() :] if match else piece
        return match

    def take(self) -> bytes:
        if self._ahead:
            piece, self._ahead = self._ahead, b""
            return piece
        while True:
            chunk = self._begun or self._stream.read(CHUNK)
            self._begun = b""
            data = self._rest + (self._decoded(chunk) if self._decoder else chunk)
            if chunk:
                # A line break ends no character's bytes, and a \r at the end may be half of one.
                cut = data.rfind(b"\n") + 1 or data.rfind(b"\r", 0, -1) + 1
                if not cut and len(data) >= LONGEST:
                    cut = len(data) - _count_cut_bytes(data)
                data, self._rest = data[:cut], data[cut:]
            else:
                self._rest = b""
                if data and data[-1:] not in (b"\n", b"\r"):
                    data += b"\n"
            if data or not chunk:
                return self._checked(data)

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()

    def _decoded(self, chunk: bytes) -> bytes:
        assert self._decoder is not None
        text = self._decoder.decode(chunk, final=not chunk)
        if MARK in text:
            self.marked = self._encoding
        return text.encode(errors="backslashreplace")

    def _checked(self, data: bytes) -> bytes:
        if self._old != self._new:
            data = data.replace(self._old, self._new)
        newlines = data.count(b"\n")
        self.newlines, self.lines = self.newlines + newlines, self.lines + newlines + _count_lone_returns(data)
        self.returns = self.returns or b"\r" in data
        if self._decoder is None:
            try:
                data.decode()
            except UnicodeDecodeError:
                self.marked = self._encoding
                return data.decode(errors=_HANDLER).encode()
        return data


def _count_cut_bytes(data: bytes) -> int:
    """How many bytes of a character that is not all there the UTF-8 data end with."""
    for count in range(1, min(3, len(data)) + 1):
        byte = data[-count]
        if byte >= 0xC0:
            return count if count < (2 if byte < 0xE0 else 3 if byte < 0xF0 else 4) else 0
        if byte < 0x80:
            break
    return 0
