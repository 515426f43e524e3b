"""Kinds of files by suffix and first bytes: compressions, encodings, and foreign kinds with advice on what to do."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from pathlib import Path

from endcap.errors import DataError
from endcap.safe_reading import open_regular

HEAD = 4096
"""The number of first bytes that show a file's kind."""
_UNPACK, _SAVE = "unpack it", "save it as CSV or Parquet"


@dataclass(frozen=True)
class FileKind:
    """A foreign kind of file, which cannot be read. name: with its article; advice: what to do with such a file."""

    name: str
    advice: str


_7Z, _RAR = (FileKind(f"a {name} archive", _UNPACK) for name in ("7z", "rar"))
_ZIP = FileKind("a zip archive", "name it .zip, or unpack it")
_TAR = FileKind("a tar archive", "name it .tar (.tar.gz where it is compressed), or unpack it")
_EXCEL = FileKind("an Excel workbook", f"name it .xlsx or .xls, whichever it is, or {_SAVE}")
_DATABASE, _ARROW = FileKind("an SQLite data base", _SAVE), FileKind("an Arrow (Feather) file", _SAVE)
_PARQUET, _AVRO, _ORC = (
    FileKind(kind, f"name it .{format_}, or set the source's format to {format_}")
    for kind, format_ in (("a Parquet file", "parquet"), ("an Avro file", "avro"), ("an ORC file", "orc"))
)
_LZ4, _COMPRESS = FileKind("an lz4 file", _UNPACK), FileKind("a file of `compress`", _UNPACK)
_PICKLE, _TWICE = FileKind("a pickle", _SAVE), FileKind("compressed twice", "unpack it once")
SUFFIXES = {
    ".7z": _7Z,
    ".rar": _RAR,
    ".sqlite": _DATABASE,
    ".sqlite3": _DATABASE,
    ".db": _DATABASE,
    ".feather": _ARROW,
    ".arrow": _ARROW,
    ".pkl": _PICKLE,
    ".lz4": _LZ4,
    ".z": _COMPRESS,
    ".br": FileKind("a Brotli file", _UNPACK),
}
_BYTES = [
    (re.compile(rb"PK\x03\x04(?=.{26}(\[Content_Types\]|_rels/|docProps/|xl/))", re.DOTALL), _EXCEL),
    (re.compile(rb"PK(\x03\x04|\x05\x06|\x07\x08)"), _ZIP),
    (re.compile(rb".{257}ustar(\x00|  \x00)", re.DOTALL), _TAR),
    (re.compile(rb"7z\xbc\xaf\x27\x1c"), _7Z),
    (re.compile(rb"Rar!\x1a\x07"), _RAR),
    (re.compile(rb"PAR1.*[^\t\n\r\x20-\x7e]", re.DOTALL), _PARQUET),
    (re.compile(rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"), _EXCEL),
    (re.compile(rb"Obj\x01"), _AVRO),
    (re.compile(rb"ORC[\x00-\x1f]"), _ORC),
    (re.compile(rb"SQLite format 3\x00"), _DATABASE),
    (re.compile(rb"ARROW1\x00\x00"), _ARROW),
    (re.compile(rb"\x80[\x02-\x05]"), _PICKLE),
    (re.compile(rb"\x04\x22\x4d\x18"), _LZ4),
    (re.compile(rb"\x1f\x9d"), _COMPRESS),
]
# Kinds whose first bytes tell how to read them, whatever their suffix says.
_READABLE = {_ZIP: "zip", _TAR: "tar", _PARQUET: "parquet", _AVRO: "avro", _ORC: "orc"}
_COMPRESSED = [
    (re.compile(rb"\x1f\x8b\x08"), "gzip"),
    (re.compile(rb"\xfd7zXZ\x00"), "xz"),
    (re.compile(rb"\x28\xb5\x2f\xfd"), "zstd"),
    (re.compile(rb"BZh[1-9]1AY&SY"), "bz2"),
]
_MARKS = [
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # begins as UTF-16's
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
]
# Which of four bytes are zero in text that is mostly ASCII.
_ZEROS: dict[tuple[bool, ...], str] = {
    (False, True, True, True): "utf-32-le",
    (True, True, True, False): "utf-32-be",
    (False, True, False, True): "utf-16-le",
    (True, False, True, False): "utf-16-be",
}


def detect_compression(head: bytes) -> str | None:
    """Return the compression that a file's first bytes show."""
    return next((name for pattern, name in _COMPRESSED if pattern.match(head)), None)


def detect_format(head: bytes) -> str | None:
    """Return the typed format or the archive (`zip`, `tar`) that a file's first bytes show."""
    return next((_READABLE.get(kind) for pattern, kind in _BYTES if pattern.match(head)), None)


def read_kind(path: Path) -> str | None:
    """Return the typed format or the archive that a file's first bytes show. Raises IrregularFileError, OSError."""
    with open_regular(path) as handle:
        return detect_format(handle.read(HEAD))


def detect_encoding(head: bytes) -> tuple[str | None, int]:
    """Return the encoding of a text's byte order mark and the mark's length; (None, 0) without a mark."""
    return next(((name, len(mark)) for mark, name in _MARKS if head.startswith(mark)), (None, 0))


def foreign_kind_error(name: str, kind: FileKind, message: str) -> DataError:
    """Return the error for a file of a foreign kind."""
    return DataError(message, code="events.kind-foreign", path=name, kind=kind.name, advice=kind.advice)


def check_text(name: str, head: bytes, encoding: str | None) -> None:
    """Raise DataError if a file's first bytes are no text, or text of an encoding that the source must name.

    encoding: that of a byte order mark or of the source.
    """
    kind = _TWICE if detect_compression(head) else next((kind for pattern, kind in _BYTES if pattern.match(head)), None)
    if kind is not None:
        raise foreign_kind_error(name, kind, f"{name} is {kind.name}, whatever its suffix says: {kind.advice}")
    likely = _guess_encoding(head) if encoding is None else None
    if likely is not None:
        raise DataError(
            f"{name} looks like {likely.upper()} text without a mark of its encoding: set the source's encoding to "
            f"{likely}, or save the file as UTF-8",
            code="events.encoding-unmarked",
            path=name,
            encoding=likely,
        )


def _guess_encoding(head: bytes) -> str | None:
    if len(head) < 8:
        return None
    shares = [part.count(0) / len(part) for part in (head[start::4] for start in range(4))]
    # Of UTF-16's higher bytes some are not zero where the text is not all Latin.
    return _ZEROS.get(tuple(share > 0.3 for share in shares)) if max(shares) > 0.3 else None
