"""The rows of a day as numbers, in the order of events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from endcap.features.daily.arrays import CodedTexts, Flags, Ints, sort_stably

TEXTS = ("session", "customer", "item", "type", "part")
_TIE = ("session", "item", "type")
"""The texts that order events of one time and number that have no place."""


@dataclass(frozen=True)
class DayRows:
    """Rows in the order of events.

    time: int64 [n], epoch ms. item, customer: of each row. session, type: None where nobody needs them.
    """

    time: Ints
    item: CodedTexts
    customer: CodedTexts
    session: CodedTexts | None = None
    type: CodedTexts | None = None
    part: CodedTexts | None = None

    def __len__(self) -> int:
        return len(self.time)

    def take(self, rows: Flags | Ints) -> DayRows:
        """Return some rows, or those under a mask."""
        if rows.dtype == np.bool_ and rows.all():
            return self
        texts: dict[str, Any] = {
            name: None if (column := getattr(self, name)) is None else column.take(rows) for name in TEXTS
        }
        return DayRows(self.time[rows], **texts)


def read_day_rows(files: Sequence[Path], texts: Sequence[str]) -> DayRows:
    """Read the rows of a day's files, with these columns of texts, in the order of events: by time, and then as
    `endcap.features.event_order` says. Rows that have a place lie in the order of their places."""
    table = read_texts(files, ["time", "sequence", *texts], texts)
    time = table["time"].to_numpy()
    coded: dict[str, CodedTexts] = {}

    def encode(name: str) -> CodedTexts:
        if name not in coded:
            coded[name] = CodedTexts.of((table if name in texts else read_texts(files, [name], [name]))[name])
        return coded[name]

    keys = _list_number_keys(table["sequence"])
    if not all(_have_places(file) for file in files):
        placed = read_texts(files, ["position"], [])["position"].is_valid().to_numpy()
        keys += [placed, *(np.where(placed, 0, _rank_texts(encode(name))) for name in _TIE)]
    order = _sort_events(time, keys)
    rows = DayRows(time, **{name: encode(name) for name in texts})
    return rows if order is None else rows.take(order)


def read_texts(files: Sequence[Path], columns: Sequence[str], texts: Sequence[str]) -> pa.Table:
    """Read columns of a day's files; texts come as dictionaries."""
    tables = []
    for file in files:
        with pq.ParquetFile(file, read_dictionary=list(texts)) as parquet:
            tables.append(parquet.read(list(columns), use_threads=False))
    return pa.concat_tables(tables)


def _have_places(file: Path) -> bool:
    """Tell whether all rows of a file have a place, by its footer."""
    metadata = pq.read_metadata(file)
    column = metadata.schema.names.index("position")
    groups = [metadata.row_group(number).column(column) for number in range(metadata.num_row_groups)]
    return all(group.statistics is not None and group.statistics.null_count == 0 for group in groups)


def _list_number_keys(numbers: pa.ChunkedArray) -> list[NDArray[Any]]:
    """List the keys that order a declared number; rows without one come first."""
    if numbers.null_count == len(numbers):
        return []
    return [numbers.is_valid().to_numpy(), numbers.fill_null(0).to_numpy()]


def _rank_texts(texts: CodedTexts) -> Ints:
    """Return the place of each row's text in the order of bytes: int64 [n]. A missing text comes first."""
    ranks = np.empty(len(texts.ids) + 1, dtype=np.int64)
    ranks[pc.sort_indices(texts.ids).to_numpy()] = np.arange(len(texts.ids))
    ranks[-1] = -1
    return ranks[texts.codes]


def _sort_events(time: Ints, keys: Sequence[NDArray[Any]]) -> Ints | None:
    """Return the order by time and keys, in which equal rows stay; None if rows are in order."""
    if keys:
        return np.lexsort([*reversed(keys), time])
    if len(time) < 2 or (time[1:] >= time[:-1]).all():
        return None
    return sort_stably(time - time.min())  # a log in another order than that of time, such as by session
