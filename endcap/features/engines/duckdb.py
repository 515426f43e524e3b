"""DuckDB in this process, with bounded memory, behind Ibis."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import ibis
import ibis.expr.types as ir

from endcap.errors import StorageError
from endcap.sources.sql import quote_text

MEMORY_LIMIT = "3GB"
"""What DuckDB may hold before it spills. Python, Ibis and the Parquet writers need more: 4 GiB is for all together."""


class DuckDBTables:
    """The `TableEngine` of DuckDB."""

    def __init__(self, backend: Any) -> None:
        self.backend = backend
        self._kept: dict[str, ir.Table] = {}

    def read(self, files: list[Path]) -> ir.Table:
        """Read the rows of Parquet files of one schema."""
        return self.backend.read_parquet([str(file) for file in files], hive_partitioning=False)

    def read_events(self, files: list[Path]) -> ir.Table:
        """See `TableEngine`."""
        listed = ", ".join(quote_text(str(file)) for file in files)
        name = ibis.util.gen_name("endcap")
        self.backend.raw_sql(
            f"CREATE TEMP VIEW {name} AS SELECT * EXCLUDE (file, position), "  # noqa: S608 (quoted)
            "CASE WHEN position IS NOT NULL THEN (file_index::BIGINT << 40) | file_row_number END AS row "
            f"FROM read_parquet([{listed}], hive_partitioning = false)"
        )
        return self.backend.table(name)

    def keep(self, table: ir.Table) -> ir.Table:
        """Compute a table once; it keeps the order in which it was computed."""
        kept: ir.Table = self.backend.create_table(ibis.util.gen_name("endcap"), table, temp=True)
        self._kept[kept.get_name()] = kept
        return kept

    def drop(self, *tables: ir.Table) -> None:
        """Free the memory of kept tables."""
        for table in tables:
            # Ibis's own drop_table loses the name under the version of sqlglot that is pinned.
            self.backend.raw_sql(f"DROP TABLE {table.get_name()}")
            del self._kept[table.get_name()]

    def keep_only(self, *tables: ir.Table) -> None:
        """Free the memory of all other kept tables."""
        names = {table.get_name() for table in tables}
        self.drop(*[table for name, table in self._kept.items() if name not in names])

    def count(self, table: ir.Table) -> int:
        """Count the rows of a table."""
        return int(table.count().execute())

    def write(self, table: ir.Table, file: Path) -> None:
        """Write a Parquet file in the table's order.

        The second version of the format keeps numbers that ascend small. Looking for dictionaries of many values
        would cost more time than all the rest of the writing.
        """
        table.to_parquet(file, parquet_version="v2", compression="snappy", dictionary_size_limit=2000)


@contextlib.contextmanager
def open_tables(spill: Path) -> Iterator[DuckDBTables]:
    """Open an engine that spills to a folder what does not fit in memory. Raises StorageError if the disk is full
    too."""
    backend = ibis.duckdb.connect(memory_limit=MEMORY_LIMIT, temp_directory=str(spill))
    try:
        yield DuckDBTables(backend)
    except (duckdb.IOException, duckdb.OutOfMemoryException) as error:
        raise StorageError(
            f"features: the disk refused a read or a write ({error}); nothing was published. "
            f"Free space beside {spill}, or choose another store (--store)",
            code="features.disk-refused",
            path=str(spill),
            reason=str(error),
        ) from error
    finally:
        backend.disconnect()
