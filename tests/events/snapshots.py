"""Snapshots of given rows, written the way that ingest writes them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import duckdb
import pyarrow as pa

from endcap.events.day_facts import DayOfUnit, collect_days, join_parts, merge_days
from endcap.events.days import DayWriter
from endcap.events.snapshot import ACTIVITY, ACTIVITY_FOLDER, EVENTS, EVENTS_FOLDER
from endcap.store import Draft


def write_snapshot(
    draft: Draft, rows: Sequence[dict[str, Any]], activity: Sequence[dict[str, Any]] = (), files: int = 1
) -> None:
    """Write rows, and activity of the same columns, by day. files: in how many a day's rows lie."""
    step = -(-len(rows) // files) or 1
    tables = [pa.Table.from_pylist(rows[start : start + step], EVENTS) for start in range(0, len(rows), step)]
    write_tables(draft, tables, pa.Table.from_pylist(list(activity), ACTIVITY))


def write_tables(draft: Draft, tables: Iterable[pa.Table], activity: pa.Table | None = None) -> None:
    """Write tables of events in reading order, each as files of its own, by day."""
    with (
        DayWriter(draft.path / EVENTS_FOLDER, EVENTS, budget=1) as events,
        DayWriter(draft.path / ACTIVITY_FOLDER, ACTIVITY) as other,
    ):
        for table in tables:
            events.add(table)
        if activity is not None:
            other.add(activity)
        ordered = events.close()
        other.close()
    with duckdb.connect() as connection:
        days = collect_days(draft.path, ordered, connection)
    draft.facts |= merge_days([join_parts(day["day"], [DayOfUnit(None, 0, day)]) for day in days])
