"""Rows of a Parquet file, read by their number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray


class ParquetRows:
    """The rows of a Parquet file by their number, read by row groups."""

    def __init__(self, file: Path) -> None:
        self._file = pq.ParquetFile(file)
        groups = range(self._file.num_row_groups)
        sizes = [self._file.metadata.row_group(number).num_rows for number in groups]
        self._edges = np.cumsum([0, *sizes], dtype=np.int64)

    def __len__(self) -> int:
        return int(self._edges[-1])

    def read(self, begin: int, end: int, columns: Sequence[str]) -> pa.Table:
        """Read rows begin … end - 1."""
        first, last = (int(np.searchsorted(self._edges, row, "right")) - 1 for row in (begin, max(begin, end - 1)))
        groups = range(first, min(last + 1, self._file.num_row_groups))
        table = self._file.read_row_groups(list(groups), list(columns))
        return table.slice(begin - int(self._edges[first]), end - begin)

    def iterate_batches(self, column: str, until: int) -> Iterator[NDArray[Any]]:
        """Yield a column's values in rows 0 … until - 1, a row group at a time."""
        for begin, end in zip(self._edges[:-1].tolist(), self._edges[1:].tolist(), strict=True):
            if begin < until:
                yield self.read(begin, min(end, until), [column])[column].to_numpy()

    def read_value(self, column: str, row: int) -> int:
        """Read one value."""
        return int(self.read(row, row + 1, [column])[column][0].as_py())

    def count_before(self, column: str, moment: int) -> int:
        """Count the rows with a value below `moment`, in a column that ascends."""
        low, high = 0, len(self._edges) - 1
        while low < high:  # the first group whose last value reaches the moment
            middle = (low + high) // 2
            if self.read_value(column, int(self._edges[middle + 1]) - 1) < moment:
                low = middle + 1
            else:
                high = middle
        if low == len(self._edges) - 1:
            return len(self)
        begin, end = int(self._edges[low]), int(self._edges[low + 1])
        return begin + int(np.searchsorted(self.read(begin, end, [column])[column].to_numpy(), moment))
