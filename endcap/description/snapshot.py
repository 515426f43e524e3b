"""The description of a snapshot: its days, types, customers and items, by DuckDB in bounded memory."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from endcap.events.day_facts import merge_types
from endcap.events.snapshot_days import DayPart, SnapshotDays
from endcap.sources.engine import open_engine
from endcap.sources.matching import count_unmatched, find_near_duplicates
from endcap.sources.sql import quote_text
from endcap.spec.event_log import MISSING

Json = dict[str, Any]
DAY = 86_400_000
MOST_TYPES = 50
_QUARTER = 900_000
"""All zones are whole quarters of an hour from UTC."""


def describe_snapshot(snapshot: SnapshotDays) -> Json:
    """What the tables of a snapshot tell, as plain JSON values.

    events: how many. first, last: times (epoch ms), None without events. days: `first`, the first day (UTC), and
    `events` of each day from then on, so that a day without events is a 0. types: events by type, the most common
    MOST_TYPES, and `other_types`, those of all others; an event without one counts under an empty text. anonymous:
    events without customer. day_only: whether all times are midnights of one zone, over two days or more. items: how
    many are in the log; `words`, those named by a word for nothing (`NULL`), with their events; `alike`, those that
    differ in blanks or capitals alone (`endcap.sources.matching.find_near_duplicates`); with an item table `table`,
    the log's items without a row in it (`count_unmatched`, and their `events`), and `unused`, its ids without an event.
    """
    with tempfile.TemporaryDirectory(prefix="endcap-describe-") as spill, open_engine(Path(spill), "UTC") as connection:
        paths = f"[{', '.join(quote_text(str(file)) for file in snapshot.files)}]"
        connection.execute(f"CREATE VIEW events AS FROM read_parquet({paths}, hive_partitioning = false)")
        days = [day for day in snapshot.days if day.events]
        times = _describe_times(days)
        return {
            **times,
            **_count_types(snapshot.facts["days"], connection),
            "day_only": _could_be_midnights(days) and _are_midnights(connection),
            "items": _describe_items(connection, snapshot.path / "items.parquet"),
        }


def _describe_times(days: Sequence[DayPart]) -> Json:
    """Describe what is known of the days without reading rows."""
    counts = {date.fromisoformat(day.day): day.events for day in days}
    span = (max(counts) - min(counts)).days + 1 if counts else 0
    return {
        "events": sum(counts.values()),
        "first": min((day.first for day in days if day.first is not None), default=None),
        "last": max((day.last for day in days if day.last is not None), default=None),
        "days": {
            "first": min(counts).isoformat() if counts else None,
            "events": [counts.get(min(counts) + timedelta(days=number), 0) for number in range(span)],
        },
        "anonymous": sum(day.without_customer for day in days),
    }


def _count_types(days: Sequence[Json], connection: Any) -> Json:
    types = merge_types(days)
    if types is None:
        rows = connection.execute("SELECT coalesce(type, ''), count(*) FROM events GROUP BY 1").fetchall()
        types = dict(rows)
    counts = sorted(types.items(), key=lambda count: (-count[1], count[0]))
    return {"types": dict(counts[:MOST_TYPES]), "other_types": sum(count for _, count in counts[MOST_TYPES:])}


def _could_be_midnights(days: Sequence[DayPart]) -> bool:
    """Return whether each day's first and last time allow that all are midnights, which spares a look at most logs."""
    return len(days) > 1 and all(
        end % _QUARTER == 0 for day in days for end in (day.first, day.last) if end is not None
    )


def _are_midnights(connection: Any) -> bool:
    """Return whether all times are one time of the day, or two that lie an hour apart, as with summer time."""
    (earliest, latest, count) = connection.execute(
        f"SELECT min(time % {DAY}), max(time % {DAY}), count(DISTINCT time % {DAY}) FROM events"  # noqa: S608 (a number)
    ).fetchone()
    return bool(count == 1 or (count == 2 and latest - earliest in (DAY // 24, DAY - DAY // 24)))


def _describe_items(connection: Any, table: Path) -> Json:
    connection.execute("CREATE TEMP TABLE log AS SELECT item, count(*) AS events FROM events GROUP BY item")
    words = connection.execute(
        "SELECT item, events FROM log WHERE item IN (SELECT unnest(?)) ORDER BY events DESC, item", [list(MISSING)]
    ).fetchall()
    ((count,),) = connection.execute("SELECT count(*) FROM log").fetchall()
    ids = _read_ids(connection, "log ORDER BY events DESC, item")
    items: Json = {
        "log": count,
        "words": dict(words),
        "alike": find_near_duplicates(ids),
        "table": None,
        "unused": None,
    }
    if table.is_file():
        connection.execute(f"CREATE VIEW listed AS SELECT item FROM read_parquet({quote_text(str(table))})")  # noqa: S608 (quoted)
        table_ids = _read_ids(connection, "listed ORDER BY item")
        (unmatched_events,) = connection.execute(
            "SELECT coalesce(sum(events), 0) FROM log ANTI JOIN listed USING (item)"
        ).fetchone()
        items |= {
            "table": {**count_unmatched(ids, table_ids), "events": int(unmatched_events)},
            "unused": count_unmatched(table_ids, ids),
        }
    return items


def _read_ids(connection: Any, rows: str) -> pa.ChunkedArray:
    return connection.sql(f"SELECT item FROM {rows}").to_arrow_table()["item"]  # noqa: S608 (our own names)
