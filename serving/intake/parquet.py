"""The records of a segment as Parquet tables. A shop's spec maps their columns by `events.columns`.

Arrow reads the JSON lines without the interpreter's lock, so the thread that answers requests goes on.
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
"""The type of the events that an order's lines become."""
TIME = pa.timestamp("ms", "UTC")
_TEXT = pa.string()
_BLOCK = 16 << 20
"""Bytes. Arrow needs a whole line within a block, and this is more than the longest order."""

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
"""The columns of each kind's files. `order` of an event is the order whose line it is, or null."""


def build_tables(frames: Sequence[Frame]) -> Mapping[str, pa.Table]:
    """Build a table of each kind's records.

    Parameters
    ----------
    frames
        The frames of a segment.

    Returns
    -------
    Mapping[str, pyarrow.Table]
        By kind, tables with the columns of `SCHEMAS`, in the order in which records were accepted. The lines of orders
        are also purchases among the events. Kinds without a record are left out.
    """
    stored = {name: _read_records(frames, kind) for kind, name in enumerate(NAMES)}
    tables = {EVENTS: stored[EVENTS].append_column("order", pa.nulls(len(stored[EVENTS]), _TEXT))}
    tables[IMPRESSIONS] = stored[IMPRESSIONS]
    tables[ORDERS] = _explode_orders(stored[ORDERS])
    tables[EVENTS] = pa.concat_tables([tables[EVENTS], _make_purchase_events(tables[ORDERS])])
    return {name: table for name, table in tables.items() if len(table)}


def _read_records(frames: Sequence[Frame], kind: int) -> pa.Table:
    """Read the records of one kind to a table."""
    name = NAMES[kind]
    schema = pa.schema(_STORED[name])
    lines = b"".join(field.lines for field in frames if field.kind == kind)
    if not lines:
        return schema.empty_table()
    # Arrow would read times as texts or seconds, but the records have milliseconds.
    stored = pa.schema([(field.name, pa.int64() if field.type == TIME else field.type) for field in schema])
    table = json.read_json(
        pa.BufferReader(lines),
        json.ReadOptions(use_threads=False, block_size=_BLOCK),
        json.ParseOptions(explicit_schema=stored, unexpected_field_behavior="ignore"),
    )
    return table.select(schema.names).cast(schema)


def _explode_orders(orders: pa.Table) -> pa.Table:
    """Make a row of each line of an order. `line` counts from 0."""
    lines = orders.column("items").combine_chunks()
    order_indices = pc.list_parent_indices(lines)
    rows = orders.drop_columns("items").take(order_indices)
    # The position of the order's first line among all lines.
    starts = lines.offsets.take(order_indices)
    line_numbers = pc.subtract(
        pa.array(np.arange(len(order_indices), dtype=np.int32)), pc.subtract(starts, lines.offsets[0])
    )
    flat_lines = pc.list_flatten(lines)
    columns = {
        "line": line_numbers.cast(pa.int32()),
        "item": pc.struct_field(flat_lines, "item"),
        "quantity": pc.struct_field(flat_lines, "quantity"),
        "price": pc.struct_field(flat_lines, "price"),
    }
    values = {name: rows.column(name) for name in rows.column_names} | columns
    return pa.table([values[name] for name in SCHEMAS[ORDERS].names], schema=SCHEMAS[ORDERS])


def _make_purchase_events(lines: pa.Table) -> pa.Table:
    """Make events of the lines of orders. An event's id is the order's id, "#" and the line's number."""
    count = len(lines)
    values = {
        name: lines.column(name)
        for name in ("item", "time", "customer", "session", "request_id", "received", *ATTRIBUTION)
    }
    values["id"] = pc.binary_join_element_wise(lines.column("id"), lines.column("line").cast(_TEXT), "#")
    values |= {"order": lines.column("id"), "type": pa.array([PURCHASE] * count, _TEXT)}
    columns = [values.get(field.name, pa.nulls(count, field.type)) for field in SCHEMAS[EVENTS]]
    return pa.table(columns, schema=SCHEMAS[EVENTS])
