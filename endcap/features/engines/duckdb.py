"""DuckDB in this process, with bounded memory, behind Ibis."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import ibis
import ibis.expr.types as ir
from ibis.expr import datatypes as dt

from endcap.features.disk_errors import make_disk_error
from endcap.features.engines.table_engine import Order
from endcap.sources.sql import quote_text

MEMORY_LIMIT = "3GB"
"""What DuckDB may hold before it spills. Python, Ibis and the Parquet writers need more: 4 GiB is for all together."""


@ibis.udf.scalar.builtin(name="hash", signature=((dt.string,), dt.uint64))  # type: ignore[untyped-decorator]
def _hash(value: str) -> int:  # type: ignore[empty-body]
    """DuckDB's own hash. Ibis's `hash()` casts its result by way of a bit string, row by row."""


@ibis.udf.scalar.builtin(name="hash", signature=((dt.uint64, dt.uint64), dt.uint64))  # type: ignore[untyped-decorator]
def _mix(first: int, second: int) -> int:  # type: ignore[empty-body]
    """The same of two keys."""


class DuckDBTables:
    """The `TableEngine` of DuckDB."""

    key_type = "uint64"

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

    def hash_text(self, text: ir.Value) -> ir.Value:
        """See `TableEngine`."""
        return _hash(text)

    def mix_keys(self, first: ir.Value, second: ir.Value) -> ir.Value:
        """See `TableEngine`."""
        return _mix(first, second)

    def number(self, table: ir.Table, order: Sequence[Any], columns: Sequence[str], **kind: str) -> ir.Table:
        """See `TableEngine`."""
        numbers = {name: ibis.row_number().cast(type_) for name, type_ in kind.items()}
        return self.keep(table.order_by(*order).mutate(**numbers).select(*columns))

    def cut_runs(self, events: ir.Table, order: Order, gap: int) -> ir.Table:
        """See `TableEngine`.

        Sorted once, the rest are running values over neighbouring rows, which are far cheaper than a window for each.
        """
        ordered = self.keep(events.order_by("customer", "time", *order(events)))
        apart = ordered.mutate(
            pause=ordered.time - ordered.time.lag(), other=ordered.customer != ordered.customer.lag()
        )
        cut = (apart.other | (apart.pause > gap)).fill_null(True)
        numbered = apart.mutate(session=cut.cast("int64").sum().over(ibis.cumulative_window()).cast("uint64"))
        if "event" in events.columns:
            numbered = numbered.filter(numbered.event).drop("event")
        runs = self.keep(numbered.drop("pause", "other"))
        self.drop(ordered)
        return runs

    def order_events(self, events: ir.Table, order: Order, *, places: bool) -> ir.Table:
        """See `TableEngine`. The table is in order: running values need no second sort, windows would."""
        ordered = self.keep(events.order_by("session", "time", *order(events)))
        if not places:
            return ordered
        number = ibis.row_number()
        first = (ordered.session != ordered.session.lag()).fill_null(True)
        marked = ordered.mutate(number=number, first=first, before=ordered.time.lag())
        begin = ibis.ifelse(marked.first, marked.number, None).max().over(ibis.cumulative_window())
        previous = ibis.ifelse(marked.first, None, marked.before)
        placed = marked.mutate(position=(marked.number - begin).cast("int32"), previous=previous)
        # Kept, since running values take one thread: what comes after them then has all.
        kept = self.keep(placed.drop("number", "first", "before"))
        self.drop(ordered)
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
        raise make_disk_error(spill, error) from error
    finally:
        backend.disconnect()
