"""Rows of a format whose columns have types: every value becomes text, so that the same checks apply to all formats."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from endcap.errors import DataError
from endcap.sources.formats.nested_values import can_reach, is_bytes, is_text, make_nested_column_error
from endcap.sources.formats.paths import list_roots, list_type_paths, parse_path
from endcap.sources.formats.rows import RowBatch, SourceRows, check_rows, column_name, make_batch
from endcap.sources.formats.walk import walk_table

BLOCK = 262_144
NESTED_BLOCK = BLOCK // 16
"""Rows of a block with nested values. They are fewer, since each may become many."""
_COARSE = {"s": 1, "ms": 10**3, "us": 10**6}
"""Units of times that reach beyond the years of four digits, in a second."""
# From these numbers on, not every whole number has a float of the type.
_EXACT = {pa.float16(): 2**11, pa.float32(): 2**24}
_FIRST, _END = -62_135_596_800, 253_402_300_800
"""The years 1 and 10000, in seconds since 1970."""


@dataclass(frozen=True)
class TypedTable:
    """A table of typed columns, which is read by blocks.

    Attributes
    ----------
    name
        Its name in errors.
    schema
        Names and types of all columns.
    read_blocks
        Takes the names of the columns to read and the most rows of a block, and yields the blocks in order. It raises
        DataError if the table cannot be read.
    count_rows
        Counts the rows independently of the blocks. It is asked after the last block.
    """

    name: str
    schema: pa.Schema
    read_blocks: Callable[[Sequence[str], int], Iterator[pa.RecordBatch]]
    count_rows: Callable[[], int]


def read_typed_table(table: TypedTable, requested: Sequence[str], connection: Any) -> SourceRows:
    """Read a table's rows, with the requested columns alone. A row's line is its number, from 1.

    Parameters
    ----------
    table
        The table.
    requested
        Columns to read, also as paths into nested values.
    connection
        A DuckDB connection.

    Raises
    ------
    DataError
        If a requested name stands for lists or objects (`events.column-nested`), or the table cannot be read. The
        latter also while its batches are read.
    """
    schema = table.schema
    types = dict(zip(schema.names, schema.types, strict=True))
    names = [name for name in schema.names if name in set(requested)]
    for name in names:
        if pa.types.is_nested(types[name]):
            raise make_nested_column_error(table.name, name, types[name])
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
        return SourceRows([*names, *unread], instants, _read_batches(table, names, connection), paths=all_paths)
    roots = list_roots(chain(*paths.values()))
    columns = [(name, types[name]) for name in schema.names if name in names or name in roots]
    walk, instants, unseen = walk_table(table.name, columns, names, paths)
    batches = (walk.run(batch, connection) for batch in _read_nested_batches(table, [name for name, _ in columns]))
    return SourceRows([*names, *paths, *unread], instants, batches, unseen, all_paths).track_unseen()


def _read_batches(table: TypedTable, names: list[str], connection: Any) -> Iterator[RowBatch]:
    line, read = 1, 0
    for block in table.read_blocks(names, BLOCK):
        columns = [_to_text(table.name, name, block.column(name), connection) for name in names]
        batch = make_batch(columns, np.arange(line, line + block.num_rows), [])
        line, read = line + block.num_rows, read + len(batch.lines)
        yield batch
    check_rows(table.name, read, table.count_rows())


def _read_nested_batches(table: TypedTable, names: list[str]) -> Iterator[RowBatch]:
    line = 1
    for block in table.read_blocks(names, NESTED_BLOCK):
        columns = [_split_times(block.column(name))[0] for name in names]
        values = pa.table(columns, names=[column_name(place) for place in range(len(names))])
        yield RowBatch(values, np.arange(line, line + block.num_rows))
        line += block.num_rows
    check_rows(table.name, line - 1, table.count_rows())


def _to_text(table: str, name: str, column: pa.Array, connection: Any) -> pa.Array:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if is_text(column.type):
        return column.cast(pa.string())
    if is_bytes(column.type):
        return _decode(table, name, column)
    if pa.types.is_decimal256(column.type):
        return column.cast(pa.string())
    value, exact = "v::VARCHAR", _EXACT.get(column.type)
    if exact is not None:
        # From here on not every whole number has a float of its own: written so that nobody takes one for exact.
        column = column.cast(pa.float32())
        value = f"CASE WHEN abs(v) >= {exact} THEN format('{{:.9e}}', v::DOUBLE) ELSE {value} END"
    column, unread = _split_times(column)
    connection.register("column", pa.table({"v": column}))
    text = connection.sql(f'SELECT {value} AS v FROM "column"').to_arrow_table().column("v").combine_chunks()  # noqa: S608 (a constant)
    return text if unread is None else pc.coalesce(text, unread)


def _split_times(column: pa.Array) -> tuple[pa.Array, pa.Array | None]:
    """Return a column without times beyond the years of four digits, and the numbers of the latter as text, if any.

    The engine stops at a time that is too far off for it.
    """
    per_second = _COARSE.get(column.type.unit) if pa.types.is_timestamp(column.type) else None
    if per_second is None:
        return column, None
    numbers = column.cast(pa.int64())
    is_far = pc.or_(pc.less(numbers, _FIRST * per_second), pc.greater_equal(numbers, _END * per_second))
    if not pc.any(is_far).as_py():
        return column, None
    return pc.if_else(is_far, None, column), pc.if_else(is_far, numbers.cast(pa.string()), None)


def _decode(table: str, name: str, column: pa.Array) -> pa.Array:
    """Return bytes as the UTF-8 text that they are."""
    try:
        return column.cast(pa.binary()).cast(pa.string())
    except pa.ArrowInvalid:
        example = next(value for value in column.drop_null().to_pylist() if not _is_text(value))
        raise DataError(
            f"{table}: column {name!r} holds bytes that are no UTF-8 text, such as {example[:16].hex()}; write ids and "
            "other values as text, such as the hexadecimal digits of bytes",
            code="events.bytes-not-text",
            path=table,
            column=name,
            example=example[:16].hex(),
        ) from None


def _is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True
