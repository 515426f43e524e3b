"""A dataset's content digest: equal where two datasets hold the same rows in the same order, whoever wrote the files.

A dataset's key covers what made it: inputs, settings and code. Its content digest covers what it holds. If the content
digests of two engines' datasets, or of an incremental and a full build's, are equal, the datasets are equal.

What counts: the names of tables and columns, the logical types of columns, the values in the order of the rows, and
the declared event features. What does not count: row groups, the number of files, compression, encodings, and the width
of offsets.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from endcap.cpus import read_cpu_limit

LENGTH = 32
ROWS = 1 << 17
"""Rows in memory at once, of one column for each core."""
_PLAIN = {
    pa.large_string(): pa.string(),
    pa.string_view(): pa.string(),
    pa.large_binary(): pa.binary(),
    pa.binary_view(): pa.binary(),
}


def digest_content(folder: Path) -> str:
    """Compute the content digest of a dataset's folder: 32 hexadecimal digits.

    A table is a file `<table>.parquet`, or a folder `<table>` of Parquet files in the order of their names.

    Notes
    -----
    The digest is the SHA-256 of the JSON of all names, columns' digests (`ColumnDigest`) and declared features. Each
    column is a stream of its own, so that columns are read and hashed side by side.
    """
    columns = [
        (table, column, files)
        for table, files in _list_tables(folder).items()
        for column in pq.read_schema(files[0]).names
    ]
    with ThreadPoolExecutor(read_cpu_limit()) as threads:
        digests = list(threads.map(lambda column: _digest_column(column[2], column[1]), columns))
    described = [(table, column, digest) for (table, column, _), digest in zip(columns, digests, strict=True)]
    return _combine(described, json.loads((folder / "features.json").read_text()))


def combine_digests(tables: Mapping[str, Mapping[str, str]], declared: Any) -> str:
    """Combine the digests of columns, by table and column, and the declared features to a content digest."""
    columns = [(table, column, digest) for table in sorted(tables) for column, digest in tables[table].items()]
    return _combine(columns, declared)


def _combine(columns: Sequence[tuple[str, str, str]], declared: Any) -> str:
    text = json.dumps([columns, declared], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:LENGTH]


class TableDigest:
    """The digests of a table's columns, whose rows come in blocks, such as while they are written."""

    def __init__(self, schema: pa.Schema) -> None:
        self._columns = {field.name: ColumnDigest(field.type) for field in schema}

    def update(self, rows: pa.Table) -> None:
        """Add the table's next rows."""
        for name, column in self._columns.items():
            for chunk in rows[name].chunks:
                column.update(chunk)

    def list_digests(self) -> dict[str, str]:
        """Return the digest of each column, in their order."""
        return {name: column.hexdigest() for name, column in self._columns.items()}


class ColumnDigest:
    """The digest of one column, whose values come in parts of any size.

    Parameters
    ----------
    kind
        The column's type: numbers, texts, bytes, moments, truth values, or lists of these.

    Notes
    -----
    A column's digest is the SHA-256 of its logical type, its number of rows, and the digests of three streams: the
    numbers of the rows that are null (int64); the lengths of texts and lists (uint32); and the bytes of the values
    that are not null, little-endian. Lengths say where each value ends, so different columns give different streams.
    All NaN count as one.
    """

    def __init__(self, kind: pa.DataType) -> None:
        self._kind = _find_logical_type(kind)
        self._rows = 0
        self._nulls, self._lengths, self._values = (hashlib.sha256(usedforsecurity=False) for _ in range(3))
        self._inner = ColumnDigest(kind.value_type) if _is_list(self._kind) else None

    def update(self, values: pa.Array) -> None:
        """Add the column's next values."""
        if pa.types.is_dictionary(values.type):
            values = values.dictionary_decode()
        if values.null_count:
            nulls = np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False))
            self._nulls.update((nulls + self._rows).astype("<i8").data)
        self._rows += len(values)
        present = values.drop_null() if values.null_count else values
        if self._inner is not None:
            self._lengths.update(pc.list_value_length(present).to_numpy(zero_copy_only=False).astype("<u4").data)
            self._inner.update(present.flatten())
        elif pa.types.is_string(self._kind) or pa.types.is_binary(self._kind):
            self._update_texts(present)
        elif pa.types.is_boolean(self._kind):
            self._values.update(present.to_numpy(zero_copy_only=False).astype("u1").data)
        elif len(present):
            self._values.update(_view_bytes(present))

    def _update_texts(self, texts: pa.Array) -> None:
        if not len(texts):
            return
        if texts.type in _PLAIN:
            texts = texts.cast(_PLAIN[texts.type])
        _, offsets, data = texts.buffers()
        ends = np.frombuffer(offsets, "<i4", len(texts) + 1, texts.offset * 4)
        self._lengths.update(np.diff(ends).astype("<u4").data)
        if data is not None:
            self._values.update(memoryview(data)[ends[0] : ends[-1]])

    def hexdigest(self) -> str:
        """Return the digest of the values so far."""
        streams = [stream.hexdigest() for stream in (self._nulls, self._lengths, self._values)]
        inner = None if self._inner is None else self._inner.hexdigest()
        text = json.dumps([_name_type(self._kind), self._rows, streams, inner])
        return hashlib.sha256(text.encode(), usedforsecurity=False).hexdigest()


def _list_tables(folder: Path) -> dict[str, list[Path]]:
    """List the files of each table by its name."""
    tables = {file.stem: [file] for file in folder.glob("*.parquet") if file.is_file()}
    for inner in folder.iterdir():
        if inner.is_dir() and (files := sorted(inner.glob("*.parquet"))):
            tables[inner.stem] = files
    return dict(sorted(tables.items()))


def _digest_column(files: Sequence[Path], name: str) -> str:
    digest = ColumnDigest(pq.read_schema(files[0]).field(name).type)
    for file in files:
        with pq.ParquetFile(file) as parquet:
            for batch in parquet.iter_batches(ROWS, columns=[name], use_threads=False):
                digest.update(batch[name])
    return digest.hexdigest()


def _view_bytes(values: pa.Array) -> memoryview:
    """The bytes of values of a fixed width without nulls; at least one."""
    if pa.types.is_floating(values.type):
        numbers = values.to_numpy()
        if np.isnan(numbers).any():
            numbers = np.where(np.isnan(numbers), numbers.dtype.type(np.nan), numbers)
        return np.ascontiguousarray(numbers).data.cast("B")
    width = values.type.bit_width // 8
    return memoryview(values.buffers()[1])[values.offset * width : (values.offset + len(values)) * width]


def _find_logical_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return _PLAIN.get(kind, kind)


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _name_type(kind: pa.DataType) -> str:
    """Engines name the elements of lists differently, so a list is named by its elements' type alone."""
    return f"list<{_name_type(_find_logical_type(kind.value_type))}>" if _is_list(kind) else str(kind)
