"""What a snapshot is on disk."""

from __future__ import annotations

import pyarrow as pa

EVENTS = pa.schema(
    [
        ("session", pa.string()),
        ("customer", pa.string()),
        ("item", pa.string()),
        ("time", pa.int64()),
        ("type", pa.string()),
        ("part", pa.string()),
        ("sequence", pa.int64()),
        ("file", pa.int32()),
        ("position", pa.int64()),
    ]
)
"""Columns of ``events/day=…/part-….parquet``. time: epoch ms (UTC); part: train or test; sequence: the value of the
declared column of the order, or null; file, position: where the row was read, as the number of its file and its place
in that file, from 0. The rows of a day lie in the order in which they were read."""
PLACE = ("file", "position")
"""Columns that say where a row was read. They are no part of its content."""
ACTIVITY = pa.schema([("customer", pa.string()), ("time", pa.int64()), ("part", pa.string())])
"""Columns of ``activity/day=…/part-….parquet``, a shopper's other activity, which is there if sessions are cut by gaps
and rows of other types were left out: who did something and when. Nothing is in order."""
EVENTS_FOLDER, ACTIVITY_FOLDER = "events", "activity"
QUARANTINE = "quarantine.jsonl"
