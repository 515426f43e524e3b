"""Read Parquet by blocks, with every value as text, so that the same checks apply to all formats."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from endcap.sources.files import SourceFile, convert_read_errors
from endcap.sources.formats.nested_values import can_reach, make_nested_column_error
from endcap.sources.formats.paths import list_roots, list_type_paths, parse_path
from endcap.sources.formats.rows import RowBatch, SourceRows, check_rows, column_name, make_batch
from endcap.sources.formats.walk import walk_table

BLOCK = 262_144
NESTED_BLOCK = BLOCK // 16
"""Rows of a block with nested values. They are fewer, since each may become many."""


def read_parquet(file: SourceFile, requested: Sequence[str], connection: Any) -> SourceRows:
    """Read a file's rows, with the requested columns alone. A row's line is its number, from 1."""
    with convert_read_errors(file.name):
        parquet = pq.ParquetFile(file.path)
        schema = parquet.schema_arrow
    types = dict(zip(schema.names, schema.types, strict=True))
    names = [name for name in schema.names if name in set(requested)]
    for name in names:
        if pa.types.is_nested(types[name]):
            raise make_nested_column_error(file.name, name, types[name])
    paths = {
        name: [path for path in parse_path(name) if can_reach(path, types)] for name in requested if name not in types
    }
    paths = {name: reached for name, reached in paths.items() if reached}
    # Columns that nobody asked for still stand in the message about one that is missing.
    unread = [name for name in schema.names if name not in names]

    def all_paths() -> list[str]:
        return [
            path for name, kind in types.items() if pa.types.is_nested(kind) for path in list_type_paths(name, kind)
        ]

    if not paths:
        instants = frozenset(name for name in names if pa.types.is_temporal(types[name]))
        return SourceRows([*names, *unread], instants, _read_batches(file, parquet, names, connection), paths=all_paths)
    roots = list_roots(chain(*paths.values()))
    columns = [(name, types[name]) for name in schema.names if name in names or name in roots]
    walk, instants, unseen = walk_table(file.name, columns, names, paths)
    batches = (walk.run(batch, connection) for batch in _convert_columns(file, parquet, [name for name, _ in columns]))
    return SourceRows([*names, *paths, *unread], instants, batches, unseen, all_paths).track_unseen()


def _read_batches(file: SourceFile, parquet: Any, names: list[str], connection: Any) -> Iterator[RowBatch]:
    line, read = 1, 0
    with convert_read_errors(file.name), parquet:
        for block in parquet.iter_batches(batch_size=BLOCK, columns=names):
            columns = [_to_text(block.column(name), connection) for name in names]
            batch = make_batch(columns, np.arange(line, line + block.num_rows), [])
            line, read = line + block.num_rows, read + len(batch.lines)
            yield batch
        check_rows(file.name, read, parquet.metadata.num_rows)


def _convert_columns(file: SourceFile, parquet: Any, names: list[str]) -> Iterator[RowBatch]:
    line = 1
    with convert_read_errors(file.name), parquet:
        for block in parquet.iter_batches(batch_size=NESTED_BLOCK, columns=names):
            columns = [block.column(name) for name in names]
            table = pa.table(columns, names=[column_name(place) for place in range(len(names))])
            yield RowBatch(table, np.arange(line, line + block.num_rows))
            line += block.num_rows
        check_rows(file.name, line - 1, parquet.metadata.num_rows)


def _to_text(column: pa.Array, connection: Any) -> pa.Array:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_binary(column.type) or pa.types.is_string(column.type):
        return column
    if pa.types.is_large_string(column.type) or pa.types.is_large_binary(column.type):
        return column.cast(pa.binary())
    value = "v::VARCHAR"
    if pa.types.is_float32(column.type):
        # From here on not every whole number has a float of its own: written so that nobody takes one for exact.
        value = f"CASE WHEN abs(v) >= {2**24} THEN format('{{:.9e}}', v::DOUBLE) ELSE {value} END"
    connection.register("column", pa.table({"v": column}))
    text = connection.sql(f'SELECT {value} AS v FROM "column"').to_arrow_table().column("v")  # noqa: S608 (a constant)
    return text.combine_chunks()
