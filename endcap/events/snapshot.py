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
        ("row", pa.int64()),
    ]
)
"""Columns of ``events/day=…/part-….parquet``. time: epoch ms (UTC); part: train or test; row: the reading order."""
ACTIVITY = pa.schema([("customer", pa.string()), ("time", pa.int64()), ("part", pa.string())])
"""Columns of the file of a shopper's other activity, which is there if sessions are cut by gaps and rows of other types
were left out: who did something and when. Nothing is in order."""
ACTIVITY_FILE = "activity.parquet"
QUARANTINE = "quarantine.jsonl"
