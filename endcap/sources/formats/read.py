"""Read the rows of a file of any format."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa

from endcap.sources.files import SourceFile
from endcap.sources.formats.nested_values import can_reach
from endcap.sources.formats.paths import HINTS, list_text_paths, parse_path
from endcap.sources.formats.read_avro import open_avro
from endcap.sources.formats.read_csv import read_csv
from endcap.sources.formats.read_excel import read_excel
from endcap.sources.formats.read_json import read_json
from endcap.sources.formats.read_orc import open_orc
from endcap.sources.formats.read_parquet import open_parquet
from endcap.sources.formats.rows import RowBatch, SourceRows, column_name
from endcap.sources.formats.typed_table import read_typed_table
from endcap.sources.formats.walk import walk_table
from endcap.sources.layouts import TextFormat, get_text_format
from endcap.spec.source import SourceSpec

OPEN_TYPED = {"parquet": open_parquet, "avro": open_avro, "orc": open_orc}
"""What opens a file of a format whose columns have types."""


def read_rows(file: SourceFile, source: SourceSpec, names: Sequence[str], connection: Any) -> SourceRows | None:
    """Read a file's rows as text.

    Parameters
    ----------
    file
        A file of `find_files`.
    source
        The source that names it, with its delimiter, header, quoting and encoding.
    names
        Columns to read, also as paths into nested values.
    connection
        The DuckDB connection of `open_engine`.

    Returns
    -------
    SourceRows or None
        The rows, batch by batch. None: the file has no bytes.

    Raises
    ------
    DataError
        If the file cannot be read; also while its batches are read.
    """
    if file.bytes == 0:
        return None
    if file.format == "excel":
        rows = read_excel(file, source.sheet, source.header)
        return rows and _add_paths(file, rows, names, connection)
    if file.format in OPEN_TYPED:
        return read_typed_table(OPEN_TYPED[file.format](file), names, connection)
    if file.format == "jsonl":
        return read_json(file, names, connection, source.encoding)
    text_format = get_text_format(source) or TextFormat()
    rows = read_csv(
        file,
        replace(
            text_format,
            delimiter=source.delimiter or ("\t" if file.format == "tsv" else ","),
            header=source.header,
            encoding=source.encoding or text_format.encoding,
            quoted=text_format.quoted if source.quoted is None else source.quoted,
        ),
    )
    return rows and _add_paths(file, rows, names, connection)


def _add_paths(file: SourceFile, rows: SourceRows, names: Sequence[str], connection: Any) -> SourceRows:
    """Add columns for the requested paths into columns that hold JSON."""
    begun = _PeekedBatches(rows)
    rows = replace(rows, batches=iter(begun), paths=begun.paths)
    types = dict.fromkeys(rows.names, pa.string())
    paths = {name: [path for path in parse_path(name) if can_reach(path, types)] for name in names if name not in types}
    paths = {name: reached for name, reached in paths.items() if reached}
    if not paths:
        return rows
    # Columns of one name differ by their place.
    once = [name if rows.names.index(name) == place else column_name(place) for place, name in enumerate(rows.names)]
    walk, _, unseen = walk_table(file.name, [(name, pa.string()) for name in once], once, paths)
    batches = (walk.run(batch, connection) if len(batch.lines) else batch for batch in begun)
    return SourceRows([*rows.names, *paths], frozenset(), batches, unseen, begun.paths).track_unseen()


class _PeekedBatches:
    """The batches of a table of texts. The first can be inspected before it is read."""

    def __init__(self, rows: SourceRows) -> None:
        self._names, self._batches, self._first = rows.names, rows.batches, next(rows.batches, None)

    def __iter__(self) -> Iterator[RowBatch]:
        if self._first is not None:
            yield self._first
        yield from self._batches

    def paths(self) -> list[str]:
        """Return the paths into columns that hold JSON in the first rows."""
        columns = zip(self._names, () if self._first is None else self._first.table.columns, strict=False)
        texts = ((name, column.slice(0, HINTS).to_pylist()) for name, column in columns)
        return [path for name, values in texts for path in list_text_paths(values, name)]
