"""What the declared steps of features need of an engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import ibis.expr.types as ir

Order = Callable[[ir.Table], list[Any]]
"""Lists the keys that sort events of one time, in turn."""


class TableEngine(Protocol):
    """Keeps the intermediate tables of one computation; all are removed when it ends.

    Attributes
    ----------
    key_type
        The type of the keys that ids are replaced by.
    """

    key_type: str

    def hash_text(self, text: ir.Value) -> ir.Value:
        """Hash a text to a key; null to anything."""

    def mix_keys(self, first: ir.Value, second: ir.Value) -> ir.Value:
        """Make one key of two."""

    def read(self, files: list[Path]) -> ir.Table:
        """Read the rows of Parquet files of one schema."""

    def read_events(self, files: list[Path]) -> ir.Table:
        """Read the events of a snapshot, with `row` in place of `file` and `position`.

        `files` lie in the order of their rows within a day. `row` (int64) ascends in that order; it is null for an
        event without a position.
        """

    def keep(self, table: ir.Table) -> ir.Table:
        """Compute a table once; it keeps the order in which it was computed."""

    def number(self, table: ir.Table, order: Sequence[Any], columns: Sequence[str], **kind: str) -> ir.Table:
        """Number the rows of a table from 0 in an order, and keep these columns in that order.

        `kind` names the column of the number, which is one of `columns`, and its type.
        """

    def cut_runs(self, events: ir.Table, order: Order, gap: int) -> ir.Table:
        """Cut customers' events into sessions.

        Parameters
        ----------
        events
            customer (key) and time (epoch ms), and perhaps `event`: rows where it is false split pauses only, and are
            left out.
        order
            What orders events of one customer and time.
        gap
            A longer pause (ms) begins another session.

        Returns
        -------
        ir.Table
            The events with `session`, a key, without `event`.
        """

    def order_events(self, events: ir.Table, order: Order, *, places: bool) -> ir.Table:
        """Keep events in the order of session and time, events of one time in the given order.

        With `places`, add `position` in the session (int32, from 0) and `previous`, the time of the event before it or
        null.
        """

    def drop(self, *tables: ir.Table) -> None:
        """Free the memory of kept tables."""

    def keep_only(self, *tables: ir.Table) -> None:
        """Free the memory of all other kept tables."""

    def count(self, table: ir.Table) -> int:
        """Count the rows of a table."""

    def write(self, table: ir.Table, file: Path) -> None:
        """Write a table of a dataset in the table's order."""
