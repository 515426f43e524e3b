"""A quick pass over a column's bytes that spares SQL the check of each value.

Most columns of most logs hold plain ids and plain times alone. The pass costs a tenth of the SQL that reads values and
checks them. It never decides that a value is wrong: a column with a value that is not plain goes to SQL as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from endcap.sources.sql import quote_name

Bytes = NDArray[np.uint8]


class GlancedColumn(str):
    """A batch's column as SQL, with the result of the quick pass over it.

    name: the column's. plain: each value is an id as it stands (`endcap.sources.values.ids`), or null; whole: none is
    null. milliseconds: the column of the batch that has each value's time in epoch ms, where each is a plain time
    (`endcap.sources.values.times`); local: those times are of texts without an offset.
    """

    __slots__ = ("local", "milliseconds", "name", "plain", "whole")
    name: str
    plain: bool
    whole: bool
    milliseconds: str | None
    local: bool

    def __new__(
        cls,
        name: str,
        *,
        plain: bool = True,
        whole: bool = True,
        milliseconds: str | None = None,
        local: bool = False,
    ) -> GlancedColumn:
        column = super().__new__(cls, quote_name(name))
        column.name, column.plain, column.whole = name, plain, whole
        column.milliseconds, column.local = milliseconds, local
        return column


def is_plain(column: str) -> bool:
    """Return whether all values of a column are plain ids."""
    return isinstance(column, GlancedColumn) and column.plain


def find_milliseconds(column: str) -> GlancedColumn | None:
    """The column of a column's times, where all are read already."""
    name = isinstance(column, GlancedColumn) and column.milliseconds
    return GlancedColumn(name) if name else None


def make_byte_table(members: bytes) -> Any:
    """A table by which a column's bytes are looked up: true for the listed ones. bool [256]."""
    table = np.zeros(256, dtype=bool)
    table[list(members)] = True
    return table


def iterate_chunks(column: pa.ChunkedArray) -> Iterator[tuple[NDArray[np.int32], Bytes]]:
    """The chunks of a column of texts that have rows: offsets int32 [rows + 1], and the bytes that they cut."""
    for chunk in column.chunks:
        if len(chunk):
            _, offset_buffer, data = chunk.buffers()
            offsets = np.frombuffer(offset_buffer, np.int32, len(chunk) + 1, chunk.offset * 4)
            content = np.empty(0, np.uint8) if data is None else np.frombuffer(data, np.uint8)
            yield offsets - offsets[0], content[offsets[0] : offsets[-1]]
