"""A statement's rows as a table of DuckDB, which may spill to the disk: counted, checked and written in one order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from endcap.sources.sql import quote_name
from endcap.spec.sql_step import SqlSpec
from endcap.sql.output import DAY, Column, Output, check_rows, find_day_column, write_rows

_RESULT = quote_name("§result")
CREATE = f"CREATE TEMP TABLE {_RESULT} AS\n"
"""What stands before the statement of the rows."""
_BATCH = 1 << 17


def create_result(connection: Any, text: str, parameters: Mapping[str, Any] | None = None) -> None:
    """Run a statement, and keep its rows. Raises duckdb.Error."""
    connection.execute(CREATE + text, parameters or {}).fetchall()


def finish(connection: Any, step: str, spec: SqlSpec, folder: Path, *, ordered: bool) -> Output:
    """Count, check and write the rows of `create_result`.

    Parameters
    ----------
    connection
        The connection.
    step, spec
        The step, and what is expected of its rows.
    folder
        Where the Parquet files go.
    ordered
        Whether the rows are in the statement's own order. Otherwise they are sorted by all columns: threads and streams
        give them in another order each time.

    Raises
    ------
    UserError, DataError
        The rows are not what is expected.
    """
    output = _count(connection)
    day = find_day_column(step, output.columns, spec)
    check_rows(step, output, spec, day)
    query = _order_query([column.name for column in output.columns], day, ordered=ordered)
    write_rows(step, connection.sql(query).to_arrow_reader(_BATCH), folder, output)
    return output


def _count(connection: Any) -> Output:
    columns = [(row[0], row[1]) for row in connection.execute(f"DESCRIBE {_RESULT}").fetchall()]
    counted = ", ".join(f"count({quote_name(name)})" for name, _ in columns)
    ((rows, *values),) = connection.execute(f"SELECT count(*), {counted} FROM {_RESULT}").fetchall()  # noqa: S608
    return Output([Column(name, kind, rows - count) for (name, kind), count in zip(columns, values, strict=True)], rows)


def _order_query(names: Sequence[str], day: str | None, *, ordered: bool) -> str:
    ordered = ordered and "rowid" not in map(str.lower, names)
    order = ["rowid"] if ordered else [quote_name(name) for name in names]
    columns = [quote_name(name) for name in names]
    if day is not None:
        columns.append(f"strftime(CAST({quote_name(day)} AS DATE), '%Y-%m-%d') AS {quote_name(DAY)}")
        order.insert(0, quote_name(DAY))
    return f"SELECT {', '.join(columns)} FROM {_RESULT} ORDER BY {', '.join(order)}"  # noqa: S608 (quoted)
