"""Which files a source means, what they are, and their bytes without compression."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import lzma
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from endcap.errors import DataError
from endcap.safe_reading import IrregularFileError, check_regular, open_regular
from endcap.sources.file_kinds import (
    HEAD,
    SUFFIXES,
    FileKind,
    check_text,
    detect_compression,
    detect_encoding,
    foreign_kind_error,
)
from endcap.sources.s3_sources import SCHEME, fetch_objects, find_objects
from endcap.sources.utf8 import CHUNK, Utf8Stream
from endcap.spec.source import SourceSpec

COMPRESSIONS = {".gz": "gzip", ".xz": "xz", ".zst": "zstd", ".bz2": "bz2"}
FORMATS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".avro": "avro",
    ".orc": "orc",
}
TYPED = frozenset({"parquet", "avro", "orc"})
"""Formats whose columns have types."""
# Suffixes that tell nothing of the format: taken from a folder where the source names its format.
VAGUE = {".txt", ".dat", ".data", ".log", ".json"}
# Of these, one that is read where somebody means it: named itself, in a glob, or in a folder of nothing else.
CHOSEN_ONLY = {".json": "jsonl"}


@dataclass(frozen=True)
class SourceFile:
    """One file of a source. `bytes` and `changed` (ns) are those at the search, to notice a change during reading."""

    name: str
    """Its name in errors and facts: its path, or its address in a bucket."""
    path: Path
    """The local file that holds its bytes."""
    format: str
    compression: str | None
    bytes: int
    changed: int

    def digest(self) -> str:
        """Return the SHA-256 of the stored bytes, in hex. Raises DataError if the file cannot be read."""
        with convert_read_errors(self.name), open_regular(self.path) as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()

    def check_unchanged(self) -> None:
        """Raise DataError if the file changed since the search."""
        with convert_read_errors(self.name):
            state = self.path.stat()
        if (state.st_size, state.st_mtime_ns) != (self.bytes, self.changed):
            raise DataError(
                f"{self.name} changed while it was read; run again when nothing writes to it",
                code="events.file-changed",
                path=self.name,
            )


@dataclass(frozen=True)
class SourceFiles:
    """The files of a source in reading order, which is by name, and the names of skipped files of its folder."""

    files: list[SourceFile]
    skipped: list[str]


def find_files(source: SourceSpec, progress: Callable[[str], None] = lambda line: None) -> SourceFiles:
    """Find the files of a source.

    Parameters
    ----------
    source
        Names a file, a folder or a glob, here or in a bucket.
    progress
        Takes a line when files of a bucket are copied to this machine.

    Returns
    -------
    SourceFiles
        The files to read, and the skipped ones. A folder is searched with its subfolders. Names that begin with ``.``
        or ``_`` do not count. Files of unknown formats are skipped in a folder, and are an error in a glob.

    Raises
    ------
    DataError
        If no file exists, none has a known format, one cannot be read, or one is no regular file.
    """
    objects, is_explicit = find_objects(source.path) if source.path.startswith(SCHEME) else (None, False)
    if objects is None:
        paths, is_explicit = _expand_path(source.path)
        names = [str(path) for path in paths]
    else:
        names = [entry.address for entry in objects]
    if not names:
        raise DataError(
            f"{source.path}: no file is there; name a file, a folder or a glob that matches files",
            code="events.file-not-found",
            path=source.path,
        )
    recognized = {name: kind for name in names if (kind := _recognize(name, source, is_explicit))}
    if not recognized:
        recognized = {name: kind for name in names if (kind := _recognize(name, source, is_explicit, CHOSEN_ONLY))}
    skipped = [name for name in names if name not in recognized]
    if is_explicit or not recognized:
        _check_kinds(skipped)
    if skipped and is_explicit:
        raise DataError(
            f"{skipped[0]}: its suffix tells no format; {_formats_text()}, or name the source's format",
            code="events.format-unknown",
            path=skipped[0],
            found=[Path(skipped[0]).name],
            allowed=list(FORMATS),
        )
    if not recognized:
        names = [Path(name).name for name in skipped[:10]]
        raise DataError(
            f"{source.path}: no file of a known format, only {', '.join(names)}; {_formats_text()}, or name a format",
            code="events.format-unknown",
            path=source.path,
            found=names,
            allowed=list(FORMATS),
        )
    if objects is not None:
        paths = fetch_objects([entry for entry in objects if entry.address in recognized], progress)
    else:
        paths = [path for path in paths if str(path) in recognized]
    return SourceFiles(
        [_make_file(name, path, *recognized[name]) for name, path in zip(recognized, paths, strict=True)], skipped
    )


@contextlib.contextmanager
def convert_read_errors(name: str) -> Iterator[None]:
    """Convert errors of the system and of readers into a DataError that names this input file."""
    try:
        yield
    except IrregularFileError as error:
        raise DataError(
            f"{name} is {error.strerror}: reading it might never end. Name files, and take what is none out of the "
            "folder",
            code="events.not-a-file",
            path=name,
            reason=error.strerror,
        ) from None
    except FileNotFoundError:
        raise DataError(
            f"{name}: no such file; check the path (it is relative to the spec file)",
            code="events.file-not-found",
            path=name,
        ) from None
    except (EOFError, lzma.LZMAError, pa.ArrowException) as error:
        raise _damage_error(name, str(error)) from error
    except OSError as error:
        if error.errno:
            reason = error.strerror or str(error)
            raise DataError(
                f"{name}: cannot be read: {reason}", code="events.cannot-read", path=name, reason=reason
            ) from error
        raise _damage_error(name, str(error)) from error


def open_text(file: SourceFile, encoding: str | None = None, replaced: tuple[str, str] = ("", "")) -> Utf8Stream:
    """Open a file's decompressed text as UTF-8. A truncated file raises an error and never ends early.

    Parameters
    ----------
    file
        The file.
    encoding
        The source's encoding. None: UTF-8. A byte order mark takes precedence over both.
    replaced
        A text and its replacement, which applies while reading.

    Raises
    ------
    DataError
        If the file is no text, or its encoding must be named.
    """
    stream = open_bytes(file)
    with contextlib.ExitStack() as failing:
        failing.callback(stream.close)
        head = b""
        while len(head) < HEAD and (chunk := stream.read(CHUNK)):
            head += chunk
        marked, mark = detect_encoding(head)
        check_text(file.name, head, marked or encoding)
        text = Utf8Stream(stream, head[mark:], marked or encoding or "utf-8", replaced)
        failing.pop_all()
    return text


def open_bytes(file: SourceFile) -> Any:
    """Open a file's bytes without compression."""
    with open_regular(file.path) as handle:
        # The bytes take precedence over the suffix: a download may keep either of the two.
        compression = detect_compression(handle.read(HEAD)) or file.compression
    if compression == "xz":
        return lzma.open(file.path)
    return pa.input_stream(str(file.path), compression=compression)


def _expand_path(address: str) -> tuple[list[Path], bool]:
    """Return the files of a path or file:// address, and whether it names them itself (a file or a glob, no folder)."""
    address = address.removeprefix("file://")
    place = Path(address)
    with convert_read_errors(address):
        if place.is_dir():
            return _list_folder(place), False
        if glob.has_magic(address) and not place.exists():
            matched = (Path(name) for name in glob.glob(address, recursive=True))  # noqa: PTH207 (absolute globs)
            return sorted(path for path in matched if path.exists() and not path.is_dir()), True
        check_regular(place)
        return [place], True


def _list_folder(folder: Path) -> list[Path]:
    def stop(error: OSError) -> None:
        raise error

    paths = []
    for parent, folders, names in os.walk(folder, onerror=stop):
        folders[:] = [name for name in folders if name[0] not in "._"]
        paths += [Path(parent) / name for name in names if name[0] not in "._"]
    return sorted(paths)


def _recognize(
    name: str, source: SourceSpec, is_explicit: bool, meant: Mapping[str, str] = {}
) -> tuple[str, str | None] | None:
    """Return format and compression, or None for an unknown format. meant: formats of further suffixes."""
    path = Path(name)
    compression = COMPRESSIONS.get(path.suffix.lower())
    suffix = (path.with_suffix("") if compression else path).suffix.lower()
    by_suffix = FORMATS.get(suffix) or (CHOSEN_ONLY if is_explicit else meant).get(suffix)
    format_ = source.format or by_suffix
    # A suffix that only says how a file is compressed tells nothing either. Hive and others give their files none; what
    # they are shows when they are opened.
    vague = suffix in VAGUE or (compression is not None and suffix not in FORMATS) or (not suffix and format_ in TYPED)
    if format_ is None or not (is_explicit or by_suffix == format_ or (source.format and vague)):
        return None
    if format_ in ("parquet", "orc") and compression:
        raise DataError(
            f"{name}: Parquet and ORC carry their own compression; give the plain file",
            code="events.parquet-compressed",
            path=name,
            found=compression,
        )
    return format_, compression


def _find_foreign_kind(name: str) -> FileKind | None:
    """Return the foreign kind that a file's name shows, if it shows one."""
    path = Path(name)
    return SUFFIXES.get((path.with_suffix("") if path.suffix.lower() in COMPRESSIONS else path).suffix.lower())


def _check_kinds(names: list[str]) -> None:
    """Raise DataError for the first of these files whose kind cannot be read."""
    for name in names:
        kind = _find_foreign_kind(name)
        if kind is not None:
            raise foreign_kind_error(name, kind, f"{name} is {kind.name}: {kind.advice}; {_formats_text()}")


def _make_file(name: str, path: Path, format_: str, compression: str | None) -> SourceFile:
    with convert_read_errors(name):
        check_regular(path)
        state = path.stat()
    return SourceFile(name, path, format_, compression, state.st_size, state.st_mtime_ns)


def _formats_text() -> str:
    return f"known are {', '.join(FORMATS)}, each plain (and text with {', '.join(COMPRESSIONS)})"


def _damage_error(name: str, reason: str) -> DataError:
    """Make the error for a damaged file from the words of a decompressor or parser, which have no error codes."""
    if "runcated" in reason or "end-of-stream" in reason:
        text = f"{name}: the file is cut short; copy it again"
        return DataError(text, code="events.file-cut-short", path=name)
    if "straddling" in reason:
        text = (
            f"{name}: a row is longer than 16 MiB: a quote is probably opened and never closed; where quotes are plain "
            "text, set the source's quoted to false"
        )
        return DataError(text, code="events.row-too-long", path=name, line=None, limit=16 << 20)
    text = f"{name}: the file is damaged or not what its suffix says ({reason.strip()})"
    return DataError(text, code="events.file-damaged", path=name, reason=reason.strip())
