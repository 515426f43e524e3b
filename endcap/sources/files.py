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
from endcap.reading import IrregularFileError, check_regular, open_regular
from endcap.sources.file_kinds import (
    HEAD,
    SUFFIXES,
    FileKind,
    check_text,
    detect_compression,
    detect_encoding,
    foreign_kind_error,
)
from endcap.sources.formats.utf8 import CHUNK, Utf8Stream
from endcap.sources.s3_sources import SCHEME, fetch_objects, find_objects
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
}
# Suffixes that tell nothing of the format: taken from a folder where the source names its format.
VAGUE = {".txt", ".dat", ".data", ".log", ".json"}
# Of these, one that is read where somebody means it: named itself, in a glob, or in a folder of nothing else.
CHOSEN_ONLY = {".json": "jsonl"}


@dataclass(frozen=True)
class SourceFile:
    """One file of a source. `bytes` and `changed` (ns) are as found, to notice a change while it is read."""

    name: str
    """What it is called, in errors and facts: its path, or its address in a bucket."""
    path: Path
    """Where its bytes are read."""
    format: str
    compression: str | None
    bytes: int
    changed: int

    def digest(self) -> str:
        """SHA-256 of the file as it lies there, in hex. Raises DataError where it cannot be read."""
        with convert_read_errors(self.name), open_regular(self.path) as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()

    def check_unchanged(self) -> None:
        """Raises DataError if the file was written to since it was found."""
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
    """The files of a source in reading order (by name), and what else lay in its folder."""

    files: list[SourceFile]
    skipped: list[str]


def find_files(source: SourceSpec, progress: Callable[[str], None] = lambda line: None) -> SourceFiles:
    """The source's files. A folder is read with its sub-folders; names that begin with . or _ are passed over.

    A folder's files of no known format are skipped and told; in a glob, or named one by one, they are errors, for
    somebody meant them. What is no regular file is refused before it is opened, for it might never end. What lies in a
    bucket is copied to this machine first, which `progress` is told. Raises DataError: nothing there, nothing known,
    unreadable.
    """
    objects, chosen = find_objects(source.path) if source.path.startswith(SCHEME) else (None, False)
    if objects is None:
        paths, chosen = _expand_path(source.path)
        names = [str(path) for path in paths]
    else:
        names = [one.address for one in objects]
    if not names:
        raise DataError(
            f"{source.path}: no file is there; name a file, a folder or a glob that matches files",
            code="events.file-not-found",
            path=source.path,
        )
    known = {name: kind for name in names if (kind := _recognize(name, source, chosen))}
    if not known:
        known = {name: kind for name in names if (kind := _recognize(name, source, chosen, CHOSEN_ONLY))}
    skipped = [name for name in names if name not in known]
    if chosen or not known:
        _check_kinds(skipped)
    if skipped and chosen:
        raise DataError(
            f"{skipped[0]}: its suffix tells no format; {_formats_text()}, or name the source's format",
            code="events.format-unknown",
            path=skipped[0],
            found=[Path(skipped[0]).name],
            allowed=list(FORMATS),
        )
    if not known:
        there = [Path(name).name for name in skipped[:10]]
        raise DataError(
            f"{source.path}: no file of a known format, only {', '.join(there)}; {_formats_text()}, or name a format",
            code="events.format-unknown",
            path=source.path,
            found=there,
            allowed=list(FORMATS),
        )
    if objects is not None:
        paths = fetch_objects([one for one in objects if one.address in known], progress)
    else:
        paths = [path for path in paths if str(path) in known]
    return SourceFiles([_make_file(name, path, *known[name]) for name, path in zip(known, paths, strict=True)], skipped)


@contextlib.contextmanager
def convert_read_errors(name: str) -> Iterator[None]:
    """Turn what the system and the readers say about this input file into a DataError that names it."""
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
    except (EOFError, lzma.LZMAError, pa.ArrowInvalid) as error:
        raise _damage_error(name, str(error)) from error
    except OSError as error:
        if error.errno:
            reason = error.strerror or str(error)
            raise DataError(
                f"{name}: cannot be read: {reason}", code="events.cannot-read", path=name, reason=reason
            ) from error
        raise _damage_error(name, str(error)) from error


def open_text(file: SourceFile, encoding: str | None = None, replaced: tuple[str, str] = ("", "")) -> Utf8Stream:
    """The file's decompressed text as UTF-8; truncation shows as an error, never as an early end.

    encoding: that of the source, UTF-8 where it names none; a mark at the file's begin goes before it. replaced: text,
    and what is read in its place. Raises DataError where the file is no text, or not in an encoding that is known.
    """
    stream = _open_decompressed(file)
    with contextlib.ExitStack() as failing:
        failing.callback(stream.close)
        head = b""
        while len(head) < HEAD and (more := stream.read(CHUNK)):
            head += more
        marked, mark = detect_encoding(head)
        check_text(file.name, head, marked or encoding)
        text = Utf8Stream(stream, head[mark:], marked or encoding or "utf-8", replaced)
        failing.pop_all()
    return text


def _open_decompressed(file: SourceFile) -> Any:
    with open_regular(file.path) as handle:
        # What the bytes say goes before the suffix: a download may keep either of the two.
        compression = detect_compression(handle.read(HEAD)) or file.compression
    if compression == "xz":
        return lzma.open(file.path)
    return pa.input_stream(str(file.path), compression=compression)


def _expand_path(given: str) -> tuple[list[Path], bool]:
    """The files that a path or a file:// address means, and whether each was meant: a file or a glob, not a folder."""
    given = given.removeprefix("file://")
    place = Path(given)
    with convert_read_errors(given):
        if place.is_dir():
            return _list_folder(place), False
        if glob.has_magic(given) and not place.exists():
            matched = (Path(name) for name in glob.glob(given, recursive=True))  # noqa: PTH207 (absolute globs)
            return sorted(path for path in matched if path.exists() and not path.is_dir()), True
        check_regular(place)
        return [place], True


def _list_folder(folder: Path) -> list[Path]:
    def stop(error: OSError) -> None:
        raise error

    found = []
    for parent, folders, names in os.walk(folder, onerror=stop):
        folders[:] = [name for name in folders if name[0] not in "._"]
        found += [Path(parent) / name for name in names if name[0] not in "._"]
    return sorted(found)


def _recognize(
    name: str, source: SourceSpec, chosen: bool, meant: Mapping[str, str] = {}
) -> tuple[str, str | None] | None:
    """Format and compression, or None for a file that is of no known format. meant: formats of further suffixes."""
    path = Path(name)
    compression = COMPRESSIONS.get(path.suffix.lower())
    suffix = (path.with_suffix("") if compression else path).suffix.lower()
    by_suffix = FORMATS.get(suffix) or (CHOSEN_ONLY if chosen else meant).get(suffix)
    format_ = source.format or by_suffix
    # A suffix that only says how a file is compressed tells nothing either.
    vague = suffix in VAGUE or (compression is not None and suffix not in FORMATS)
    if format_ is None or not (chosen or by_suffix == format_ or (source.format and vague)):
        return None
    if format_ == "parquet" and compression:
        raise DataError(
            f"{name}: Parquet carries its own compression; give the plain .parquet file",
            code="events.parquet-compressed",
            path=name,
            found=compression,
        )
    return format_, compression


def _find_foreign_kind(name: str) -> FileKind | None:
    """The kind that a file's name tells, of those that are not read."""
    path = Path(name)
    return SUFFIXES.get((path.with_suffix("") if path.suffix.lower() in COMPRESSIONS else path).suffix.lower())


def _check_kinds(names: list[str]) -> None:
    """Raise DataError for the first of these files that is of a kind that is not read."""
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


def _damage_error(name: str, said: str) -> DataError:
    """What a decompressor or a parser says of a file; they have no codes of their own."""
    if "runcated" in said or "end-of-stream" in said:
        text = f"{name}: the compressed file is cut short; copy it again"
        return DataError(text, code="events.file-cut-short", path=name)
    if "straddling" in said:
        text = (
            f"{name}: a row is longer than 16 MiB: a quote is probably opened and never closed; where quotes are plain "
            "text, set the source's quoted to false"
        )
        return DataError(text, code="events.row-too-long", path=name, line=None, limit=16 << 20)
    text = f"{name}: the file is damaged or not what its suffix says ({said.strip()})"
    return DataError(text, code="events.file-damaged", path=name, reason=said.strip())
