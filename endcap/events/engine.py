"""DuckDB as ingest uses it: bounded memory, spilling beside the work, one zone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb

from endcap.errors import DataError, StorageError
from endcap.events.plan import text

MEMORY = "1GB"


@contextlib.contextmanager
def engine(spill: Path, zone: str) -> Iterator[Any]:
    """A connection whose local times are in `zone`. Raises DataError: no such zone; StorageError: no room to spill."""
    with duckdb.connect(config={"memory_limit": MEMORY, "temp_directory": str(spill)}) as connection:
        connection.execute("SET enable_progress_bar = false")  # it would print into whatever output there is
        try:
            connection.execute(f"SET TimeZone = {text(zone)}")
        except duckdb.Error:
            raise DataError(
                f"events.time.zone: {zone!r} is no zone of the IANA data base; such as Europe/Berlin"
            ) from None
        try:
            yield connection
        except (duckdb.IOException, duckdb.OutOfMemoryException) as error:
            raise StorageError(
                f"cannot write below {spill.parent}: {error}; free space or choose another store"
            ) from error
