"""A stream of text in which what is not UTF-8 is marked, so that the parsers go on and the row can be told."""

from __future__ import annotations

import io
import re
from typing import Any

# A noncharacter: Unicode keeps it out of text that is exchanged.
MARK = "\ufdd0"
CHUNK = 4 << 20
LONGEST = 32 << 20
_ESCAPED = re.compile("[\udc80-\udcff]")


class Utf8(io.RawIOBase):
    """Bytes of `stream`; a byte that is not UTF-8 becomes MARK and its escape (``\\xff``), and `marked` true.

    encoding: of the stream, UTF-8 or one of a byte a character. replaced: text, and what stands in its place.
    """

    def __init__(self, stream: Any, encoding: str = "utf-8", replaced: tuple[str, str] = ("", "")) -> None:
        self._stream, self._ready, self._at, self._rest = stream, b"", 0, b""
        self._encoding, self._old, self._new = encoding, *(part.encode() for part in replaced)
        self.marked = False

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes; empty only at the end."""
        while self._at == len(self._ready) and self._fill():
            pass
        end = len(self._ready) if size < 0 else self._at + size
        piece = self._ready[self._at : end]
        self._at += len(piece)
        return piece

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()

    def _fill(self) -> bool:
        chunk = self._stream.read(CHUNK)
        # Cut after a line: no character is cut in two there.
        head, newline, tail = chunk.rpartition(b"\n")
        if newline:
            self._ready, self._rest = self._checked(self._rest + head + newline), tail
        elif chunk and len(self._rest) < LONGEST:
            self._ready, self._rest = b"", self._rest + chunk
        else:
            self._ready, self._rest = self._checked(self._rest + chunk), b""
        self._at = 0
        return bool(chunk)

    def _checked(self, data: bytes) -> bytes:
        if self._encoding != "utf-8":
            data = data.decode(self._encoding).encode()
        if self._old != self._new:
            data = data.replace(self._old, self._new)
        try:
            data.decode()
        except UnicodeDecodeError:
            self.marked = True
            lenient = data.decode(errors="surrogateescape")
            return _ESCAPED.sub(lambda at: f"{MARK}\\x{ord(at[0]) - 0xDC00:02x}", lenient).encode()
        return data
