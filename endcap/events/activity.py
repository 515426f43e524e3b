"""A shopper's other activity: customer and time of rows whose types are not kept. Gaps that cut sessions use it."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from endcap.events.snapshot import ACTIVITY, ACTIVITY_FILE
from endcap.sources.digest import digest_rows
from endcap.sources.sql import quote_text

GROUP = 1 << 18
"""The number of rows that are collected and then written together."""


class ActivityWriter:
    """Write a snapshot's activity in reading order. Without any, there is no file."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / ACTIVITY_FILE
        self._writer: pq.ParquetWriter | None = None
        self._held: list[pa.Table] = []
        self._rows_held = 0
        self.rows = 0

    def __enter__(self) -> ActivityWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.close()

    def add(self, part: str, rows: pa.Table) -> None:
        """Add rows of a part, with their customer and time."""
        if rows.num_rows:
            columns = [rows["customer"], rows["time"], pa.repeat(part, rows.num_rows)]
            self._held.append(pa.table(columns, names=ACTIVITY.names).cast(ACTIVITY))
            self._rows_held += rows.num_rows
            if self._rows_held >= GROUP:
                self._write()

    def close(self) -> None:
        """Write the collected rows."""
        self._write()
        if self._writer is not None:
            self._writer.close()

    def _write(self) -> None:
        if not self._rows_held:
            return
        if self._writer is None:
            self._writer = pq.ParquetWriter(
                self._file,
                ACTIVITY,
                compression="zstd",
                compression_level=1,
                use_dictionary=["customer", "part"],
                # A dictionary of as many customers as a group has rows is still a dictionary.
                dictionary_pagesize_limit=32 << 20,
                column_encoding={"time": "DELTA_BINARY_PACKED"},
            )
        self._writer.write_table(pa.concat_tables(self._held), row_group_size=self._rows_held)
        self.rows += self._rows_held
        self._held, self._rows_held = [], 0


def summarize_activity(folder: Path, connection: Any) -> tuple[dict[str, int], str] | None:
    """Return the facts of a snapshot's activity (rows, bytes) and its fingerprint. None: there is no activity."""
    file = folder / ACTIVITY_FILE
    if not file.is_file():
        return None
    content, (rows,) = digest_rows(connection, f"read_parquet({quote_text(str(file))})", ACTIVITY.names, ["count(*)"])
    return {"rows": rows, "bytes": file.stat().st_size}, content
