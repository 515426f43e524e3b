"""Tables of other libraries become a shop's files, and come back."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import ibis
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from endcap.errors import DataError, UserError
from endcap.events import ingest
from endcap.events.frames import ROWS, to_arrow, to_pandas, to_polars, write_table
from endcap.store import Store
from tests.events.shops import HEADER, STORED, make_shop, stored
from tests.events.shops import ROWS as LINES

EVENTS = {
    name: [value or None for value in values]
    for name, *values in zip(HEADER.split(","), *(line.split(",") for line in LINES), strict=True)
}
TABLE = pa.table(EVENTS)


@pytest.mark.parametrize(
    "data",
    [
        TABLE,
        TABLE.to_reader(max_chunksize=1),
        TABLE.to_batches()[0],
        iter(TABLE.to_batches(max_chunksize=3)),
        pd.DataFrame(EVENTS),
        pd.DataFrame(EVENTS, index=pd.Index([7, 7, 8, 9])),
        pd.DataFrame(EVENTS).set_index("session"),
        pl.DataFrame(EVENTS),
        ibis.memtable(TABLE),
        duckdb.from_arrow(TABLE),
    ],
    ids=["table", "reader", "batch", "batches", "pandas", "index", "named-index", "polars", "ibis", "duckdb"],
)
def test_a_frame_is_an_event_log(data: Any, store: Store, tmp_path: Path) -> None:
    file = tmp_path / "log.parquet"
    assert write_table(data, file) == len(LINES)
    assert pq.read_schema(file).names == TABLE.column_names
    assert stored(store, ingest(make_shop(file), store)) == STORED


def test_times_and_numbers_of_frames_are_read_as_they_are(store: Store, tmp_path: Path) -> None:
    times = pd.to_datetime(EVENTS["time"], utc=True, format="ISO8601")
    for number, frame in enumerate([pd.DataFrame(EVENTS).assign(time=times), pl.DataFrame(EVENTS | {"time": times})]):
        file = tmp_path / f"{number}.parquet"
        write_table(frame, file)
        assert stored(store, ingest(make_shop(file), store)) == STORED


def test_a_stream_is_written_in_bounded_memory_and_by_whole_row_groups(tmp_path: Path) -> None:
    def batches() -> Iterator[pa.RecordBatch]:
        for start in range(0, 4_000_000, 1000):
            yield pa.record_batch({"n": np.arange(start, start + 1000)})

    before = pa.total_allocated_bytes()
    peak = 0

    def watched() -> Iterator[pa.RecordBatch]:
        nonlocal peak
        for batch in batches():
            peak = max(peak, pa.total_allocated_bytes() - before)
            yield batch

    file = tmp_path / "n.parquet"
    assert write_table(watched(), file) == 4_000_000
    assert peak < 16 << 20  # the rows are 32 MB
    assert pq.ParquetFile(file).num_row_groups <= -(-4_000_000 // ROWS)


@pytest.mark.parametrize(
    "data",
    [None, "events.csv", {"a": [1]}, [{"a": 1}], [], 5, pl.LazyFrame({"a": [1]}), pl.Series([1]), pa.array([1])],
    ids=str,
)
def test_what_is_no_table_is_refused(data: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError) as refused:
        write_table(data, tmp_path / "x.parquet")
    assert refused.value.code == "events.not-a-table"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "data",
    [
        pd.DataFrame({"a": ["x", 3]}),
        pd.DataFrame({1: ["x"]}),
        pd.DataFrame([[1, 2]], columns=["a", "a"]),
        pa.table([[1], [2]], names=["a", "a"]),
        pa.table({}),
        [pa.record_batch({"a": [1]}), pa.record_batch({"b": [1]})],
    ],
    ids=["mixed", "numbered", "twice", "twice-arrow", "no-columns", "other-batch"],
)
def test_a_table_that_cannot_be_written_is_refused_and_what_was_there_stays(data: Any, tmp_path: Path) -> None:
    file = tmp_path / "x.parquet"
    write_table(TABLE, file)
    with pytest.raises(DataError) as refused:
        write_table(data, file)
    assert refused.value.code == "events.table-invalid"
    assert pq.read_table(file).equals(TABLE)
    assert list(tmp_path.iterdir()) == [file]


def test_an_error_of_the_users_own_stream_is_not_hidden(tmp_path: Path) -> None:
    def broken() -> Iterator[pa.RecordBatch]:
        yield TABLE.to_batches()[0]
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        write_table(broken(), tmp_path / "x.parquet")
    assert list(tmp_path.iterdir()) == []


def test_what_comes_out_is_the_same_in_each_library(monkeypatch: pytest.MonkeyPatch) -> None:
    for data in (TABLE, TABLE.to_reader(), pl.DataFrame(EVENTS), pd.DataFrame(EVENTS)):
        assert to_arrow(data).to_pydict() == EVENTS
    assert to_polars(TABLE).to_dict(as_series=False) == EVENTS
    assert to_pandas(TABLE).to_dict("list") == EVENTS
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(UserError) as refused:
        to_polars(TABLE)
    assert refused.value.code == "events.polars-missing"
