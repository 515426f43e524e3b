"""Which files a source means, what they are, and their bytes without compression."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import lzma
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from endcap.errors import DataError
from endcap.events.utf8 import Utf8
from endcap.spec.shop import Source

COMPRESSIONS = {".gz": "gzip", ".xz": "xz", ".zst": "zstd"}
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


@dataclass(frozen=True)
class SourceFile:
    """One file of a source. `bytes` and `changed` (ns) are as found, to notice a change while it is read."""

    path: Path
    format: str
    compression: str | None
    bytes: int
    changed: int

    def digest(self) -> str:
        """SHA-256 of the file as it lies there, in hex. Raises DataError where it cannot be read."""
        with readable(self.path), self.path.open("rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()

    def check_unchanged(self) -> None:
        """Raises DataError if the file was written to since it was found."""
        with readable(self.path):
            state = self.path.stat()
        if (state.st_size, state.st_mtime_ns) != (self.bytes, self.changed):
            raise DataError(f"{self.path} changed while it was read; run again when nothing writes to it")


@dataclass(frozen=True)
class Found:
    """The files of a source in reading order (by name), and what else lay in its folder."""

    files: list[SourceFile]
    skipped: list[Path]


def find_files(source: Source) -> Found:
    """The source's files. A folder is read with its sub-folders; names that begin with . or _ are passed over.

    A folder's files of no known format are skipped and told; in a glob, or named one by one, they are errors, for
    somebody meant them. Raises DataError: nothing there, nothing known, unreadable.
    """
    place = Path(source.path)
    with readable(place):
        if place.is_dir():
            paths, chosen = _walk(place), False
        elif glob.has_magic(source.path) and not place.exists():
            matched = (Path(name) for name in glob.glob(source.path, recursive=True))  # noqa: PTH207 (absolute globs)
            paths, chosen = sorted(path for path in matched if path.is_file()), True
        else:
            place.stat()
            paths, chosen = [place], True
    if not paths:
        raise DataError(f"{source.path}: no file is there; name a file, a folder or a glob that matches files")
    files, skipped = [], []
    for path in paths:
        file = _recognise(path, source, chosen)
        if file is not None:
            files.append(file)
        elif chosen:
            raise DataError(f"{path}: its suffix tells no format; {_allowed()}, or name the source's format")
        else:
            skipped.append(path)
    if not files:
        names = ", ".join(path.name for path in skipped[:10])
        raise DataError(f"{source.path}: no file of a known format, only {names}; {_allowed()}, or name a format")
    return Found(files, skipped)


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn what the system and the readers say about this input file into a DataError that names it."""
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; check the path (it is relative to the spec file)") from None
    except (EOFError, lzma.LZMAError, pa.ArrowInvalid) as error:
        raise DataError(f"{path}: {_damage(str(error))}") from error
    except OSError as error:
        if error.errno:
            raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
        raise DataError(f"{path}: {_damage(str(error))}") from error


def open_text(file: SourceFile) -> Utf8:
    """The file's decompressed bytes; truncation shows as an error, never as an early end."""
    if file.compression == "xz":
        return Utf8(lzma.open(file.path))
    return Utf8(pa.input_stream(str(file.path), compression=file.compression))


def _walk(folder: Path) -> list[Path]:
    def stop(error: OSError) -> None:
        raise error

    found = []
    for parent, folders, names in os.walk(folder, onerror=stop):
        folders[:] = [name for name in folders if name[0] not in "._"]
        found += [Path(parent) / name for name in names if name[0] not in "._"]
    return sorted(found)


def _recognise(path: Path, source: Source, chosen: bool) -> SourceFile | None:
    compression = COMPRESSIONS.get(path.suffix.lower())
    suffix = (path.with_suffix("") if compression else path).suffix.lower()
    by_suffix = FORMATS.get(suffix)
    format_ = source.format or by_suffix
    if format_ is None or not (chosen or by_suffix == format_ or (source.format and suffix in VAGUE)):
        return None
    if format_ == "parquet" and compression:
        raise DataError(f"{path}: Parquet carries its own compression; give the plain .parquet file")
    with readable(path):
        state = path.stat()
    return SourceFile(path, format_, compression, state.st_size, state.st_mtime_ns)


def _allowed() -> str:
    return f"known are {', '.join(FORMATS)}, each plain (and text with {', '.join(COMPRESSIONS)})"


def _damage(said: str) -> str:
    if "runcated" in said or "end-of-stream" in said:
        return "the compressed file is cut short; copy it again"
    if "straddling" in said:
        return "a row is longer than 16 MiB: a quote is probably opened and never closed"
    return f"the file is damaged or not what its suffix says ({said.strip()})"
