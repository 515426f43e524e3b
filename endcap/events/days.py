"""Write events to Parquet by day in bounded memory, even if days come mixed."""

from __future__ import annotations

import itertools
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from endcap.events.snapshot import EVENTS
from endcap.sources.sql import quote_text

DAY = 86_400_000
BUDGET = 128 << 20


class DayWriter:
    """Collect rows up to BUDGET bytes, then write them as one part of each of their days.

    One such write goes on beside the reading of what comes next. Leaving the block ends it; `close` writes the rest.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._tables: list[pa.Table] = []
        self._bytes = self._parts = 0
        self._thread = ThreadPoolExecutor(1)
        self._writing: Future[None] | None = None

    def __enter__(self) -> DayWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self._thread.shutdown()

    def add(self, table: pa.Table) -> None:
        """Add rows of the schema EVENTS, in any order of days."""
        self._tables.append(table)
        self._bytes += table.nbytes
        if self._bytes >= BUDGET:
            self._flush()

    def close(self) -> None:
        """Write the collected rows. Raises OSError if this or an earlier write failed."""
        self._flush()
        self._wait()

    def _flush(self) -> None:
        self._wait()
        if self._tables:
            self._writing = self._thread.submit(
                _write_day_parts, self._tables, self.folder, f"part-{self._parts}.parquet"
            )
            self._tables, self._bytes, self._parts = [], 0, self._parts + 1

    def _wait(self) -> None:
        if self._writing is not None:
            self._writing.result()
            self._writing = None


def _write_day_parts(tables: list[pa.Table], folder: Path, name: str) -> None:
    table = pa.concat_tables(tables)
    tables.clear()
    days = (table.column("time").to_numpy() // DAY).astype(np.int32)
    if (days[1:] < days[:-1]).any():
        order = np.argsort(days, kind="stable")
        table, days = table.combine_chunks().take(pa.array(order)), days[order]
    cuts = [0, *(np.flatnonzero(np.diff(days)) + 1).tolist(), len(days)]
    for start, end in itertools.pairwise(cuts):
        day = folder / f"day={np.datetime64(int(days[start]), 'D')}"
        day.mkdir(parents=True, exist_ok=True)
        pq.write_table(
            table.slice(start, end - start),
            day / name,
            compression="zstd",
            compression_level=1,
            use_dictionary=[field.name for field in EVENTS if field.type == pa.string()],
            column_encoding={"time": "DELTA_BINARY_PACKED", "row": "DELTA_BINARY_PACKED"},
        )


def drop_duplicates(folder: Path, connection: Any) -> None:
    """Keep the first of rows that are equal in all but `row`. Equal rows are of one day, so this goes day by day."""
    columns = ", ".join(name for name in EVENTS.names if name != "row")
    for day in sorted(folder.iterdir()):
        parts = sorted(day.iterdir())
        remaining = day / "kept.parquet"
        connection.execute(
            f"COPY (SELECT * FROM read_parquet({[str(part) for part in parts]}, hive_partitioning = false) "  # noqa: S608
            f"QUALIFY row_number() OVER (PARTITION BY {columns} ORDER BY row) = 1 ORDER BY row) "
            f"TO {quote_text(str(remaining))} (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1)"
        ).fetchall()
        for part in parts:
            part.unlink()
        remaining.rename(day / "part-0.parquet")
