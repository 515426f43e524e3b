"""What Spark's executors do with a dataset's files: write the parts of a table, and join them.

Readers take one file for each table, so the parts, which executors write side by side, are joined by one of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from endcap.features.content_digest import TableDigest
from endcap.spark.failures import carry_errors
from endcap.spark.tasks import make_task_folder
from endcap.store.staging import StagedFiles, open_staged_files

ROW_GROUP = 122_880
"""Rows of a row group, as DuckDB has them."""
WRITTEN = "part long, described string"
"""Columns of what executors answer. `described`: JSON of ``rows``, the file as a manifest has it (``file``), and the
digests of its columns (``columns``)."""
Batches = Iterator[pa.RecordBatch]
Json = dict[str, Any]


class PartWriter:
    """Writes the rows of a partition as a file, and describes it (`WRITTEN`).

    A task that is tried again writes the same rows, and puts its file in the place of the first one's.

    Parameters
    ----------
    address
        The place where executors put files (`endcap.store.staging`).
    folder
        The name of a folder there for the parts.
    schema
        The table's.
    """

    def __init__(self, address: str, folder: str, schema: pa.Schema) -> None:
        self._address, self._folder, self._schema = address, folder, schema

    def __call__(self, batches: Batches) -> Batches:
        """Write the batches of a partition."""
        from pyspark import TaskContext

        context = TaskContext.get()
        assert context is not None
        part = context.partitionId()
        tables = _gather(batches, self._schema)
        first = next(tables, None)
        if first is not None:
            with carry_errors(), make_task_folder() as scratch:
                staged = open_staged_files(self._address, Path(scratch))
                name = name_part(self._folder, part)
                yield _answer(part, _write_file(staged, name, self._schema, first, tables))


class PartJoiner:
    """Joins the parts of a table, in their order, to its file, a row group in memory at a time (`WRITTEN`).

    The parts stay there: a task that is tried again needs them all.

    Parameters
    ----------
    address
        The place where executors put files.
    parts
        The names of the parts, in order.
    name
        The name of the table's file.
    """

    def __init__(self, address: str, parts: Sequence[str], name: str) -> None:
        self._address, self._parts, self._name = address, parts, name

    def __call__(self, batches: Batches) -> Batches:
        """Join the parts once, whatever the batches hold."""
        if sum(batch.num_rows for batch in batches):
            with carry_errors(), make_task_folder() as scratch:
                staged = open_staged_files(self._address, Path(scratch))
                groups = _read_groups(staged, self._parts, Path(scratch))
                first = next(groups)
                yield _answer(0, _write_file(staged, self._name, first.schema, first, groups))


def name_part(folder: str, part: int) -> str:
    """Name a part's file: the order of the names is that of the parts."""
    return f"{folder}/part-{part:09}.parquet"


def _answer(part: int, described: Json) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({"part": [part], "described": [json.dumps(described)]})


def _write_file(staged: StagedFiles, name: str, schema: pa.Schema, first: pa.Table, rest: Iterator[pa.Table]) -> Json:
    """Write tables as a file, which appears whole, and describe it."""
    digest, rows = TableDigest(schema), 0

    def write(file: Path) -> None:
        nonlocal rows
        with pq.ParquetWriter(file, schema, compression="snappy") as writer:
            table: pa.Table | None = first
            while table is not None:
                writer.write_table(table, row_group_size=ROW_GROUP)
                digest.update(table)
                rows += len(table)
                table = next(rest, None)

    described = staged.write(name, write)
    return {"rows": rows, "file": described, "columns": digest.list_digests()}


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


def _read_groups(staged: StagedFiles, parts: Sequence[str], scratch: Path) -> Iterator[pa.Table]:
    for part in parts:
        place = staged.fetch(part, scratch)
        with pq.ParquetFile(place) as file:
            for number in range(file.num_row_groups):
                yield file.read_row_group(number)
        if place.is_relative_to(scratch):  # a copy
            place.unlink()
