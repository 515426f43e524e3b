"""The columns of an artifact that this process has just made, from its own copy of the files."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from endcap.store import Store

Json = dict[str, Any]


def read_fields(address: str, store: Store) -> list[Json]:
    """Read the columns of an artifact's Parquet files: a field for each table, with the columns in it.

    Parts of a table in a folder of their own are one table; the first tells its columns.
    """
    import pyarrow.parquet as pq

    tables: dict[str, str] = {}
    for name in sorted(store.manifest(address)["files"]):
        path = PurePosixPath(name)
        if path.suffix == ".parquet":
            tables.setdefault(path.parts[0].removesuffix(".parquet"), name)
    if not tables:
        return []
    folder = store.fetch(address)
    return [
        {
            "name": table,
            "type": "table",
            "fields": [{"name": column.name, "type": str(column.type)} for column in pq.read_schema(folder / name)],
        }
        for table, name in tables.items()
    ]
