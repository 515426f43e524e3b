"""Read ORC by stripes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa
from pyarrow import orc

from endcap.sources.files import SourceFile, convert_read_errors
from endcap.sources.formats.typed_table import TypedTable
from endcap.sources.opening import open_whole


def open_orc(file: SourceFile) -> TypedTable:
    """Open a file as a table. Raises DataError if it is damaged."""
    with convert_read_errors(file.name):
        reader = orc.ORCFile(open_whole(file))
        schema, stripes, rows_in_file = reader.schema, reader.nstripes, reader.nrows

    def read_blocks(names: Sequence[str], rows: int) -> Iterator[pa.RecordBatch]:
        # Without columns the reader gives no rows either.
        columns = list(names) or schema.names[:1]
        with convert_read_errors(file.name):
            for stripe in range(stripes):
                batch = reader.read_stripe(stripe, columns=columns)
                for start in range(0, batch.num_rows, rows):
                    yield batch.slice(start, rows)

    return TypedTable(file.name, schema, read_blocks, lambda: rows_in_file)
