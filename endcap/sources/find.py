"""Which parts a source means: files, or partitions of a table of BigQuery."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from endcap.sources.bigquery.find import find_table_parts
from endcap.sources.bigquery.partitions import ALL_DAYS, Span
from endcap.sources.bigquery.parts import TablePart
from endcap.sources.files import SourceFile, find_files, list_files
from endcap.sources.formats.read import read_rows
from endcap.sources.formats.rows import SourceRows
from endcap.sources.formats.typed_table import read_typed_table
from endcap.sources.parts import SourcePart
from endcap.sources.s3_sources import fetch_listed
from endcap.sources.source_index import ListedFile, SourceIndex
from endcap.spec.source import SourceSpec


@dataclass(frozen=True)
class SourceParts:
    """The parts of a source in reading order, and the names of what was skipped, which no run reads."""

    files: Sequence[SourcePart]
    skipped: list[str]


def find_parts(
    source: SourceSpec,
    progress: Callable[[str], None] = lambda line: None,
    *,
    days: Span = ALL_DAYS,
    time: str | None = None,
    index: SourceIndex | None = None,
) -> SourceParts:
    """Find the parts of a source.

    Parameters
    ----------
    source
        Names files, or a table of BigQuery.
    progress
        Takes a line when files of a bucket are copied to this machine.
    days
        The times of the needed events. A table is read for these days alone; files are read whole.
    time
        The column of the events' times, if it is a plain column.
    index
        What is known of files.

    Raises
    ------
    DataError
        If there is nothing to read, or it must not be read.
    """
    if source.bigquery is not None:
        parts = find_table_parts(source.bigquery, days, time)
        return SourceParts(parts.parts, parts.skipped)
    files = find_files(source, progress, index)
    return SourceParts(files.files, files.skipped)


def read_versions(source: SourceSpec, *, days: Span = ALL_DAYS, time: str | None = None) -> list[tuple[str, str]]:
    """Read the names and marks of a source's parts; no file is opened.

    Parameters, results and errors are those of `find_parts`.
    """
    if source.bigquery is not None:
        return [(part.name, part.digest()) for part in find_table_parts(source.bigquery, days, time).parts]
    return [(listed.name, listed.mark) for listed in list_files(source).files]


def digest_part(part: SourcePart, index: SourceIndex) -> str:
    """Return the digest of a part's content, and note that of a file. Raises DataError if it cannot be read."""
    digest = part.digest()
    if isinstance(part, SourceFile) and not part.content.sha256:
        index.note(part.listed, replace(part.content, sha256=digest))
    return digest


def prepare_parts(parts: Iterable[SourcePart], progress: Callable[[str], None] = lambda line: None) -> None:
    """Say which parts will be read: limits count these alone, and objects of a bucket are copied to this machine.

    Raises DataError, StorageError.
    """
    files: list[ListedFile] = []
    by_table: dict[int, list[TablePart]] = {}
    for part in parts:
        if isinstance(part, TablePart):
            by_table.setdefault(id(part.allowance), []).append(part)
        elif isinstance(part, SourceFile):
            files.append(part.listed)
    for of_table in by_table.values():
        of_table[0].allowance.parts = of_table
    fetch_listed(files, progress)


def read_part(part: SourcePart, source: SourceSpec, names: Sequence[str], connection: Any) -> SourceRows | None:
    """Read a part's rows as text. Parameters, results and errors are those of `read_rows`."""
    if isinstance(part, TablePart):
        return read_typed_table(part.open(names), names, connection)
    assert isinstance(part, SourceFile)  # there are no other kinds
    return read_rows(part, source, names, connection)
