"""Find what to read of a table of BigQuery: its partitions or shards of the needed days, or a query's rows."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from endcap.errors import DataError
from endcap.sources.bigquery.client import Warehouse, open_warehouse
from endcap.sources.bigquery.columns import Selection, TableColumn, read_columns
from endcap.sources.bigquery.compile import (
    TableName,
    match_moments,
    match_partition,
    match_partitions,
    match_suffixes,
    quote,
    select_from,
    wrap_query,
)
from endcap.sources.bigquery.partitions import (
    ALL_DAYS,
    DAY,
    INGESTION,
    NULL,
    UNSTORED,
    Partitioning,
    Span,
    parse_partition,
    parse_shard,
)
from endcap.sources.bigquery.parts import ReadAllowance, TablePart
from endcap.sources.bigquery.tables import (
    READABLE,
    Partition,
    Table,
    describe_shards,
    describe_table,
    find_partitions,
    find_shards,
    read_clock,
)
from endcap.spec.bigquery_source import BigQuery


@dataclass(frozen=True)
class TableParts:
    """The parts of a source, and the names of skipped tables that have its prefix but no date."""

    parts: list[TablePart]
    skipped: list[str]


def find_table_parts(
    source: BigQuery, days: Span = ALL_DAYS, time: str | None = None, warehouse: Warehouse | None = None
) -> TableParts:
    """Find the parts of a source.

    Parameters
    ----------
    source
        The source's settings.
    days
        The times of the events that are needed.
    time
        The column of the events' times, if it is a plain column.
    warehouse
        BigQuery; by default the one that the environment names.

    Returns
    -------
    TableParts
        The parts in order of time. A table without partitions by time, a view or a query is one part.

    Raises
    ------
    DataError
        If there is no such table, or BigQuery refuses.
    UserError
        If Google's clients or credentials are not there.
    TransientError
        If BigQuery does not answer.
    """
    own = (source.table or "").split(".")
    warehouse = warehouse or open_warehouse(source.project, source.location, own[0] if len(own) == 3 else None)
    search = _PartSearch(source, days, time, warehouse)
    if source.query is not None:
        return TableParts([search.find_query(source.query)], [])
    name = TableName(*(own if len(own) == 3 else [warehouse.project, *own]))
    if name.table.endswith("*"):
        return search.find_shards(name)
    table = describe_table(warehouse, name)
    if table.kind not in READABLE:
        return TableParts([search.find_view(table)], [])
    if table.partitioning is None:
        return TableParts([search.find_whole(table)], [])
    return TableParts(search.find_partitions(table, table.partitioning), [])


@dataclass(frozen=True)
class _PartSearch:
    source: BigQuery
    days: Span
    time: str | None
    warehouse: Warehouse

    def find_whole(self, table: Table) -> TablePart:
        moment = read_clock(self.warehouse, str(table.name))
        allowance = self._budget(table.name)
        allowance.compile = functools.partial(_select_all, table)
        return self._add(
            allowance,
            TablePart(self.source, allowance, table.name, "", table.columns, "", moment, table.version, table.bytes),
        )

    def find_partitions(self, table: Table, partitioning: Partitioning) -> list[TablePart]:
        needed = self._widen(table.columns, partitioning)
        partitions = [
            partition
            for partition in find_partitions(self.warehouse, table.name)
            if _is_needed(partition, partitioning, needed)
        ]
        # Read after the list, so that no part has older rows than its version says.
        moment = read_clock(self.warehouse, str(table.name))
        allowance = self._budget(table.name)
        allowance.compile = functools.partial(_select_partitions, table, partitioning)
        for partition in partitions:
            self._add(
                allowance,
                TablePart(
                    self.source,
                    allowance,
                    table.name,
                    partition.id,
                    table.columns,
                    match_partition(partitioning, partition.id),
                    moment,
                    partition.version,
                    partition.bytes,
                ),
            )
        return list(allowance.parts)

    def find_shards(self, name: TableName) -> TableParts:
        prefix = name.table.removesuffix("*")
        names = find_shards(self.warehouse, name)
        spans = {shard: parse_shard(shard.table.removeprefix(prefix)) for shard in names}
        skipped = [str(shard) for shard, span in spans.items() if span is None]
        if len(skipped) == len(names):
            raise DataError(
                f"{name}: no table of this prefix ends in a date, such as {prefix}20260131; there are "
                f"{', '.join(shard.table for shard in names[:10])}",
                code="bigquery.table-missing",
                path=str(name),
                reason="no table of this prefix ends in a date",
            )
        needed = self.days.widen(DAY, self.source.lateness)
        tables = describe_shards(
            self.warehouse, [shard for shard, span in spans.items() if span is not None and span.overlaps(needed)]
        )
        moment = read_clock(self.warehouse, str(name))
        allowance = self._budget(name)
        allowance.compile = functools.partial(_select_shards, name, tables)
        for table in tables:
            suffix = table.name.table.removeprefix(prefix)
            self._add(
                allowance,
                TablePart(
                    self.source, allowance, table.name, suffix, table.columns, "", moment, table.version, table.bytes
                ),
            )
        return TableParts(list(allowance.parts), skipped)

    def find_view(self, view: Table) -> TablePart:
        from endcap.sources.bigquery.row_versions import find_table_version

        return self._find_rows(view.name, quote(str(view.name)), view.columns, find_table_version(self.warehouse, view))

    def find_query(self, query: str) -> TablePart:
        job = self.warehouse.estimate("the query of the source", query)
        columns = read_columns(field.to_api_repr() for field in job.schema or ())
        from endcap.sources.bigquery.row_versions import find_query_version

        return self._find_rows(None, wrap_query(query), columns, find_query_version(self.warehouse, query))

    def _find_rows(
        self,
        name: TableName | None,
        origin: str,
        columns: tuple[TableColumn, ...],
        version: tuple[Any, ...] | None,
    ) -> TablePart:
        """Find the rows that a query gives. version: says whether they changed; None: each run reads them."""
        moment = read_clock(self.warehouse, str(name or "the query of the source"))
        kind = next((column.type for column in columns if column.name == self.time and not column.repeated), "")
        days = self.days.widen(*_margins(kind))
        condition = match_moments(self.time, kind, days) if self.time and kind in _TIMES else ""
        allowance = self._budget(name)
        compile_ = functools.partial(select_from, origin, columns, condition=condition)
        allowance.compile = lambda selection, parts: compile_(selection)
        # Read after the version, so that the rows are no older than it says.
        version = version or (moment.isoformat(),)
        return self._add(
            allowance, TablePart(self.source, allowance, name, "", columns, condition, moment, version, 0, compile_)
        )

    def _budget(self, name: TableName | None) -> ReadAllowance:
        label = str(name or "the query of the source")
        return ReadAllowance(self.warehouse, label, self.source.max_bytes, lambda selection, parts: "")

    def _add(self, allowance: ReadAllowance, part: TablePart) -> TablePart:
        allowance.parts = [*allowance.parts, part]
        return part

    def _widen(self, columns: Sequence[TableColumn], partitioning: Partitioning) -> Span:
        """Return the times of the partitions that may have needed events."""
        if partitioning.column == self.time:
            return self.days.widen(*_margins(partitioning.type))
        return self.days.widen(DAY, self.source.lateness)


_TIMES = ("TIMESTAMP", "DATETIME", "DATE")


def _margins(kind: str) -> tuple[timedelta, timedelta]:
    """Return what to add to a span of UTC, for times of this type. Local times are at most a day off."""
    return (timedelta(0), timedelta(0)) if kind == "TIMESTAMP" else (DAY, DAY)


def _is_needed(partition: Partition, partitioning: Partitioning, needed: Span) -> bool:
    if partition.id == NULL:
        return True  # its rows have no time: they are bad, and counted
    if partition.id == UNSTORED:
        # Rows of columns' partitions come with the partition that they belong to.
        return partitioning.column == INGESTION
    span = parse_partition(partition.id)
    return span is not None and span.overlaps(needed)


def _select_all(table: Table, selection: Selection, parts: Sequence[TablePart]) -> str:
    return select_from(quote(str(table.name)), table.columns, selection)


def _select_partitions(
    table: Table, partitioning: Partitioning, selection: Selection, parts: Sequence[TablePart]
) -> str:
    condition = match_partitions(partitioning, [part.partition for part in parts])
    return select_from(quote(str(table.name)), table.columns, selection, condition)


def _select_shards(name: TableName, tables: Sequence[Table], selection: Selection, parts: Sequence[TablePart]) -> str:
    # A query of several tables has the columns of the newest.
    condition = match_suffixes(part.partition for part in parts)
    return select_from(quote(str(name)), tables[-1].columns, selection, condition)
