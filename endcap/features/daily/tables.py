"""A dataset's items and customers with their final numbers, what customers own, and Parquet files."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from endcap.features.content_digest import TableDigest
from endcap.features.daily.arrays import MISSING, Codes, Flags, Ints, sort_texts
from endcap.features.daily.coded_day import CodedOwned

ROW_GROUP = 1 << 18
"""Rows of a row group at most. A block of rows is a group: many small ones take a third longer to read."""
_CLOSE = ("session", "time", "start", "end", "item", "events")
"""Columns of integers whose neighbours lie close together, or are small."""


@dataclass(frozen=True)
class NumberedIds:
    """Ids in their final order, by events and then by id.

    ids: strings [n]. places: int64 [n], of each number, the place among all known ids. numbers: int32 [known + 1], of
    each known id, the number; -1 where it is left out, and last.
    """

    ids: pa.Array
    places: Ints
    numbers: Codes


def number_ids(ids: pa.Array, events: Ints, present: Flags) -> NumberedIds:
    """Number the ids that are present: most events first, equal counts by id."""
    places = np.flatnonzero(present)
    names = ids.take(pa.array(places))
    by_id = sort_texts(names)
    order = by_id[np.argsort(-events[places[by_id]], kind="stable")]
    numbers = np.full(len(ids) + 1, MISSING, dtype=np.int32)
    numbers[places[order]] = np.arange(len(order), dtype=np.int32)
    return NumberedIds(names.take(pa.array(order)), places[order], numbers)


def build_catalogue(name: str, numbered: NumberedIds, counts: dict[str, Ints], source: Path) -> pa.Table:
    """Build the rows of items or customers, with the attributes that a snapshot's table has of them."""
    columns: dict[str, pa.Array] = {name: numbered.ids, **{key: pa.array(values) for key, values in counts.items()}}
    if source.is_file():
        known = pq.read_table(source, partitioning=None)
        rows = pc.index_in(numbered.ids, known[name].cast(pa.string()))
        attributes = known.drop_columns([name]).take(rows)
        columns |= {key: attributes[key] for key in attributes.column_names if key not in columns}
    return pa.table(columns)


def build_ownership(
    owned: Sequence[CodedOwned], places: Sequence[tuple[Codes, Codes]], items: NumberedIds, customers: NumberedIds
) -> pa.Table:
    """Build the rows of what customers own: customer, item and time, each once, in this order.

    places: for each day, the places of its items and customers among all known ids. What the dataset lacks is left out.
    """
    columns = [np.zeros((3, 0), np.int64)]
    for day, (item_places, customer_places) in zip(owned, places, strict=True):
        customer, item = customers.numbers[customer_places][day.customer], items.numbers[item_places][day.item]
        known = (customer >= 0) & (item >= 0)
        columns.append(np.stack([customer[known].astype(np.int64), item[known], day.time[known]]))
    rows = np.concatenate(columns, axis=1)
    rows = rows[:, np.lexsort(rows[::-1])]
    first = np.append(True, (np.diff(rows) != 0).any(axis=0))[: rows.shape[1]]
    customer, item, time = rows[:, first]
    return pa.table({"customer": customer.astype(np.int32), "item": item.astype(np.int32), "time": time})


def write_table(file: Path, blocks: Iterable[pa.Table]) -> dict[str, str]:
    """Write a Parquet file of blocks of rows, the first of which may be empty. Returns the digest of each column.

    Numbers that lie close together are written as differences, which leaves little to compress. The rest is compressed
    by LZ4, which is read in less time than Snappy and takes no more room. Looking for dictionaries of many values would
    cost more time than all the rest of the writing.
    """
    remaining = iter(blocks)
    first = next(remaining)
    digest = TableDigest(first.schema)
    # Hashing costs as much as writing, and neither waits for the other.
    with _open_writer(file, first.schema) as writer, ThreadPoolExecutor(1) as hashing:
        for block in itertools.chain([first], remaining):
            hashed = hashing.submit(digest.update, block)
            if len(block):
                groups = -(-len(block) // ROW_GROUP)
                writer.write_table(block, row_group_size=-(-len(block) // groups))
            hashed.result()
    return digest.list_digests()


def _open_writer(file: Path, schema: pa.Schema) -> pq.ParquetWriter:
    encodings, compression = {}, {}
    for field in schema:
        compression[field.name] = "lz4"
        if pa.types.is_integer(field.type) and field.name in _CLOSE:
            encodings[field.name], compression[field.name] = "DELTA_BINARY_PACKED", "none"
        elif pa.types.is_float32(field.type):
            encodings[field.name] = "BYTE_STREAM_SPLIT"
    return pq.ParquetWriter(
        file, schema, use_dictionary=False, compression=compression, column_encoding=encodings, write_statistics=False
    )
