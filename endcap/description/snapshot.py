"""The description of a snapshot: its days, types, customers and items, by DuckDB in bounded memory."""

from __future__ import annotations

import tempfile
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from endcap.features.window import read_statistics
from endcap.sources.engine import open_engine
from endcap.sources.matching import count_unmatched, find_near_duplicates
from endcap.sources.sql import quote_text
from endcap.spec.event_log import MISSING

Json = dict[str, Any]
DAY = 86_400_000
MOST_TYPES = 50
_UNCUT = 32
_QUARTER = 900_000
"""All zones are whole quarters of an hour from UTC."""


def describe_snapshot(folder: Path) -> Json:
    """What the tables of a snapshot's folder tell, as plain JSON values.

    events: how many. first, last: times (epoch ms), None without events. days: `first`, the first day (UTC), and
    `events` of each day from then on, so that a day without events is a 0. types: events by type, the most common
    MOST_TYPES, and `other_types`, those of all others; an event without one counts under an empty text. anonymous:
    events without customer. day_only: whether all times are midnights of one zone, over two days or more. items: how
    many are in the log; `words`, those named by a word for nothing (`NULL`), with their events; `alike`, those that
    differ in blanks or capitals alone (`endcap.sources.matching.find_near_duplicates`); with an item table `table`,
    the log's items without a row in it (`count_unmatched`, and their `events`), and `unused`, its ids without an event.
    """
    files = sorted((folder / "events").glob("*/*.parquet"))
    with tempfile.TemporaryDirectory(prefix="endcap-describe-") as spill, open_engine(Path(spill), "UTC") as connection:
        paths = f"[{', '.join(quote_text(str(file)) for file in files)}]"
        connection.execute(f"CREATE VIEW events AS FROM read_parquet({paths}, hive_partitioning = false)")
        times = _read_times(files)
        return {
            **times,
            **_count_types(files, connection),
            "day_only": _could_be_midnights(files, times) and _are_midnights(connection),
            "items": _describe_items(connection, folder / "items.parquet"),
        }


def _read_times(files: list[Path]) -> Json:
    """Read what the footers of the files tell without reading rows. Each file belongs to one day."""
    days: Counter[int] = Counter()
    first, last, anonymous = [], [], 0
    for file in files:
        for columns in read_statistics(file):
            time = columns["time"]
            days[time.min // DAY] += time.num_values
            first.append(time.min)
            last.append(time.max)
            anonymous += columns["customer"].null_count
    span = range(min(days), max(days) + 1) if days else range(0)
    return {
        "events": days.total(),
        "first": min(first, default=None),
        "last": max(last, default=None),
        "days": {"first": _format_date(span[0]) if days else None, "events": [days[day] for day in span]},
        "anonymous": anonymous,
    }


def _count_types(files: list[Path], connection: Any) -> Json:
    counts = (
        _read_single_type(files)
        or connection.execute(
            "SELECT coalesce(type, ''), count(*) AS n FROM events GROUP BY 1 ORDER BY n DESC, 1"
        ).fetchall()
    )
    return {"types": dict(counts[:MOST_TYPES]), "other_types": sum(count for _, count in counts[MOST_TYPES:])}


def _read_single_type(files: list[Path]) -> list[tuple[str, int]] | None:
    """Return the type of all events and their number, if the footers of the files show that there is only one."""
    columns = [(columns["type"], columns["time"].num_values) for file in files for columns in read_statistics(file)]
    rows = sum(count for _, count in columns)
    if all(column.null_count == count for column, count in columns):
        return [("", rows)]
    if any(column.null_count or not column.has_min_max for column, _ in columns):
        return None
    names = {end for column, _ in columns for end in (column.min, column.max)}
    # Longer texts may be cut in a footer.
    return [(names.pop(), rows)] if len(names) == 1 and all(len(name) < _UNCUT for name in names) else None


def _could_be_midnights(files: list[Path], times: Json) -> bool:
    """Return whether footers allow that all times are midnights. For most logs this spares a look at all times."""
    ends = (
        end for file in files for columns in read_statistics(file) for end in (columns["time"].min, columns["time"].max)
    )
    return len(times["days"]["events"]) > 1 and all(end % _QUARTER == 0 for end in ends)


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


def _format_date(day: int) -> str:
    return datetime.fromtimestamp(day * DAY // 1000, UTC).date().isoformat()
