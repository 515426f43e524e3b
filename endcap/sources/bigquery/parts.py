"""A source's table as parts, which are read like files: a partition or shard each, or a query's rows as a whole."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pyarrow as pa

from endcap.sources.bigquery.arrow import normalize
from endcap.sources.bigquery.client import Warehouse
from endcap.sources.bigquery.columns import (
    Selection,
    TableColumn,
    check_types,
    list_fields,
    make_arrow_schema,
    select_columns,
)
from endcap.sources.bigquery.compile import TableName
from endcap.sources.bigquery.errors import refuse_bytes
from endcap.sources.bigquery.read import ReadRequest, ReadSession
from endcap.sources.bigquery.results import write_results
from endcap.sources.formats.paths import list_roots, parse_path
from endcap.sources.formats.typed_table import TypedTable
from endcap.spec.bigquery_source import BigQuery
from endcap.store import fingerprint

FORMAT = "bigquery"


@dataclass
class ReadAllowance:
    """What one run may read of a source. A dry run counts the bytes before the first row is read.

    Attributes
    ----------
    warehouse
        Where to ask.
    name
        The table, view or query, for errors.
    limit
        The most bytes.
    compile
        Makes the query to count, from the needed columns and the parts to read.
    parts
        The parts that are read.
    """

    warehouse: Warehouse
    name: str
    limit: int
    compile: Callable[[Selection, Sequence[TablePart]], str]
    parts: Sequence[TablePart] = ()
    bytes: int | None = None
    """The bytes of the dry run; None before it."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def admit(self, selection: Selection) -> None:
        """Raise DataError if more bytes would be read than the limit (`bigquery.too-many-bytes`)."""
        with self._lock:
            if self.bytes is None:
                job = self.warehouse.estimate(self.name, self.compile(selection, self.parts))
                self.bytes = int(job.total_bytes_processed or 0)
                if self.bytes > self.limit:
                    refuse_bytes(self.name, self.bytes, self.limit)


@dataclass(frozen=True)
class TablePart:
    """A part of a table: the rows of a partition, of a shard, or all.

    Attributes
    ----------
    source
        The source's settings.
    allowance
        The limit that all parts of the source share.
    table
        The table, view or query's place.
    partition
        The partition or shard's name; empty: the part is all of the table.
    columns
        The table's columns.
    restriction
        The condition for its rows.
    moment
        The time at which it is read.
    version
        What the warehouse says of its last change.
    bytes
        Its size, as the warehouse has it.
    compile
        For a view or query, the query that selects the needed columns. None: the table is read without a query.
    """

    source: BigQuery
    allowance: ReadAllowance
    table: TableName | None
    partition: str
    columns: tuple[TableColumn, ...]
    restriction: str
    moment: datetime
    version: tuple[Any, ...]
    bytes: int
    compile: Callable[[Selection], str] | None = None
    reading: dict[str, Any] = field(default_factory=dict, compare=False)
    """How it was read: the `job` of its query, the `session`, and the `rows`. Empty: it was not read."""

    format = FORMAT
    compression = None
    has_places = False
    """The rows of a table have no order, so an event records no position."""
    is_kept_alone = True

    @property
    def name(self) -> str:
        """Its name in errors and facts."""
        return f"bigquery://{self.table or 'query'}" + (f"/{self.partition}" if self.partition else "")

    def digest(self) -> str:
        """Return a digest of what the warehouse says of the part's version, in hex."""
        return fingerprint(FORMAT, str(self.table), self.source.query, self.partition, self.restriction, self.version)

    def check_unchanged(self) -> None:
        """Do nothing: the part is read as it was at one moment, whatever is written meanwhile."""

    def facts(self) -> dict[str, Any]:
        """Return what a manifest says of the part."""
        return {
            "path": self.name,
            "bytes": self.bytes,
            "project": self.allowance.warehouse.project,
            "table": None if self.table is None else str(self.table),
            "partition": self.partition or None,
            "snapshot_time": self.moment.isoformat(),
            "estimated_bytes": self.allowance.bytes,
            "job": self.reading.get("job"),
            "session": self.reading.get("session"),
        }

    def open(self, requested: Iterable[str], *, keeps_numeric: bool = False) -> TypedTable:
        """Open the part as a table of typed columns. Raises DataError if a requested column's type cannot be read.

        keeps_numeric: whether values of NUMERIC stay decimals; otherwise they are text, as all decimals.
        """
        names = list(requested)
        selection = select_columns(self.columns, names)
        check_types(self.name, self.columns, selection)
        self.allowance.admit(selection)
        paths = [path for name in names if name not in selection for path in parse_path(name)]
        whole_json = {
            column.name
            for column in self.columns
            if column.type == "JSON" and not column.repeated and column.name not in list_roots(paths)
        }

        def read_blocks(columns: Sequence[str], rows: int) -> Iterator[pa.RecordBatch]:
            for block in join_batches(self._read(selection), rows):
                values = [
                    normalize(block.column(name), is_json=name in whole_json, keeps_numeric=keeps_numeric)
                    for name in columns
                ]
                yield pa.RecordBatch.from_arrays(values, names=list(columns))

        schema = make_arrow_schema(self.columns, keeps_numeric=keeps_numeric)
        return TypedTable(self.name, schema, read_blocks, lambda: self.reading["rows"])

    def _read(self, selection: Selection) -> Iterator[pa.RecordBatch]:
        warehouse = self.allowance.warehouse
        if self.compile is None:
            assert self.table is not None  # only a query has none
            fields = list_fields(selection) if warehouse.reads_fields else list(selection)
            yield from self._read_session(ReadRequest(self.table, fields, self.restriction, self.moment, self._streams))
            return
        with write_results(
            warehouse, self.name, self.compile(selection), self._find_dataset(), self.source.max_bytes
        ) as results:
            self.reading["job"] = results.job
            yield from self._read_session(ReadRequest(results.table, list(selection), "", None, self._streams))

    def _read_session(self, request: ReadRequest) -> Iterator[pa.RecordBatch]:
        session = ReadSession(self.allowance.warehouse, request)
        self.reading["session"] = session.name
        yield from session
        self.reading["rows"] = session.rows

    def _find_dataset(self) -> tuple[str, str] | None:
        if self.source.results is None:
            return None
        project, _, dataset = self.source.results.rpartition(".")
        return project or self.allowance.warehouse.project, dataset

    @property
    def _streams(self) -> int:
        return self.source.streams


def join_batches(batches: Iterable[pa.RecordBatch], rows: int) -> Iterator[pa.RecordBatch]:
    """Yield blocks of at most so many rows, of small messages together and of large ones in pieces."""
    waiting: list[pa.RecordBatch] = []
    count = 0
    for batch in batches:
        for start in range(0, batch.num_rows, rows):
            piece = batch.slice(start, rows)
            if waiting and count + piece.num_rows > rows:
                yield pa.concat_batches(waiting)
                waiting, count = [], 0
            waiting.append(piece)
            count += piece.num_rows
    if waiting:
        yield pa.concat_batches(waiting)
