"""Which parts a source means: files, or partitions of a table of BigQuery."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from endcap.sources.bigquery.find import find_table_parts
from endcap.sources.bigquery.partitions import ALL_DAYS, Span
from endcap.sources.bigquery.parts import TablePart
from endcap.sources.files import SourceFile, find_files
from endcap.sources.formats.read import read_rows
from endcap.sources.formats.rows import SourceRows
from endcap.sources.formats.typed_table import read_typed_table
from endcap.sources.parts import SourcePart
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

    Raises
    ------
    DataError
        If there is nothing to read, or it must not be read.
    """
    if source.bigquery is not None:
        parts = find_table_parts(source.bigquery, days, time)
        return SourceParts(parts.parts, parts.skipped)
    files = find_files(source, progress)
    return SourceParts(files.files, files.skipped)


def announce_parts(parts: Iterable[SourcePart]) -> None:
    """Say which parts will be read, so that limits of what may be read count these alone."""
    by_table: dict[int, list[TablePart]] = {}
    for part in parts:
        if isinstance(part, TablePart):
            by_table.setdefault(id(part.allowance), []).append(part)
    for of_table in by_table.values():
        of_table[0].allowance.parts = of_table


def read_part(part: SourcePart, source: SourceSpec, names: Sequence[str], connection: Any) -> SourceRows | None:
    """Read a part's rows as text. Parameters, results and errors are those of `read_rows`."""
    if isinstance(part, TablePart):
        return read_typed_table(part.open(names), names, connection)
    assert isinstance(part, SourceFile)  # there are no other kinds
    return read_rows(part, source, names, connection)
