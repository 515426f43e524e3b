"""Tables of other libraries: written as a shop's files, and made of what comes out.

Anything that speaks Arrow's PyCapsule interface is taken: tables and readers of PyArrow, frames of pandas and Polars,
relations of DuckDB, tables of Ibis; also record batches one after another. What is a stream stays one.
See https://arrow.apache.org/docs/format/CDataInterface/PyCapsuleInterface.html.
"""

from __future__ import annotations

import contextlib
import os
import sys
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from endcap.errors import DataError, UserError
from endcap.store import report_storage_errors

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

ROWS = 131_072
"""The least rows of a row group, and those of a pandas frame that are converted at once."""
_PLAIN = {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}
_ALLOWED = (
    "a frame of pandas or Polars, a table or reader of PyArrow, a relation of DuckDB, or an iterable of record batches"
)


def write_table(data: Any, path: str | Path) -> int:
    """Write a table as a Parquet file. A reader is written batch by batch and never held whole.

    Parameters
    ----------
    data
        Anything with ``__arrow_c_stream__`` (a frame of pandas or Polars, a table or reader of PyArrow, a relation of
        DuckDB), or an iterable of ``pyarrow.RecordBatch``. A pandas index without a name is left out.
    path
        The file. It is replaced when all rows are written; after a failure what was there stays.

    Returns
    -------
    int
        Rows written.

    Raises
    ------
    DataError
        The data are no table (`events.not-a-table`), or a column cannot be written (`events.table-invalid`).
    StorageError
        The disk refused.

    Examples
    --------
    >>> import pyarrow as pa
    >>> write_table(pa.table({"session": ["s1", "s1"], "item": ["a", "b"], "time": [1, 2]}), "events.parquet")
    2
    """
    target = Path(path).expanduser()
    rows = 0
    with _convert_arrow_errors():
        schema, batches = _open_stream(data)
        with (
            report_storage_errors(target),
            _replace_on_success(target) as draft,
            pq.ParquetWriter(draft, schema, compression="zstd") as to,
        ):
            for table in _group_batches(schema, batches):
                to.write_table(table, row_group_size=2 * ROWS)
                rows += table.num_rows
    return rows


def to_arrow(data: Any) -> pa.Table:
    """A ``pyarrow.Table`` of anything that `write_table` takes; a stream is read to its end. Raises DataError."""
    with _convert_arrow_errors():
        schema, batches = _open_stream(data)
        return pa.Table.from_batches(batches, schema)


def to_pandas(data: Any) -> pd.DataFrame:
    """A pandas frame of anything that `write_table` takes. Whole numbers with gaps become floats. Raises DataError."""
    frame: pd.DataFrame = to_arrow(data).to_pandas()
    return frame


def to_polars(data: Any) -> pl.DataFrame:
    """A ``polars.DataFrame`` of anything that `write_table` takes.

    Raises DataError; UserError where Polars is not installed (`events.polars-missing`).
    """
    try:
        import polars as pl
    except ImportError:
        raise UserError(
            "Polars is not installed, and is no part of Endcap; install it: pip install polars",
            code="events.polars-missing",
        ) from None
    return pl.DataFrame(to_arrow(data))


def _open_stream(data: Any) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """The columns and the batches of a table. Raises DataError."""
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(data, pandas.DataFrame):
        schema, batches = _read_pandas(data)
    elif isinstance(data, pa.RecordBatch):
        schema, batches = data.schema, iter([data])
    elif hasattr(data, "__arrow_c_stream__"):
        try:
            reader = pa.RecordBatchReader.from_stream(data)
        except pa.ArrowInvalid as error:
            raise _not_a_table_error(data, f" ({error})") from error
        schema, batches = reader.schema, iter(reader)
    elif isinstance(data, Iterable) and not isinstance(data, str | bytes | bytearray | Mapping):
        schema, batches = _read_batches(data)
    else:
        hint = "; call its collect() first" if type(data).__name__ == "LazyFrame" else ""
        raise _not_a_table_error(data, hint)
    doubled = [name for name, count in Counter(schema.names).items() if count > 1]
    if doubled or not schema.names:
        type_name = f"the column {doubled[0]!r} a second time" if doubled else "no columns"
        raise DataError(
            f"the table has {type_name}; allowed: columns with names of their own", code="events.table-invalid"
        )
    plain = pa.schema([field.with_type(_PLAIN.get(field.type, field.type)) for field in schema])
    return plain, (batch if batch.schema.equals(plain) else batch.cast(plain) for batch in batches)


def _read_pandas(frame: pd.DataFrame) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """By slices, under the types of the whole frame: its copy in Arrow is never held whole."""
    if any(name is not None for name in frame.index.names):
        frame = frame.reset_index()
    wrong = next((name for name in frame.columns if not isinstance(name, str)), None)
    if wrong is not None:
        raise DataError(f"the frame's column {wrong!r} has a name that is no text", code="events.table-invalid")
    if not frame.columns.is_unique:
        name = frame.columns[frame.columns.duplicated()][0]
        raise DataError(f"the frame has the column {name!r} a second time", code="events.table-invalid")
    schema = pa.Schema.from_pandas(frame, preserve_index=False).remove_metadata()
    slices = (frame.iloc[start : start + ROWS] for start in range(0, len(frame), ROWS))
    return schema, (pa.RecordBatch.from_pandas(part, schema=schema, preserve_index=False) for part in slices)


def _read_batches(data: Iterable[Any]) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    batches = iter(data)
    first = next(batches, None)
    if first is None:
        raise _not_a_table_error(data, " without a batch, whose columns nobody knows")
    if not isinstance(first, pa.RecordBatch):
        raise _not_a_table_error(data, f" that begins with a {type(first).__name__}")
    schema = first.schema.remove_metadata()

    def checked() -> Iterator[pa.RecordBatch]:
        for number, batch in enumerate(chain([first], batches), 1):
            if not isinstance(batch, pa.RecordBatch) or not batch.schema.equals(schema):
                raise DataError(
                    f"batch {number} has other columns than the first, which has {', '.join(schema.names)}",
                    code="events.table-invalid",
                    batch=number,
                )
            yield batch

    return schema, checked()


def _group_batches(schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Small batches together, so that they do not become as many row groups."""
    group: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        group.append(batch)
        rows += batch.num_rows
        if rows >= ROWS:
            yield pa.Table.from_batches(group, schema)
            group, rows = [], 0
    if group:
        yield pa.Table.from_batches(group, schema)


@contextlib.contextmanager
def _replace_on_success(target: Path) -> Iterator[Path]:
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.{os.getpid()}-{uuid.uuid4().hex}")
    try:
        yield draft
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)


@contextlib.contextmanager
def _convert_arrow_errors() -> Iterator[None]:
    try:
        yield
    except pa.ArrowException as error:
        raise DataError(
            f"the table cannot be written: {error}; give each column values of one plain type",
            code="events.table-invalid",
        ) from error


def _not_a_table_error(data: Any, reason: str) -> DataError:
    kind = type(data).__name__
    return DataError(f"a {kind}{reason} is no table; allowed: {_ALLOWED}", code="events.not-a-table", type=kind)
