"""Read Parquet by blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from endcap.sources.files import SourceFile, convert_read_errors
from endcap.sources.formats.typed_table import TypedTable
from endcap.sources.opening import open_whole


def open_parquet(file: SourceFile) -> TypedTable:
    """Open a file as a table. Raises DataError if it is damaged."""
    with convert_read_errors(file.name):
        parquet = pq.ParquetFile(open_whole(file))

    def read_blocks(names: Sequence[str], rows: int) -> Iterator[pa.RecordBatch]:
        with convert_read_errors(file.name), parquet:
            yield from parquet.iter_batches(batch_size=rows, columns=list(names))

    return TypedTable(file.name, parquet.schema_arrow, read_blocks, lambda: parquet.metadata.num_rows)
