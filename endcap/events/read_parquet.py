"""Parquet by blocks, every value as text: one way of checking holds for all formats."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from endcap.errors import DataError
from endcap.events.batch import Batch, Rows, as_batch, check_rows
from endcap.events.sources import SourceFile, readable

BLOCK = 262_144


def read_parquet(file: SourceFile, wanted: Sequence[str], connection: Any) -> Rows:
    """The file's rows; of its columns only those that are wanted are read. A row's line is its number, from 1."""
    with readable(file.name):
        parquet = pq.ParquetFile(file.path)
        schema = parquet.schema_arrow
    names = [name for name in schema.names if name in set(wanted)]
    for name in names:
        if pa.types.is_nested(schema.field(name).type):
            kind = str(schema.field(name).type)
            raise DataError(
                f"{file.name}: column {name!r} is {kind}; a plain column is expected",
                code="events.column-nested",
                path=file.name,
                column=name,
                found=kind,
            )
    instants = frozenset(name for name in names if pa.types.is_temporal(schema.field(name).type))
    # Columns that nobody asked for still stand in the message about one that is missing.
    others = [name for name in schema.names if name not in names]
    return Rows([*names, *others], instants, _batches(file, parquet, names, connection))


def _batches(file: SourceFile, parquet: Any, names: list[str], connection: Any) -> Iterator[Batch]:
    line = 1
    with readable(file.name), parquet:
        for block in parquet.iter_batches(batch_size=BLOCK, columns=names):
            columns = [_text(block.column(name), connection) for name in names]
            yield as_batch(columns, np.arange(line, line + block.num_rows), [])
            line += block.num_rows
        check_rows(file.name, line - 1, parquet.metadata.num_rows)


def _text(column: pa.Array, connection: Any) -> pa.Array:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_binary(column.type) or pa.types.is_string(column.type):
        return column
    if pa.types.is_large_string(column.type) or pa.types.is_large_binary(column.type):
        return column.cast(pa.binary())
    connection.register("column", pa.table({"v": column}))
    text = connection.sql('SELECT v::VARCHAR AS v FROM "column"').to_arrow_table().column("v")
    return text.combine_chunks()
