"""DuckDB with bounded memory, a folder for spilling, and one time zone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import duckdb

from endcap.errors import DataError, StorageError
from endcap.sources.sql import quote_text

MEMORY = "1GB"
_NO_ROOM = (duckdb.IOException, duckdb.OutOfMemoryException)


@contextlib.contextmanager
def open_engine(spill: Path, zone: str) -> Iterator[Any]:
    """Open a connection whose local times are in a zone.

    Parameters
    ----------
    spill
        The folder for data that exceed the memory.
    zone
        A zone of the IANA database.

    Raises
    ------
    DataError
        If the zone does not exist.
    StorageError
        If there is no room to spill.
    """
    with duckdb.connect(config={"memory_limit": MEMORY, "temp_directory": str(spill)}) as connection:
        # A bar would print into whatever output there is. A notebook without ipywidgets has none, and refuses this.
        with contextlib.suppress(duckdb.InvalidInputException):
            connection.execute("SET enable_progress_bar = false")
        try:
            connection.execute(f"SET TimeZone = {quote_text(zone)}")
        except duckdb.Error:
            raise DataError(
                f"events.time.zone: {zone!r} is no zone of the IANA data base; such as Europe/Berlin",
                code="events.zone-unknown",
                found=zone,
            ) from None
        try:
            yield connection
        except _NO_ROOM as error:
            raise StorageError(
                f"cannot write below {spill.parent}: {error}; free space or choose another store",
                code="events.cannot-spill",
                path=str(spill.parent),
                reason=str(error),
            ) from error


def lock_engine(connection: Any, files: Iterable[str]) -> None:
    """Let statements of others read these files alone: no other file, no address, no variable of Python.

    Afterwards no statement can change a setting.
    """
    connection.execute("SET python_enable_replacements = false")
    connection.execute("SET autoinstall_known_extensions = false")
    connection.execute("SET autoload_known_extensions = false")
    connection.execute(f"SET allowed_paths = [{', '.join(map(quote_text, files))}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


@contextlib.contextmanager
def convert_engine_errors(name: str) -> Iterator[None]:
    """Convert the engine's errors about an input file's content into a DataError that names the file."""
    try:
        yield
    except _NO_ROOM:
        raise  # of the store's disk or of memory, not of the file
    except duckdb.Error as error:
        reason = str(error).partition("\n\nStack Trace")[0]
        raise DataError(
            f"{name}: holds values that cannot be read: {reason}; take them out or correct them",
            code="events.values-unreadable",
            path=name,
            reason=reason,
        ) from error
