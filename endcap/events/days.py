"""Write rows to Parquet by day in bounded memory, even if days come mixed, and digest each day's rows in order."""

from __future__ import annotations

import hashlib
import itertools
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from endcap.events.snapshot import EVENTS, PLACE
from endcap.sources.sql import quote_text

DAY = 86_400_000
BUDGET = 128 << 20
SMALL = 1 << 16
"""Tables of fewer rows are copied: a query's buffers grow by doubling, and many small results would hold several times
the memory of their rows."""
DAY_PREFIX = "day="
GROUP = 1 << 18
"""Rows of a group of a file that is written anew."""
_NO_NUMBER = -(2**63)
"""Stands for a null among the numbers of a digest."""
_DICTIONARY_BYTES = 32 << 20
"""How large a dictionary of texts may become. Features read dictionaries as they are, in half the time of texts."""


def _list_settings(schema: pa.Schema) -> dict[str, Any]:
    """List how Parquet keeps columns of texts and integers."""
    return {
        "compression": "zstd",
        "compression_level": 1,
        "use_dictionary": [field.name for field in schema if field.type == pa.string()],
        "column_encoding": {field.name: "DELTA_BINARY_PACKED" for field in schema if field.type != pa.string()},
        "dictionary_pagesize_limit": _DICTIONARY_BYTES,
    }


class OrderedDigest:
    """A digest of rows in their order, whatever the batches that they come in."""

    def __init__(self) -> None:
        self._columns: defaultdict[str, Any] = defaultdict(hashlib.blake2b)

    def add(self, rows: pa.Table) -> None:
        """Add rows; all batches have the same columns, of texts and integers."""
        for name, column in zip(rows.schema.names, rows.columns, strict=True):
            for chunk in column.chunks:
                if pa.types.is_string(chunk.type):
                    self._add_texts(name, chunk)
                else:
                    numbers = pc.fill_null(chunk.cast(pa.int64()), _NO_NUMBER)
                    self._columns[name].update(numbers.to_numpy())

    def _add_texts(self, name: str, texts: pa.StringArray) -> None:
        lengths = pc.fill_null(pc.binary_length(texts), -1).to_numpy().astype(np.int32, copy=False)
        self._columns[f"{name}:lengths"].update(lengths)
        _, offsets, data = pc.fill_null(texts, "").buffers() if texts.null_count else texts.buffers()
        if data is not None and len(lengths):
            shift = 0 if texts.null_count else texts.offset
            ends = np.frombuffer(offsets, np.int32)[shift : shift + len(texts) + 1]
            self._columns[name].update(memoryview(data)[ends[0] : ends[-1]])

    def hexdigest(self) -> str:
        """Return 32 hex digits."""
        whole = hashlib.blake2b(digest_size=16)
        for name in sorted(self._columns):
            whole.update(name.encode() + self._columns[name].digest())
        return whole.hexdigest()


class DayWriter:
    """Collect rows up to `budget` bytes, then write them as one part of each of their days.

    One such write goes on beside the reading of what comes next. Leaving the block ends it; `close` writes the rest.

    Parameters
    ----------
    folder
        Gets ``day=YYYY-MM-DD/part-N.parquet``. Without a row, there is no folder.
    schema
        Of the rows; `time` tells the day (epoch ms, UTC).
    budget
        Bytes of rows that are collected. None: BUDGET.
    """

    def __init__(self, folder: Path, schema: pa.Schema = EVENTS, budget: int | None = None) -> None:
        self.folder = folder
        self.schema = schema
        self.rows = 0
        self._budget = BUDGET if budget is None else budget
        self._tables: list[pa.Table] = []
        self._bytes = self._parts = 0
        self._thread = ThreadPoolExecutor(1)
        self._writing: Future[None] | None = None
        self._digests: defaultdict[str, OrderedDigest] = defaultdict(OrderedDigest)

    def __enter__(self) -> DayWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self._thread.shutdown()

    def add(self, table: pa.Table) -> None:
        """Add rows of the schema, in any order of days."""
        self.rows += table.num_rows
        if table.num_rows < SMALL:
            table = table.take(pa.array(np.arange(table.num_rows)))
        self._tables.append(table)
        self._bytes += table.nbytes
        if self._bytes >= self._budget:
            self._flush()

    def close(self) -> dict[str, str]:
        """Write the collected rows, and return the ordered digest of each day's rows, by its name.

        Raises OSError if this or an earlier write failed.
        """
        self._flush()
        self._wait()
        return {day: digest.hexdigest() for day, digest in sorted(self._digests.items())}

    def _flush(self) -> None:
        self._wait()
        if self._tables:
            self._writing = self._thread.submit(self._write_parts, self._tables, f"part-{self._parts}.parquet")
            self._tables, self._bytes, self._parts = [], 0, self._parts + 1

    def _wait(self) -> None:
        if self._writing is not None:
            self._writing.result()
            self._writing = None

    def _write_parts(self, tables: list[pa.Table], name: str) -> None:
        table = pa.concat_tables(tables)
        tables.clear()
        days = (table.column("time").to_numpy() // DAY).astype(np.int32)
        if (days[1:] < days[:-1]).any():
            order = np.argsort(days, kind="stable")
            table, days = table.combine_chunks().take(pa.array(order)), days[order]
        cuts = [0, *(np.flatnonzero(np.diff(days)) + 1).tolist(), len(days)]
        for start, end in itertools.pairwise(cuts if len(days) else []):
            day = format_day(int(days[start]))
            self._digests[day].add(table.slice(start, end - start))
            folder = self.folder / f"{DAY_PREFIX}{day}"
            folder.mkdir(parents=True, exist_ok=True)
            pq.write_table(table.slice(start, end - start), folder / name, **_list_settings(self.schema))


def format_day(number: int) -> str:
    """Return the name of a day by its number since 1970."""
    return str(np.datetime64(number, "D"))


def drop_duplicates(folder: Path, connection: Any) -> dict[str, str]:
    """Keep the first of rows that are equal in all but their places. Equal rows are of one day, so this goes by day.

    Returns the ordered digest of what is left of each day, by its name.
    """
    ordered = {}
    for day in sorted(folder.iterdir()):
        parts = sorted(day.iterdir(), key=lambda part: int(part.stem.rpartition("-")[2]))
        distinct = day / ".distinct"
        distinct.mkdir()
        ordered[day.name.removeprefix(DAY_PREFIX)] = write_distinct_rows(parts, distinct, connection)
        for part in parts:
            part.unlink()
        (distinct / "part-0.parquet").rename(day / "part-0.parquet")
        distinct.rmdir()
    return ordered


def write_distinct_rows(
    parts: Sequence[Path], folder: Path, connection: Any, first_files: Sequence[int] | None = None
) -> str:
    """Write the first of equal rows of a day's files as ``part-0.parquet``, and return the ordered digest of all.

    Parameters
    ----------
    parts
        The files, in reading order.
    folder
        The folder to write to.
    connection
        A DuckDB connection.
    first_files
        For each of them a number that is added to its rows' `file`. None: 0.
    """
    columns = ", ".join(name for name in EVENTS.names if name not in PLACE)
    listed = ", ".join(quote_text(str(part)) for part in parts)
    added = ", ".join(map(str, first_files or [0] * len(parts)))
    place = "file_index, file_row_number"
    distinct = connection.sql(
        f"SELECT * REPLACE (file + [{added}][file_index::BIGINT + 1] AS file) "  # noqa: S608 (quoted, and our own names)
        f"FROM read_parquet([{listed}], hive_partitioning = false) "
        f"QUALIFY row_number() OVER (PARTITION BY {columns} ORDER BY {place}) = 1 ORDER BY {place}"
    )
    digest = OrderedDigest()
    with pq.ParquetWriter(folder / "part-0.parquet", EVENTS, **_list_settings(EVENTS)) as writer:
        for batch in distinct.to_arrow_reader(GROUP):
            rows = pa.Table.from_batches([batch]).cast(EVENTS)
            digest.add(rows)
            writer.write_table(rows)
    return digest.hexdigest()
