"""DuckDB as the engine of a step: in this process, in bounded memory, with nothing in reach but the named inputs."""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from endcap.sources.engine import lock_engine, open_engine
from endcap.spec.sql_step import SqlSpec
from endcap.sql.faults import convert_duckdb_error
from endcap.sql.output import Output, check_columns
from endcap.sql.result_table import CREATE, create_result, finish
from endcap.sql.statement import Statement, parse_statement
from endcap.sql.tables import ViewedTable

_DESCRIBE = "DESCRIBE\n"
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


@dataclass(frozen=True)
class DuckDbPlan:
    """A statement with its tables.

    Attributes
    ----------
    statement, spec
        The statement, and what is expected of its rows.
    inputs
        The tables that it reads.
    known
        The names of all tables that it could read, for messages.
    parameters
        The values of the parameters that it reads.
    """

    statement: Statement
    spec: SqlSpec
    inputs: Sequence[ViewedTable]
    known: Collection[str]
    parameters: Mapping[str, Any]
    is_kept = True

    def run(self, scratch: Path, folder: Path) -> Output:
        """See `endcap.sql.plan.SqlPlan`."""
        statement = self.statement
        with open_engine(scratch / "spill", "UTC") as connection:
            files = [file for table in self.inputs for file in table.create(connection, scratch)]
            connection.execute("SET errors_as_json = true")
            lock_engine(connection, files)
            try:
                # A table would rename the second of two columns of one name.
                described = connection.execute(_DESCRIBE + statement.text, self.parameters).fetchall()
                check_columns(statement.step, [row[0] for row in described], self.spec)
            except duckdb.Error as error:
                raise self._convert(error, _DESCRIBE) from error
            try:
                create_result(connection, statement.text, self.parameters)
            except duckdb.Error as error:
                raise self._convert(error, CREATE) from error
            for table in self.inputs:
                table.check_unchanged()
            output = finish(connection, statement.step, self.spec, folder, ordered=statement.ordered)
        output.about["engine_version"] = duckdb.__version__
        return output

    def _convert(self, error: duckdb.Error, prefix: str) -> Exception:
        if isinstance(error, duckdb.IOException | duckdb.OutOfMemoryException):
            return error  # of this machine, not of the statement
        return convert_duckdb_error(error, self.statement.step, self.statement.text, prefix, self.known)


@functools.cache
def _list_unstable_functions() -> frozenset[str]:
    query = "SELECT DISTINCT lower(function_name) FROM duckdb_functions() WHERE stability <> 'CONSISTENT'"
    with duckdb.connect() as connection:
        return frozenset(name for (name,) in connection.execute(query).fetchall()) - _HARMLESS
