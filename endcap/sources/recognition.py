"""What a file is by its name: its format, and how it is packed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import NamedTuple

from endcap.errors import DataError
from endcap.sources.archives import ARCHIVES
from endcap.sources.file_kinds import SUFFIXES, FileKind, foreign_kind_error
from endcap.spec.event_log import EventSource
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
    ".xlsx": "excel",
    ".xlsm": "excel",
    ".xlsb": "excel",
    ".xls": "excel",
    ".ods": "excel",
}
TYPED = frozenset({"parquet", "avro", "orc"})
"""Formats whose columns have types."""
# Suffixes that tell nothing of the format: taken from a folder where the source names its format.
VAGUE = {".txt", ".dat", ".data", ".log", ".json"}
# Of these, one that is read where somebody means it: named itself, in a glob, in an archive, or in a folder of nothing
# else.
CHOSEN_ONLY = {".json": "jsonl"}


class Recognition(NamedTuple):
    """A file's format, and its compression or archive, if it has one.

    The format of an archive is None: the file in it has one.
    """

    format: str | None
    compression: str | None


def recognize(name: str, source: SourceSpec, is_explicit: bool, meant: Mapping[str, str] = {}) -> Recognition | None:
    """Return what a file is by its name; None for an unknown format.

    Parameters
    ----------
    name
        The file's path or address.
    source
        The source, which may name its format.
    is_explicit
        Whether the source names the file, or matches it by a glob.
    meant
        Formats of further suffixes.
    """
    path = PurePosixPath(name)
    compression = COMPRESSIONS.get(path.suffix.lower())
    suffix = (path.with_suffix("") if compression else path).suffix.lower()
    if suffix in ARCHIVES:
        return Recognition(None, ARCHIVES[suffix])
    by_suffix = FORMATS.get(suffix) or (CHOSEN_ONLY if is_explicit else meant).get(suffix)
    format_ = source.format or by_suffix
    # A suffix that only says how a file is compressed tells nothing either. Hive and others give their files none; what
    # they are shows when they are opened.
    vague = suffix in VAGUE or (compression is not None and suffix not in FORMATS) or (not suffix and format_ in TYPED)
    if format_ is None or not (is_explicit or by_suffix == format_ or (source.format and vague)):
        return None
    if format_ == "excel" and isinstance(source, EventSource):
        return None
    return Recognition(format_, compression)


def check_kinds(names: list[str]) -> None:
    """Raise DataError for the first of these files whose kind cannot be read, or cannot be a log."""
    for name in names:
        if FORMATS.get(PurePosixPath(name).suffix.lower()) == "excel":
            raise DataError(
                f"{name} is a workbook, which only tables of items and customers and lists of ids may be: it has few "
                "rows, and ids and times lose digits there; export the events as CSV or Parquet",
                code="events.excel-events",
                path=name,
            )
        kind = _find_foreign_kind(name)
        if kind is not None:
            raise foreign_kind_error(name, kind, f"{name} is {kind.name}: {kind.advice}; {format_known()}")


def make_unknown_error(path: str, names: list[str], message: str) -> DataError:
    """Return the error for files whose names tell no format."""
    return DataError(
        f"{message}; {format_known()}, or name the source's format",
        code="events.format-unknown",
        path=path,
        found=[PurePosixPath(name).name for name in names],
        allowed=list(FORMATS),
    )


def format_known() -> str:
    """Return a text that lists the suffixes that are known."""
    return (
        f"known are {', '.join(FORMATS)}, each plain, compressed ({', '.join(COMPRESSIONS)}) or alone in an archive "
        f"({', '.join(ARCHIVES)})"
    )


def _find_foreign_kind(name: str) -> FileKind | None:
    """Return the foreign kind that a file's name shows, if it shows one."""
    path = PurePosixPath(name)
    return SUFFIXES.get((path.with_suffix("") if path.suffix.lower() in COMPRESSIONS else path).suffix.lower())
