"""What Spark's executors do with a dataset's files: write the parts of a table, join them, digest what is there.

Readers take one file for each table, so the parts, which executors write side by side, are joined by one of them.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from endcap.features.content_digest import digest_content

ROW_GROUP = 122_880
"""Rows of a row group, as DuckDB has them."""
Batches = Iterator[pa.RecordBatch]


class PartWriter:
    """Writes the rows of a partition as a file, and returns the partition's number and rows.

    A task that is tried again writes the same rows, and puts its file in the place of the first one's.

    Parameters
    ----------
    folder
        Where the parts lie, seen by all executors.
    schema
        The table's.
    """

    def __init__(self, folder: str, schema: pa.Schema) -> None:
        self._folder, self._schema = folder, schema

    def __call__(self, batches: Batches) -> Batches:
        """Write the batches of a partition."""
        from pyspark import TaskContext

        context = TaskContext.get()
        assert context is not None
        part = context.partitionId()
        tables = _gather(batches, self._schema)
        first = next(tables, None)
        if first is not None:
            rows = _write_file(Path(self._folder) / name_part(part), self._schema, first, tables)
            yield pa.RecordBatch.from_pydict({"part": [part], "rows": [rows]})


class PartJoiner:
    """Joins the parts of a table, in their order, to its file, a row group in memory at a time.

    Parameters
    ----------
    folder
        Where the parts lie. They are removed.
    file
        The table's file.
    """

    def __init__(self, folder: str, file: str) -> None:
        self._folder, self._file = folder, file

    def __call__(self, batches: Batches) -> Batches:
        """Join the parts once, whatever the batches hold."""
        rows = sum(batch.num_rows for batch in batches)
        if rows:
            parts = sorted(Path(self._folder).glob("part-*.parquet"))
            groups = _read_groups(parts)
            first = next(groups)
            written = _write_file(Path(self._file), first.schema, first, groups)
            for part in parts:
                part.unlink()
            yield pa.RecordBatch.from_pydict({"rows": [written]})


class ContentDigester:
    """Computes the content digest of a dataset's folder (`digest_content`)."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def __call__(self, batches: Batches) -> Batches:
        """Compute it once, whatever the batches hold."""
        if sum(batch.num_rows for batch in batches):
            yield pa.RecordBatch.from_pydict({"digest": [digest_content(Path(self._folder))]})


def name_part(part: int) -> str:
    """Name a part's file: the order of the names is that of the parts."""
    return f"part-{part:09}.parquet"


def _write_file(file: Path, schema: pa.Schema, first: pa.Table, rest: Iterator[pa.Table]) -> int:
    """Write tables as a file, which appears whole, and return its rows."""
    unfinished = file.with_name(f".{uuid.uuid4().hex}")
    rows = 0
    try:
        with pq.ParquetWriter(unfinished, schema, compression="snappy") as writer:
            table: pa.Table | None = first
            while table is not None:
                writer.write_table(table, row_group_size=ROW_GROUP)
                rows += len(table)
                table = next(rest, None)
        unfinished.replace(file)
    finally:
        unfinished.unlink(missing_ok=True)
    return rows


def _gather(batches: Batches, schema: pa.Schema) -> Iterator[pa.Table]:
    """Yield tables of about a row group each."""
    gathered: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        gathered.append(batch)
        rows += batch.num_rows
        if rows >= ROW_GROUP:
            yield pa.Table.from_batches(gathered).cast(schema)
            gathered, rows = [], 0
    if rows:
        yield pa.Table.from_batches(gathered).cast(schema)


def _read_groups(parts: list[Path]) -> Iterator[pa.Table]:
    for part in parts:
        with pq.ParquetFile(part) as file:
            for number in range(file.num_row_groups):
                yield file.read_row_group(number)
