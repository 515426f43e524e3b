"""What BigQuery says of tables: their columns, their partitions and shards, and when each last changed."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from endcap.errors import DataError
from endcap.sources.bigquery.client import ONCE, Warehouse
from endcap.sources.bigquery.columns import TableColumn, read_columns
from endcap.sources.bigquery.compile import TableName, list_partitions
from endcap.sources.bigquery.partitions import INGESTION, Partitioning

READABLE = ("TABLE", "MATERIALIZED_VIEW", "SNAPSHOT", "CLONE")
"""Kinds of tables whose rows the Storage Read API gives. Of others, such as views, a query's results are read."""
_AT_ONCE = 8


@dataclass(frozen=True)
class Table:
    """A table, as the warehouse describes it.

    version: says whether it changed. definition: of a view, its GoogleSQL. is_streaming: whether it has rows that
    version does not count, because they are not stored yet.
    """

    name: TableName
    kind: str
    columns: tuple[TableColumn, ...]
    partitioning: Partitioning | None
    version: tuple[Any, ...]
    bytes: int
    definition: str | None = None
    is_streaming: bool = False


@dataclass(frozen=True)
class Partition:
    """A partition of a table. version: says whether it changed."""

    id: str
    version: tuple[Any, ...]
    bytes: int


def describe_table(warehouse: Warehouse, name: TableName) -> Table:
    """Describe a table or view. Raises DataError if there is none, or it must not be read."""
    answer = warehouse.call(str(name), lambda: warehouse.rest.get_table(str(name), **ONCE))
    document = answer.to_api_repr()
    columns = read_columns(document.get("schema", {}).get("fields", ()))
    partitioning = None
    if (by_time := document.get("timePartitioning")) is not None:
        key = by_time.get("field")
        kinds = {column.name: column.type for column in columns}
        partitioning = Partitioning(key or INGESTION, kinds.get(key, "TIMESTAMP"))
    version = (document.get("lastModifiedTime"), document.get("numRows"), document.get("numBytes"))
    view = document.get("view", {})
    return Table(
        name,
        document.get("type", "TABLE"),
        columns,
        partitioning,
        version,
        int(document.get("numBytes") or 0),
        # The client takes a view for one in legacy SQL if the answer does not say so.
        None if answer.view_use_legacy_sql else view.get("query"),
        "streamingBuffer" in document,
    )


def describe_shards(warehouse: Warehouse, names: Sequence[TableName]) -> list[Table]:
    """Describe several tables, in their order. Raises as `describe_table` does."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(lambda name: describe_table(warehouse, name), names))


def find_shards(warehouse: Warehouse, name: TableName) -> list[TableName]:
    """List the tables whose names begin as the name does up to its *, by name. Raises DataError if there is none."""
    prefix = name.table.removesuffix("*")
    dataset = f"{name.project}.{name.dataset}"
    tables = warehouse.call(str(name), lambda: list(warehouse.rest.list_tables(dataset, **ONCE, page_size=1000)))
    shards = sorted(table.table_id for table in tables if table.table_id.startswith(prefix))
    if not shards:
        raise DataError(
            f"{name}: the dataset has no table whose name begins with {prefix!r}; name an existing table",
            code="bigquery.table-missing",
            path=str(name),
            reason="no table has this prefix",
        )
    return [TableName(name.project, name.dataset, shard) for shard in shards]


def find_partitions(warehouse: Warehouse, name: TableName) -> list[Partition]:
    """List a table's partitions by name, with rows. Raises as `Warehouse.call` does."""
    rows = warehouse.list_rows(str(name), list_partitions(name))
    return [
        Partition(
            row["partition_id"],
            (_to_text(row["last_modified_time"]), row["total_rows"], row["total_logical_bytes"]),
            int(row["total_logical_bytes"] or 0),
        )
        for row in sorted(rows, key=lambda row: row["partition_id"] or "")
        if row["partition_id"]
    ]


def read_clock(warehouse: Warehouse, name: str) -> datetime:
    """Return the warehouse's time, at which a table can be read."""
    ((moment,),) = (row.values() for row in warehouse.list_rows(name, "SELECT CURRENT_TIMESTAMP() AS moment"))
    assert isinstance(moment, datetime)
    return moment


def _to_text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
