"""The SQL that is asked of BigQuery. Nothing here asks the warehouse."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from endcap.sources.bigquery.columns import Selection, TableColumn
from endcap.sources.bigquery.partitions import (
    DAY,
    INGESTION,
    NULL,
    UNSTORED,
    Partitioning,
    Span,
    merge_spans,
    parse_partition,
)

SUFFIX = "_TABLE_SUFFIX"


@dataclass(frozen=True)
class TableName:
    """The full name of a table or view. A table that ends in * stands for all tables that begin so."""

    project: str
    dataset: str
    table: str

    def __str__(self) -> str:
        return f"{self.project}.{self.dataset}.{self.table}"

    @property
    def path(self) -> str:
        """The name as a resource of the Storage Read API."""
        return f"projects/{self.project}/datasets/{self.dataset}/tables/{self.table}"


def quote(name: str) -> str:
    """Quote an identifier of GoogleSQL."""
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def quote_string(text: str) -> str:
    """Quote a text of GoogleSQL."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n").replace("\r", "\\r")
    return f"'{escaped}'"


def select_from(origin: str, columns: Sequence[TableColumn], selection: Selection, condition: str = "") -> str:
    """Return the query that selects the needed columns, with the needed fields of structs alone.

    Parameters
    ----------
    origin
        SQL of what to select from.
    columns, selection
        Its columns, and those of them that are needed.
    condition
        SQL of the rows that are needed. Empty: all.
    """
    by_name = {column.name: column for column in columns}
    chosen = [
        quote(name) if fields is None else f"{_rebuild(quote(name), by_name[name], fields, 0)} AS {quote(name)}"
        for name, fields in selection.items()
    ]
    where = f"\nWHERE {condition}" if condition else ""
    return f"SELECT {', '.join(chosen) or '1'}\nFROM {origin}{where}"


def wrap_query(query: str) -> str:
    """Return a query as something to select from."""
    return f"(\n{query.strip().rstrip(';')}\n)"


def create_results(name: TableName, query: str, hours: int) -> str:
    """Return the statement that keeps a query's rows in a table, which BigQuery removes after some hours."""
    expires = f"TIMESTAMP_ADD(CURRENT_TIMESTAMP(), INTERVAL {hours} HOUR)"
    return f"CREATE TABLE {quote(str(name))}\nOPTIONS (expiration_timestamp = {expires})\nAS {query}"


def list_partitions(name: TableName) -> str:
    """Return the query for the partitions of a table, each with the time of its last change."""
    view = quote(f"{name.project}.{name.dataset}.INFORMATION_SCHEMA.PARTITIONS")
    columns = "partition_id, total_rows, total_logical_bytes, last_modified_time"
    return f"SELECT {columns}\nFROM {view}\nWHERE table_name = {quote_string(name.table)}"


def match_partition(partitioning: Partitioning, partition: str) -> str:
    """Return the condition for the rows of a partition, as of `list_partitions`."""
    column = _name_column(partitioning)
    if partition == NULL or (partition == UNSTORED and partitioning.column == INGESTION):
        return f"{column} IS NULL"
    span = parse_partition(partition)
    assert span is not None  # partitions of other kinds are not chosen
    return match_span(column, partitioning.type, span)


def match_partitions(partitioning: Partitioning, partitions: Iterable[str]) -> str:
    """Return the condition for the rows of several partitions. Neighbours share a part of it."""
    spans, conditions = [], []
    for partition in partitions:
        span = parse_partition(partition)
        if span is None:
            conditions.append(match_partition(partitioning, partition))
        else:
            spans.append(span)
    column = _name_column(partitioning)
    return join_any([*(match_span(column, partitioning.type, span) for span in merge_spans(spans)), *conditions])


def match_suffixes(suffixes: Iterable[str]) -> str:
    """Return the condition for the tables of these days, of a date-sharded table."""
    parts = []
    for span in merge_spans(span for suffix in suffixes if (span := parse_partition(suffix))):
        assert span.start is not None  # each suffix is a day
        assert span.end is not None
        first, last = (quote_string(day.strftime("%Y%m%d")) for day in (span.start, span.end - DAY))
        parts.append(f"{SUFFIX} = {first}" if first == last else f"{SUFFIX} BETWEEN {first} AND {last}")
    return join_any(parts)


def match_span(column: str, kind: str, span: Span) -> str:
    """Return the condition for a span of time. column: its SQL; kind: TIMESTAMP, DATETIME or DATE."""
    parts = []
    if span.start is not None:
        parts.append(f"{column} >= {_format_moment(kind, span.start)}")
    if span.end is not None:
        # A day that has begun counts as a whole.
        end = span.end if kind != "DATE" else span.end + DAY - timedelta(microseconds=1)
        parts.append(f"{column} < {_format_moment(kind, end)}")
    return " AND ".join(parts)


def match_moments(column: str, kind: str, span: Span) -> str:
    """Return the condition for the rows of a span, and for those without a time, which are bad and must be counted."""
    inside = match_span(quote(column), kind, span)
    return f"({inside}) OR {quote(column)} IS NULL" if inside else ""


def join_any(conditions: Sequence[str]) -> str:
    """Join conditions of which one must hold."""
    return conditions[0] if len(conditions) == 1 else " OR ".join(f"({condition})" for condition in conditions)


def _name_column(partitioning: Partitioning) -> str:
    return INGESTION if partitioning.column == INGESTION else quote(partitioning.column)


def _format_moment(kind: str, moment: datetime) -> str:
    match kind:
        case "DATE":
            return f"DATE '{moment:%Y-%m-%d}'"
        case "DATETIME":
            return f"DATETIME '{moment:%Y-%m-%d %H:%M:%S}'"
        case _:
            return f"TIMESTAMP '{moment:%Y-%m-%d %H:%M:%S}+00:00'"


def _rebuild(value: str, column: TableColumn, fields: Mapping[str, Any], depth: int) -> str:
    """Return SQL of a struct, or an array of structs, with some of its fields."""
    by_name = {field.name: field for field in column.fields}

    def of_struct(struct: str) -> list[str]:
        return [
            f"{place if inner is None else _rebuild(place, by_name[name], inner, depth + 1)} AS {quote(name)}"
            for name, inner in fields.items()
            if (place := f"{struct}.{quote(name)}")
        ]

    if column.repeated:
        element = f"e{depth}"
        # In the order of the array, which is the order of the events that it becomes.
        chosen, place = ", ".join(of_struct(element)), f"o{depth}"
        elements = f"UNNEST({value}) AS {element} WITH OFFSET AS {place}"
        return f"ARRAY(SELECT AS STRUCT {chosen} FROM {elements} ORDER BY {place})"  # noqa: S608 (quoted)
    return f"IF({value} IS NULL, NULL, STRUCT({', '.join(of_struct(value))}))"
