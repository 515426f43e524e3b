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
QUARANTINE = "quarantine.jsonl"
