"""How Spark's executors read files of the store's artifacts: each fetches what it reads, and keeps the copy.

So Spark itself needs neither a connector to the store nor its credentials, and nothing passes through the step.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from endcap.spark.executor_store import ExecutorStore
from endcap.spark.failures import carry_errors

if TYPE_CHECKING:
    from pyspark.sql.connect.session import SparkSession

ROWS = 1 << 16
"""Rows in memory at once."""
ROW = "row"
FILE_BITS = 40
"""`row` has the number of its file above these bits, and its number in the file in them."""
Batches = Iterator[pa.RecordBatch]
_File = tuple[int, str]
"""A file's number among all that are read, and its name in its artifact."""
_LARGE = {pa.large_string(): pa.string(), pa.large_binary(): pa.binary()}


def read_stored(
    session: SparkSession, store: ExecutorStore, files: Sequence[Path], partitions: int, schema: pa.Schema | None = None
) -> Any:
    """Have executors read Parquet files of artifacts.

    Parameters
    ----------
    session
        The session.
    store
        The store.
    files
        The files, by their paths in the store: kind, key and name.
    partitions
        At most so many tasks read. Files of one artifact are read by one of them.
    schema
        The files' schema. None: an executor reads it from the first file.

    Returns
    -------
    pyspark.sql.connect.dataframe.DataFrame
        The rows of all files, with a column `row` (long): the number of the file in `files`, and that of the row.
    """
    from pyspark.sql.pandas.types import from_arrow_schema

    units = _group_by_artifact(files)
    if schema is None:
        reader = StoredSchema(store, units[0][0], units[0][1][0][1])
        ((text,),) = session.range(1, numPartitions=1).mapInArrow(reader, "schema string").collect()
        schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text)))
    plain = _simplify(schema)
    kinds = from_arrow_schema(plain.append(pa.field(ROW, pa.int64())))
    numbers = session.range(0, len(units), 1, max(1, min(len(units), partitions)))
    return numbers.mapInArrow(StoredRows(store, units, plain), kinds)


class StoredRows:
    """Reads files of artifacts, for each of the numbers that it is given.

    Parameters
    ----------
    store
        The store.
    units
        Artifacts, each by its address with the files that are read of it.
    schema
        The columns that are read, in the types that Spark is told.
    """

    def __init__(self, store: ExecutorStore, units: Sequence[tuple[str, Sequence[_File]]], schema: pa.Schema) -> None:
        self._store, self._units, self._schema = store, units, schema

    def __call__(self, batches: Batches) -> Batches:
        """Read the artifacts whose numbers the batches hold."""
        for batch in batches:
            for number in batch.column(0).to_pylist():
                address, files = self._units[number]
                with carry_errors():
                    folder = self._store.open().fetch(address, names=[name for _, name in files])
                for place, name in files:
                    yield from self._read(folder / name, place << FILE_BITS)

    def _read(self, path: Path, begin: int) -> Batches:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(ROWS, columns=self._schema.names):
                rows = pa.Table.from_batches([batch]).select(self._schema.names).cast(self._schema)
                numbers = pa.array(np.arange(begin, begin + len(rows), dtype=np.int64))
                yield from rows.append_column(ROW, numbers).combine_chunks().to_batches()
                begin += len(rows)


class StoredSchema:
    """Reads the schema of a file of an artifact: as base64 of Arrow's message."""

    def __init__(self, store: ExecutorStore, address: str, name: str) -> None:
        self._store, self._address, self._name = store, address, name

    def __call__(self, batches: Batches) -> Batches:
        """Read it once, whatever the batches hold."""
        if sum(batch.num_rows for batch in batches):
            with carry_errors():
                folder = self._store.open().fetch(self._address, names=[self._name])
            schema = pq.read_schema(folder / self._name)
            yield pa.RecordBatch.from_pydict({"schema": [base64.b64encode(schema.serialize()).decode()]})


def _group_by_artifact(files: Sequence[Path]) -> list[tuple[str, list[_File]]]:
    units: dict[str, list[_File]] = {}
    for number, file in enumerate(files):
        parts = PurePosixPath(file).parts
        units.setdefault("/".join(parts[:3]), []).append((number, "/".join(parts[3:])))
    return list(units.items())


def _simplify(schema: pa.Schema) -> pa.Schema:
    """Give columns the types in which Spark takes them: texts without dictionaries and with narrow offsets."""
    fields = []
    for field in schema:
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        fields.append(pa.field(field.name, _LARGE.get(kind, kind)))
    return pa.schema(fields)
