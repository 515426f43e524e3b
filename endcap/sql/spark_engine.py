"""Spark as the engine of a step: executors read the inputs and run the statement, and its rows come back."""

from __future__ import annotations

import contextlib
import re
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from endcap.errors import UserError
from endcap.sources.engine import open_engine
from endcap.sources.sql import quote_name, quote_text
from endcap.spark import open_session
from endcap.spark.paths import write_path
from endcap.spec.spark import SparkSpec
from endcap.spec.sql_step import SqlSpec
from endcap.sql.faults import Place
from endcap.sql.input_sources import READ_PARQUET
from endcap.sql.output import Output, check_columns
from endcap.sql.result_table import create_result, finish
from endcap.sql.statement import Statement, parse_statement
from endcap.sql.tables import ViewedTable

if TYPE_CHECKING:
    from pyspark.sql.connect.session import SparkSession

_UNSTABLE = frozenset(
    [
        *("rand", "randn", "random", "randstr", "uniform", "uuid", "shuffle"),
        *("now", "curdate", "user", "session_user", "input_file_name"),
        *("monotonically_increasing_id", "spark_partition_id"),
        *("reflect", "java_method", "try_reflect"),
    ]
)
"""Functions that give other rows each time, or that run code of the server."""
_PLACE = re.compile(r"line (\d+),? pos (\d+)")
_SETTINGS = {
    # Otherwise times have Spark's old type, which says no zone.
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    "spark.sql.ansi.enabled": "true",
}


def parse(step: str, text: str) -> Statement:
    """Parse a statement in Spark's SQL. Raises UserError, see `parse_statement`."""
    return parse_statement(step, text, "spark", _UNSTABLE)


@dataclass(frozen=True)
class SparkPlan:
    """A statement with its tables.

    Attributes
    ----------
    statement, spec
        The statement, and what is expected of its rows.
    inputs
        The tables that it reads.
    parameters
        The values of the parameters that it reads.
    spark
        Where Spark runs. It must see the files of the inputs and the step's folder.
    progress
        Takes a line at a time.
    """

    statement: Statement
    spec: SqlSpec
    inputs: Sequence[ViewedTable]
    parameters: Mapping[str, Any]
    spark: SparkSpec
    progress: Callable[[str], None]
    is_kept = True

    def run(self, scratch: Path, folder: Path) -> Output:
        """See `endcap.sql.plan.SqlPlan`. Raises ClusterError and TransientError for what fails in Spark."""
        # Spark may go on with the statement of a step that was killed, and its rows must not join these.
        step, rows = self.statement.step, scratch / f"rows-{uuid.uuid4().hex}"
        files = self._prepare_inputs(scratch)
        with open_session(self.spark, scratch / "spark", self.progress) as session, _convert_refusals(step):
            version = session.version
            self._run_statement(session, files, rows)
        for table in self.inputs:
            table.check_unchanged()
        with open_engine(scratch / "spill", "UTC") as connection:
            # Spark numbers its files by the partitions of an ORDER BY.
            written = sorted(str(file) for file in rows.glob("*.parquet"))
            listed = f"[{', '.join(map(quote_text, written))}]"
            create_result(connection, READ_PARQUET.format(files=listed))
            output = finish(connection, step, self.spec, folder, ordered=self.statement.ordered)
        output.about["engine_version"] = version
        return output

    def _prepare_inputs(self, scratch: Path) -> dict[str, list[str]]:
        """Return Parquet files of each table. What is no Parquet is converted on this machine."""
        files = {}
        with open_engine(scratch / "spill", "UTC") as connection:
            for table in self.inputs:
                files[table.name] = table.create(connection, scratch)
                if not table.is_parquet:
                    place = scratch / f"{table.name}.parquet"
                    rows = f"SELECT * FROM {quote_name(table.name)}"  # noqa: S608 (quoted)
                    connection.execute(f"COPY ({rows}) TO {quote_text(str(place))} (FORMAT parquet)").fetchall()
                    files[table.name] = [str(place)]
        return files

    def _run_statement(self, session: SparkSession, files: Mapping[str, Sequence[str]], rows: Path) -> None:
        for name, value in _SETTINGS.items():
            session.conf.set(name, value)
        for name, paths in files.items():
            # Without the option, a column that only some files have would be lost.
            frame = session.read.option("mergeSchema", "true").parquet(*(write_path(Path(path)) for path in paths))
            frame.createOrReplaceTempView(name)
        result = session.sql(self.statement.text.strip().rstrip(";"), args=dict(self.parameters))
        check_columns(self.statement.step, result.columns, self.spec)
        result.write.parquet(write_path(rows))


@contextlib.contextmanager
def _convert_refusals(step: str) -> Iterator[None]:
    """Turn what Spark says of a statement into an error with its line and column."""
    from pyspark.errors import PySparkException

    try:
        yield
    except PySparkException as error:
        refusal = convert_refusal(step, str(error), str(error.getCondition() or ""))
        if refusal is None:
            raise
        raise refusal from None


def convert_refusal(step: str, message: str, condition: str) -> UserError | None:
    """Return the error for Spark's refusal of a statement; None if it is about something else.

    Parameters
    ----------
    step
        The step's name.
    message
        What Spark says.
    condition
        The name of the error condition
        (https://spark.apache.org/docs/latest/sql-error-conditions.html).
    """
    match = _PLACE.search(message)
    # Spark counts columns from 0.
    place = Place(step) if match is None else Place(step, int(match[1]), int(match[2]) + 1)
    words = message.partition("JVM stacktrace")[0].partition(" SQLSTATE")[0].split("\n")[0].strip().rstrip(".;")
    text = f"{place}: Spark refuses the statement: {words}. Correct the statement"
    kind = condition.partition(".")[0]
    if kind in ("PARSE_SYNTAX_ERROR", "PARSE_EMPTY_STATEMENT"):
        return UserError(text, code="sql.syntax", **place.fields)
    if kind in ("UNRESOLVED_COLUMN", "FIELD_NOT_FOUND"):
        return UserError(text, code="sql.unknown-column", **place.fields)
    if kind == "TABLE_OR_VIEW_NOT_FOUND":
        return UserError(text, code="sql.unknown-table", **place.fields)
    if kind in ("CAST_INVALID_INPUT", "DATATYPE_MISMATCH", "CAST_OVERFLOW", "ARITHMETIC_OVERFLOW", "INVALID_CAST"):
        return UserError(text, code="sql.type-error", **place.fields)
    if kind in ("UNRESOLVED_ROUTINE", "USER_RAISED_EXCEPTION", "DIVIDE_BY_ZERO", "MISSING_AGGREGATION"):
        return UserError(text, code="sql.invalid", **place.fields)
    return None
