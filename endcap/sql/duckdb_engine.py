"""DuckDB as the engine of a step: in this process, in bounded memory, with nothing in reach but the named inputs."""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb

from endcap.sources.engine import lock_engine, open_engine
from endcap.sources.sql import quote_name
from endcap.spec.sql_step import SqlSpec
from endcap.sql.faults import convert_duckdb_error
from endcap.sql.output import DAY, Column, Output, check_columns, check_rows, find_day_column, write_rows
from endcap.sql.statement import Statement, parse_statement
from endcap.sql.tables import InputTable

_RESULT = quote_name("§result")
_CREATE = f"CREATE TEMP TABLE {_RESULT} AS\n"
_DESCRIBE = "DESCRIBE\n"
_BATCH = 1 << 17
_HARMLESS = {"error"}
"""Functions that DuckDB calls volatile and that give no other rows: a statement may stop with words of its own."""


def parse(step: str, text: str) -> Statement:
    """Parse a statement by DuckDB's own parser, then find what it reads. Raises UserError, see `parse_statement`."""
    with duckdb.connect() as connection:
        connection.execute("SET errors_as_json = true")
        try:
            connection.extract_statements(text)
        except duckdb.Error as error:
            raise convert_duckdb_error(error, step, text, "", ()) from None
    return parse_statement(step, text, "duckdb", _list_unstable_functions())


def run(
    statement: Statement,
    spec: SqlSpec,
    tables: Sequence[InputTable],
    parameters: Mapping[str, Any],
    known: Collection[str],
    scratch: Path,
    folder: Path,
) -> Output:
    """Run a statement, and write its rows as Parquet.

    Parameters
    ----------
    statement, spec
        The statement, and what is expected of its rows.
    tables
        The tables that it reads.
    parameters
        The values of the parameters that it reads.
    known
        The names of all tables that it could read, for messages.
    scratch
        A folder for what exceeds the memory, and for converted inputs.
    folder
        Where the Parquet files go.

    Returns
    -------
    Output
        Columns and counts.

    Raises
    ------
    UserError
        The statement has a mistake; the error says line and column.
    DataError
        An input cannot be read, or the rows are not what is expected.
    StorageError
        There is no room for what does not fit in memory.
    """
    with open_engine(scratch / "spill", "UTC") as connection:
        lock_engine_for(connection, tables, scratch)
        try:
            # A table would rename the second of two columns of one name.
            described = connection.execute(_DESCRIBE + statement.text, parameters).fetchall()
            check_columns(statement.step, [row[0] for row in described], spec)
        except duckdb.Error as error:
            raise _convert(error, statement, _DESCRIBE, known) from error
        try:
            connection.execute(_CREATE + statement.text, parameters).fetchall()
        except duckdb.Error as error:
            raise _convert(error, statement, _CREATE, known) from error
        for table in tables:
            table.check_unchanged()
        output = _count(connection)
        day = find_day_column(statement.step, output.columns, spec)
        check_rows(statement.step, output, spec, day)
        query = _order_query(statement, [column.name for column in output.columns], day)
        write_rows(statement.step, connection.sql(query).to_arrow_reader(_BATCH), folder, output)
        output.about["engine_version"] = duckdb.__version__
    return output


def lock_engine_for(connection: Any, tables: Sequence[InputTable], scratch: Path) -> None:
    """Create the tables, and keep the statement away from everything else."""
    files = [file for table in tables for file in table.create(connection, scratch)]
    connection.execute("SET errors_as_json = true")
    lock_engine(connection, files)


def _convert(error: duckdb.Error, statement: Statement, prefix: str, known: Collection[str]) -> Exception:
    if isinstance(error, duckdb.IOException | duckdb.OutOfMemoryException):
        return error  # of this machine, not of the statement
    return convert_duckdb_error(error, statement.step, statement.text, prefix, known)


def _count(connection: Any) -> Output:
    columns = [(row[0], row[1]) for row in connection.execute(f"DESCRIBE {_RESULT}").fetchall()]
    counted = ", ".join(f"count({quote_name(name)})" for name, _ in columns)
    ((rows, *values),) = connection.execute(f"SELECT count(*), {counted} FROM {_RESULT}").fetchall()  # noqa: S608 (quoted)
    return Output([Column(name, kind, rows - count) for (name, kind), count in zip(columns, values, strict=True)], rows)


def _order_query(statement: Statement, names: Sequence[str], day: str | None) -> str:
    """Return the query of the rows in the order of the files.

    It is the statement's own order, or that of all columns: DuckDB's threads give rows in another order each time.
    """
    ordered = statement.ordered and "rowid" not in map(str.lower, names)
    order = ["rowid"] if ordered else [quote_name(name) for name in names]
    columns = [quote_name(name) for name in names]
    if day is not None:
        columns.append(f"strftime(CAST({quote_name(day)} AS DATE), '%Y-%m-%d') AS {quote_name(DAY)}")
        order.insert(0, quote_name(DAY))
    return f"SELECT {', '.join(columns)} FROM {_RESULT} ORDER BY {', '.join(order)}"  # noqa: S608 (quoted)


@functools.cache
def _list_unstable_functions() -> frozenset[str]:
    query = "SELECT DISTINCT lower(function_name) FROM duckdb_functions() WHERE stability <> 'CONSISTENT'"
    with duckdb.connect() as connection:
        return frozenset(name for (name,) in connection.execute(query).fetchall()) - _HARMLESS
