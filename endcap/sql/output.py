"""The rows of a statement as Parquet files, in one order, by day if they have one, with what is expected of them."""

from __future__ import annotations

import contextlib
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from endcap.errors import DataError, UserError
from endcap.spec.sql_step import SqlSpec

Json = dict[str, Any]
DAY = "§day"
"""The column of the rows' days, as text, which the files do not have."""
_FILE = "part-00000.parquet"


@dataclass(frozen=True)
class Column:
    """A column of the output.

    Attributes
    ----------
    name, type
        Its name, and the engine's name of its type.
    nulls
        How many rows have no value in it.
    """

    name: str
    type: str
    nulls: int = 0


@dataclass
class Output:
    """What a statement gave.

    Attributes
    ----------
    columns
        Its columns.
    rows
        How many rows there are.
    days
        The number of rows by day; empty if the files are not by day.
    about
        What else the engine says of its work, such as its version.
    """

    columns: list[Column]
    rows: int = 0
    days: dict[str, int] = field(default_factory=dict)
    about: Json = field(default_factory=dict)

    def facts(self) -> Json:
        days = list(self.days)
        by_day = {"days": {"count": len(days), "first": days[0], "last": days[-1]}} if days else {}
        columns = [vars(column) for column in self.columns]
        return {"rows": self.rows, "columns": columns, **by_day, **self.about}


def check_columns(step: str, names: Sequence[str], spec: SqlSpec) -> None:
    """Check the names of a statement's columns before it runs.

    Raises
    ------
    UserError
        Two columns have one name, in any case (`sql.duplicate-column`), or a column is missing that `not_null` or `day`
        names (`sql.column-missing`).
    """
    counts = Counter(name.lower() for name in names)
    if repeated := [name for name in names if counts[name.lower()] > 1]:
        raise UserError(
            f"step {step}: the output has columns of one name: {', '.join(repeated)}. Give each another name (AS), or "
            "leave it out (SELECT * EXCLUDE …)",
            code="sql.duplicate-column",
            step=step,
            columns=repeated,
        )
    needed = [*spec.not_null, *([] if spec.day is None else [spec.day])]
    if missing := [name for name in needed if name not in names]:
        raise UserError(
            f"step {step}: the output has no column {', '.join(missing)}, which sql.not_null or sql.day names; it has "
            f"{', '.join(names)}",
            code="sql.column-missing",
            step=step,
            missing=missing,
            columns=list(names),
        )


def find_day_column(step: str, columns: Sequence[Column], spec: SqlSpec) -> str | None:
    """Return the column whose days the output's folders have; None if there is none.

    Raises UserError if the column that the spec names has no days (`sql.day-type`).
    """
    types = {column.name: column.type.upper() for column in columns}
    if spec.day is None:
        return "day" if types.get("day") == "DATE" else None
    if types[spec.day].startswith(("DATE", "TIMESTAMP")):
        return spec.day
    raise UserError(
        f"step {step}: sql.day names the column {spec.day} of type {types[spec.day]}, which has no days; allowed: a "
        f"DATE or a TIMESTAMP, such as make_timestamp({spec.day} * 1000) of milliseconds",
        code="sql.day-type",
        step=step,
        column=spec.day,
        type=types[spec.day],
    )


def check_rows(step: str, output: Output, spec: SqlSpec, day: str | None) -> None:
    """Check the rows that came.

    Raises
    ------
    DataError
        There are fewer rows than `min_rows` (`sql.too-few-rows`), or a column that needs a value in each row lacks some
        (`sql.value-missing`).
    """
    if output.rows < spec.min_rows:
        raise DataError(
            f"step {step}: the output has {output.rows:,} rows; allowed are at least {spec.min_rows:,} (sql.min_rows). "
            "Look at the inputs and the conditions of the statement",
            code="sql.too-few-rows",
            step=step,
            rows=output.rows,
            min_rows=spec.min_rows,
        )
    needed = {*spec.not_null, *([] if day is None else [day])}
    lacking = {column.name: column.nulls for column in output.columns if column.name in needed and column.nulls}
    if lacking:
        counts = ", ".join(f"{name} in {count:,}" for name, count in lacking.items())
        raise DataError(
            f"step {step}: of {output.rows:,} rows some have no value where each needs one: {counts}. Leave these rows "
            "out (WHERE … IS NOT NULL), or give them a value (coalesce)",
            code="sql.value-missing",
            step=step,
            lacking=lacking,
        )


def write_rows(step: str, reader: pa.RecordBatchReader, folder: Path, output: Output) -> None:
    """Write rows as Parquet files, and count those of each day.

    Parameters
    ----------
    step
        The step's name, for messages.
    reader
        The rows. With a column `DAY`, they come day by day.
    folder
        Where the files go: `part-00000.parquet`, or `day=2026-03-01/part-00000.parquet`.
    output
        Gets the counts by day.

    Raises
    ------
    UserError
        A column has a type that Parquet cannot hold (`sql.output-type`).
    """
    by_day = DAY in reader.schema.names
    schema = reader.schema.remove(reader.schema.get_field_index(DAY)) if by_day else reader.schema
    _check_types(step, schema)
    with contextlib.ExitStack() as opened:
        writer, writing = None, ""
        for batch in reader:
            table = pa.Table.from_batches([batch])
            for day, rows in _split_days(table) if by_day else [("", table)]:
                if writer is None or day != writing:
                    opened.pop_all().close()
                    place = folder / f"day={day}" if by_day else folder
                    place.mkdir(parents=True, exist_ok=True)
                    writer = opened.enter_context(pq.ParquetWriter(place / _FILE, schema, compression="zstd"))
                    writing = day
                writer.write_table(rows)
                if by_day:
                    output.days[day] = output.days.get(day, 0) + rows.num_rows
        if writer is None:
            folder.mkdir(parents=True, exist_ok=True)
            pq.write_table(schema.empty_table(), folder / _FILE)


def _split_days(table: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    """Split a table whose rows are ordered by day."""
    days, rows = table.column(DAY), table.drop_columns([DAY])
    begin = 0
    for run in pc.run_end_encode(days).chunks:
        for day, end in zip(run.values.to_pylist(), run.run_ends.to_pylist(), strict=True):
            yield day, rows.slice(begin, end - begin)
            begin = end


def _check_types(step: str, schema: pa.Schema) -> None:
    wrong = {}
    for column in schema:
        try:
            pq.ParquetWriter(io.BytesIO(), pa.schema([column])).close()
        except (pa.ArrowException, NotImplementedError):
            wrong[column.name] = str(column.type)
    if wrong:
        listed = ", ".join(f"{name} ({kind})" for name, kind in wrong.items())
        raise UserError(
            f"step {step}: Parquet cannot hold the columns {listed}; convert them to a number, a text or a time",
            code="sql.output-type",
            step=step,
            columns=wrong,
        )
