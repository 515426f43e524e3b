"""What the declared steps of features need of an engine."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import ibis.expr.types as ir


class TableEngine(Protocol):
    """Keeps the intermediate tables of one computation; all are removed when it ends."""

    def read(self, files: list[Path]) -> ir.Table:
        """Read the rows of Parquet files of one schema."""

    def read_events(self, files: list[Path]) -> ir.Table:
        """Read the events of a snapshot, with `row` in place of `file` and `position`.

        `files` lie in the order of their rows within a day. `row` (int64) ascends in that order; it is null for an
        event without a position.
        """

    def keep(self, table: ir.Table) -> ir.Table:
        """Compute a table once; it keeps the order in which it was computed."""

    def drop(self, *tables: ir.Table) -> None:
        """Free the memory of kept tables."""

    def keep_only(self, *tables: ir.Table) -> None:
        """Free the memory of all other kept tables."""

    def count(self, table: ir.Table) -> int:
        """Count the rows of a table."""

    def write(self, table: ir.Table, file: Path) -> None:
        """Write a table of a dataset in the table's order."""
