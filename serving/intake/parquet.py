"""A segment's records as Parquet tables: what a shop's file maps by `events.columns`.

Arrow reads the JSON lines itself, without holding up the thread that answers requests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import json

from endcap_serving.intake.records import ATTRIBUTION, NAMES
from endcap_serving.intake.segments import Frame

EVENTS, IMPRESSIONS, ORDERS = NAMES
PURCHASE = "purchase"
"""The type that an order's lines have among the events."""
TIME = pa.timestamp("ms", "UTC")
_TEXT = pa.string()
_BLOCK = 16 << 20
"""More than the longest line of an order, which Arrow wants to find within a block."""

_COMMON = [("request_id", _TEXT), ("received", TIME), *((name, _TEXT) for name in ATTRIBUTION)]
_LINE = pa.struct([("item", _TEXT), ("quantity", pa.int64()), ("price", pa.float64())])
_STORED = {
    EVENTS: [
        ("id", _TEXT),
        ("item", _TEXT),
        ("time", TIME),
        ("type", _TEXT),
        ("customer", _TEXT),
        ("session", _TEXT),
        ("surface", _TEXT),
        ("ranking_id", _TEXT),
        *_COMMON,
    ],
    IMPRESSIONS: [
        ("id", _TEXT),
        ("ranking_id", _TEXT),
        ("item", _TEXT),
        ("position", pa.int32()),
        ("time", TIME),
        ("surface", _TEXT),
        ("customer", _TEXT),
        ("session", _TEXT),
        *_COMMON,
    ],
    ORDERS: [
        ("id", _TEXT),
        ("customer", _TEXT),
        ("session", _TEXT),
        ("items", pa.list_(_LINE)),
        ("time", TIME),
        *_COMMON,
    ],
}
SCHEMAS = {
    EVENTS: pa.schema([*_STORED[EVENTS], ("order", _TEXT)]),
    IMPRESSIONS: pa.schema(_STORED[IMPRESSIONS]),
    ORDERS: pa.schema(
        [
            ("id", _TEXT),
            ("line", pa.int32()),
            ("customer", _TEXT),
            ("session", _TEXT),
            ("item", _TEXT),
            ("quantity", pa.int64()),
            ("price", pa.float64()),
            ("time", TIME),
            *_COMMON,
        ]
    ),
}
"""Columns of each kind's files. `order` of an event: the order whose line it is; else none."""


def build_tables(frames: Sequence[Frame]) -> Mapping[str, pa.Table]:
    """Each kind's table, in the order in which records were taken; kinds without a record are left out."""
    stored = {name: _read(frames, kind) for kind, name in enumerate(NAMES)}
    tables = {EVENTS: stored[EVENTS].append_column("order", pa.nulls(len(stored[EVENTS]), _TEXT))}
    tables[IMPRESSIONS] = stored[IMPRESSIONS]
    tables[ORDERS] = _lines(stored[ORDERS])
    tables[EVENTS] = pa.concat_tables([tables[EVENTS], _purchases(tables[ORDERS])])
    return {name: table for name, table in tables.items() if len(table)}


def _read(frames: Sequence[Frame], kind: int) -> pa.Table:
    name = NAMES[kind]
    schema = pa.schema(_STORED[name])
    lines = b"".join(field.lines for field in frames if field.kind == kind)
    if not lines:
        return schema.empty_table()
    # Arrow reads a time as text or seconds; ours are milliseconds.
    stored = pa.schema([(field.name, pa.int64() if field.type == TIME else field.type) for field in schema])
    table = json.read_json(
        pa.BufferReader(lines),
        json.ReadOptions(use_threads=False, block_size=_BLOCK),
        json.ParseOptions(explicit_schema=stored, unexpected_field_behavior="ignore"),
    )
    return table.select(schema.names).cast(schema)


def _lines(orders: pa.Table) -> pa.Table:
    """A row a line of an order, `line` counted from 0."""
    lines = orders.column("items").combine_chunks()
    parents = pc.list_parent_indices(lines)
    rows = orders.drop_columns("items").take(parents)
    # Where its order's first line stands, in all lines: how many came before.
    starts = lines.offsets.take(parents)
    places = pc.subtract(pa.array(np.arange(len(parents), dtype=np.int32)), pc.subtract(starts, lines.offsets[0]))
    flat = pc.list_flatten(lines)
    columns = {
        "line": places.cast(pa.int32()),
        "item": pc.struct_field(flat, "item"),
        "quantity": pc.struct_field(flat, "quantity"),
        "price": pc.struct_field(flat, "price"),
    }
    known_columns = {name: rows.column(name) for name in rows.column_names} | columns
    return pa.table([known_columns[name] for name in SCHEMAS[ORDERS].names], schema=SCHEMAS[ORDERS])


def _purchases(lines: pa.Table) -> pa.Table:
    """Lines of orders as events; an event's id is its order's with the line behind it."""
    count = len(lines)
    known_columns = {
        name: lines.column(name)
        for name in ("item", "time", "customer", "session", "request_id", "received", *ATTRIBUTION)
    }
    known_columns["id"] = pc.binary_join_element_wise(lines.column("id"), lines.column("line").cast(_TEXT), "#")
    known_columns |= {"order": lines.column("id"), "type": pa.array([PURCHASE] * count, _TEXT)}
    columns = [known_columns.get(field.name, pa.nulls(count, field.type)) for field in SCHEMAS[EVENTS]]
    return pa.table(columns, schema=SCHEMAS[EVENTS])
