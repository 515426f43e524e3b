"""BigQuery as the engine of a step: a dry run against a limit, then a job, whose rows come back or replace a table."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from endcap.errors import DataError, UserError
from endcap.sources.bigquery.arrow import normalize
from endcap.sources.bigquery.client import Warehouse, open_warehouse
from endcap.sources.bigquery.columns import TableColumn, read_columns
from endcap.sources.bigquery.compile import TableName, quote
from endcap.sources.bigquery.errors import refuse_bytes
from endcap.sources.bigquery.read import ReadRequest, ReadSession
from endcap.sources.bigquery.results import Results, write_results
from endcap.sources.bigquery.row_versions import find_table_version
from endcap.sources.bigquery.tables import describe_shards, describe_table, find_shards, read_clock
from endcap.sources.engine import open_engine
from endcap.sources.sql import quote_text
from endcap.spec.sql_step import SqlSpec
from endcap.sql.faults import Place
from endcap.sql.input_sources import READ_PARQUET
from endcap.sql.output import Column, Output, check_columns, check_rows
from endcap.sql.plan import InputTable
from endcap.sql.result_table import create_result, finish
from endcap.sql.statement import Statement, parse_statement

if TYPE_CHECKING:
    from google.cloud.bigquery import ScalarQueryParameter

_UNSTABLE = frozenset({"rand", "generate_uuid", "session_user"})
_TYPES = {bool: "BOOL", int: "INT64", float: "FLOAT64", str: "STRING", datetime: "TIMESTAMP"}
_AT = re.compile(r"\s*at \[(\d+):(\d+)\]")
_REFUSALS = (
    ("sql.syntax", ("Syntax error", "Unclosed", "Illegal")),
    ("sql.unknown-column", ("Unrecognized name", "Name ")),
    ("sql.duplicate-column", ("Duplicate column name",)),
    ("sql.type-error", ("No matching signature", "Could not cast", "Invalid cast", "Bad ", "Invalid timestamp")),
)
"""Codes by the words with which GoogleSQL begins a refusal."""


@dataclass(frozen=True)
class WarehouseTable:
    """A table that a statement reads in the warehouse. version: says whether it changed."""

    name: str
    version: tuple[Any, ...]

    def key(self) -> Any:
        return ["bigquery", self.name, list(self.version)]

    def facts(self) -> dict[str, Any]:
        return {"table": self.name, "version": list(self.version)}


def parse(step: str, text: str) -> Statement:
    """Parse a statement in GoogleSQL. Raises UserError, see `parse_statement`, or for a table without a dataset."""
    statement = parse_statement(step, text, "bigquery", _UNSTABLE)
    for name in statement.tables:
        if "." not in name:
            raise UserError(
                f"step {step}: the statement reads {name!r}; in BigQuery a table is named dataset.table or "
                "project.dataset.table",
                code="sql.unknown-table",
                step=step,
                table=name,
                known=[],
            )
    return statement


@dataclass(frozen=True)
class BigQueryPlan:
    """A statement that BigQuery has estimated.

    Attributes
    ----------
    statement, spec
        The statement, and what is expected of its rows.
    inputs
        The tables that it reads.
    warehouse
        Where it runs.
    parameters
        Its parameters for BigQuery.
    columns
        The columns that it gives.
    bytes
        How many bytes it would read.
    """

    statement: Statement
    spec: SqlSpec
    inputs: Sequence[InputTable]
    warehouse: Warehouse
    parameters: Sequence[ScalarQueryParameter]
    columns: Sequence[TableColumn]
    bytes: int

    @property
    def is_kept(self) -> bool:
        """Whether the rows are an artifact. A table of the warehouse may change, so each run writes it anew."""
        return self.spec.bigquery.table is None

    def run(self, scratch: Path, folder: Path) -> Output:
        """Run the statement, and write its rows. Raises as `plan`, and DataError for rows that are not as expected."""
        settings, label = self.spec.bigquery, f"step {self.statement.step}"
        dataset = _split_dataset(settings.results, self.warehouse.project)
        text = self.statement.text.strip().rstrip(";")
        with (
            _convert_refusals(self.statement),
            write_results(self.warehouse, label, text, dataset, settings.max_bytes, self.parameters) as results,
        ):
            output = self._replace_table(label, results) if settings.table else self._read(results, scratch, folder)
        output.about |= {"job": results.job, "project": self.warehouse.project, "bytes": self.bytes}
        return output

    def _read(self, results: Results, scratch: Path, folder: Path) -> Output:
        """Write the rows as Parquet in their order.

        Several streams give them in any. Alone, a stream gives them in the order of the statement's ORDER BY: Google's
        own client reads such rows so (`determine_requested_streams` of `google.cloud.bigquery._pandas_helpers`).
        """
        file, ordered = scratch / "rows.parquet", self.statement.ordered
        request = ReadRequest(results.table, [], "", None, 1 if ordered else self.spec.bigquery.streams)
        _write_session(ReadSession(self.warehouse, request), file)
        with open_engine(scratch / "spill", "UTC") as connection:
            create_result(connection, READ_PARQUET.format(files=f"[{quote_text(str(file))}]"))
            return finish(connection, self.statement.step, self.spec, folder, ordered=ordered)

    def _replace_table(self, label: str, results: Results) -> Output:
        table = _parse_name(str(self.spec.bigquery.table), self.warehouse.project)
        source = quote(str(results.table))
        counts = [f"COUNT({quote(column.name)}) AS c{place}" for place, column in enumerate(self.columns)]
        count = f"SELECT COUNT(*) AS n, {', '.join(counts)} FROM {source}"  # noqa: S608 (all parts are quoted)
        ((total, *values),) = (tuple(row.values()) for row in self.warehouse.list_rows(label, count))
        columns = [
            Column(column.name, f"ARRAY<{column.type}>" if column.repeated else column.type, total - value)
            for column, value in zip(self.columns, values, strict=True)
        ]
        output = Output(columns, total, about={"table": str(table)})
        check_rows(self.statement.step, output, self.spec, None)
        replace = f"CREATE OR REPLACE TABLE {quote(str(table))} AS SELECT * FROM {source}"  # noqa: S608 (as above)
        self.warehouse.query(label, replace)
        return output


def plan(statement: Statement, spec: SqlSpec, parameters: Mapping[str, Any]) -> BigQueryPlan:
    """Ask BigQuery what a statement would read and give.

    Parameters
    ----------
    statement, spec
        The statement, and what is expected of its rows.
    parameters
        The values of the parameters that it reads.

    Raises
    ------
    UserError
        The statement has a mistake, there are no credentials, or Google's clients are not installed.
    DataError
        There is no such table, the account lacks a right, or more bytes would be read than `max_bytes`.
    TransientError
        BigQuery does not answer.
    """
    label, settings = f"step {statement.step}", spec.bigquery
    owners = [name.split(".")[0] for name in statement.tables if name.count(".") > 1]
    warehouse = open_warehouse(settings.project, settings.location, owners[0] if owners else None)
    values = _make_parameters(parameters)
    with _convert_refusals(statement):
        job = warehouse.estimate(label, statement.text, parameters=values)
    read = int(job.total_bytes_processed or 0)
    if read > settings.max_bytes:
        refuse_bytes(label, read, settings.max_bytes)
    columns = read_columns(field.to_api_repr() for field in job.schema or ())
    check_columns(statement.step, [column.name for column in columns], spec)
    names = {str(_parse_name(name, warehouse.project)) for name in statement.tables}
    behind = {f"{table.project}.{table.dataset_id}.{table.table_id}" for table in job.referenced_tables or ()}
    inputs = [_find_table(warehouse, name) for name in sorted(names | behind)]
    return BigQueryPlan(statement, spec, inputs, warehouse, values, columns, read)


def _find_table(warehouse: Warehouse, name: str) -> WarehouseTable:
    """Ask for the version of a table's rows."""
    table_name = _parse_name(name, warehouse.project)
    if table_name.table.endswith("*"):
        shards = describe_shards(warehouse, find_shards(warehouse, table_name))
        versions = [(shard.name.table, find_table_version(warehouse, shard)) for shard in shards]
        version = None if any(version is None for _, version in versions) else tuple(versions)
    else:
        version = find_table_version(warehouse, describe_table(warehouse, table_name))
    # Nobody says when such as an external table's files changed, so each moment has rows of its own.
    return WarehouseTable(name, version or (read_clock(warehouse, name).isoformat(),))


def _make_parameters(parameters: Mapping[str, Any]) -> list[ScalarQueryParameter]:
    from google.cloud.bigquery import ScalarQueryParameter

    return [ScalarQueryParameter(name, _TYPES[type(value)], value) for name, value in parameters.items()]


def _write_session(session: ReadSession, file: Path) -> None:
    """Write rows as Parquet. Decimals of BIGNUMERIC's size become text, since DuckDB has none."""
    empty = [_convert(pa.array([], kind)) for kind in session.schema.types]
    schema = pa.schema([(name, column.type) for name, column in zip(session.schema.names, empty, strict=True)])
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for batch in session:
            writer.write_batch(
                pa.RecordBatch.from_arrays([_convert(column) for column in batch.columns], schema=schema)
            )


def _convert(column: pa.Array) -> pa.Array:
    return normalize(column, keeps_numeric=True)


def _parse_name(name: str, project: str) -> TableName:
    parts = name.split(".")
    return TableName(*(parts if len(parts) == 3 else [project, *parts]))


def _split_dataset(name: str | None, project: str) -> tuple[str, str] | None:
    if name is None:
        return None
    owner, _, dataset = name.rpartition(".")
    return owner or project, dataset


@contextlib.contextmanager
def _convert_refusals(statement: Statement) -> Iterator[None]:
    """Turn BigQuery's refusal of a statement into an error with its line and column."""
    try:
        yield
    except DataError as error:
        if error.code != "bigquery.refused":
            raise
        raise convert_refusal(statement.step, str(error.fields["reason"])) from None


def convert_refusal(step: str, reason: str) -> UserError:
    """Return the error for the words with which BigQuery refuses a statement."""
    match = _AT.search(reason)
    place = Place(step) if match is None else Place(step, int(match[1]), int(match[2]))
    words = _AT.sub("", reason.partition("\n")[0]).strip()
    start = words.rpartition("400 ")[2].partition(": ")[2] if words.startswith("400 ") else words
    codes = [code for code, beginnings in _REFUSALS if start.startswith(beginnings) or words.startswith(beginnings)]
    message = f"{place}: BigQuery refuses the statement: {words}. Correct the statement"
    if codes == ["sql.syntax"]:
        return UserError(message, code="sql.syntax", **place.fields)
    if codes == ["sql.unknown-column"]:
        return UserError(message, code="sql.unknown-column", **place.fields)
    if codes == ["sql.duplicate-column"]:
        return UserError(message, code="sql.duplicate-column", **place.fields)
    if codes == ["sql.type-error"]:
        return UserError(message, code="sql.type-error", **place.fields)
    return UserError(message, code="sql.invalid", **place.fields)
