"""Text of any encoding as UTF-8, in blocks of whole lines. Bytes that are not valid in the encoding become marks."""

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
    """Replace each invalid byte by MARK and its two hexadecimal digits, which are valid in JSON texts, too."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "".join(f"{MARK}{byte:02x}" for byte in error.object[error.start : error.end]), error.end


codecs.register_error(_HANDLER, _mark)


def unmark(text: str) -> str:
    """Return the text for people: a marked byte becomes its escape (``\\xff``)."""
    return _MARKED.sub(r"\\x\1", text)


def count_line_breaks(text: bytes) -> int:
    """Count line breaks as CSV parsers do: ``\\n``, ``\\r\\n`` or a lone ``\\r``."""
    return text.count(b"\n") + _count_lone_returns(text)


def _count_lone_returns(text: bytes) -> int:
    return text.count(b"\r") - text.count(b"\r\n") if b"\r" in text else 0


class PieceStream(io.RawIOBase):
    """A stream whose bytes come in pieces of any size."""

    def __init__(self) -> None:
        self._piece, self._at = b"", 0

    def take(self) -> bytes:
        """Return the next piece. It is empty only at the end."""
        raise NotImplementedError

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """Return at most `size` bytes of a piece. They are empty only at the end."""
        if self._at == len(self._piece):
            self._piece, self._at = self.take(), 0
        end = len(self._piece) if size < 0 else self._at + size
        part = self._piece[self._at : end]
        self._at += len(part)
        return part


class Utf8Stream(PieceStream):
    """The text of `stream` as UTF-8, in pieces that end with a line break even if the text does not.

    An invalid byte becomes MARK and its two hexadecimal digits, and `marked` becomes the encoding's name. For the text
    taken so far, `lines` counts line breaks, `newlines` those with ``\\n``, and `returns` says whether any has ``\\r``.
    begun: bytes that were read from the stream before. replaced: a text and its replacement.
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
        """Skip the beginning of the text if it matches. Skipped lines count, too."""
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
            data = self._rest + (self._decode(chunk) if self._decoder else chunk)
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
                return self._check(data)

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()

    def _decode(self, chunk: bytes) -> bytes:
        assert self._decoder is not None
        text = self._decoder.decode(chunk, final=not chunk)
        if MARK in text:
            self.marked = self._encoding
        return text.encode(errors="backslashreplace")

    def _check(self, data: bytes) -> bytes:
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
    """Count the bytes of an incomplete character at the end of UTF-8 data."""
    for count in range(1, min(3, len(data)) + 1):
        byte = data[-count]
        if byte >= 0xC0:
            return count if count < (2 if byte < 0xE0 else 3 if byte < 0xF0 else 4) else 0
        if byte < 0x80:
            break
    return 0
