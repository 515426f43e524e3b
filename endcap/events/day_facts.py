"""What is known of each day of a snapshot without reading its rows: how many events, of which types, and digests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from endcap.events.days import DAY, DAY_PREFIX, format_day
from endcap.events.snapshot import ACTIVITY, ACTIVITY_FOLDER, EVENTS, EVENTS_FOLDER, PLACE
from endcap.sources.digest import add_digests, digest_groups
from endcap.sources.sql import quote_text
from endcap.sources.values.ids import match_word
from endcap.spec.event_log import MISSING
from endcap.store import fingerprint

Json = dict[str, Any]
MOST_TYPES = 100
"""A day with more types than this does not list them."""
_COUNTS = {
    "events": "count(*)",
    "first": "min(time)",
    "last": "max(time)",
    "test": "count(*) FILTER (part = 'test')",
    "without_session": "count(*) FILTER (session IS NULL)",
    "without_customer": "count(*) FILTER (customer IS NULL)",
    "words_as_items": f"count(*) FILTER ({match_word(['item'], MISSING)})",
    "types": "histogram(coalesce(type, ''))",
}
_NO_EVENTS: Json = dict.fromkeys(_COUNTS, 0) | {"first": None, "last": None, "types": {}}


def collect_days(folder: Path, ordered: Mapping[str, str], connection: Any) -> list[Json]:
    """Collect the facts of the days whose rows lie in a folder.

    Parameters
    ----------
    folder
        With ``events/day=…/part-….parquet``, and ``activity/day=…/part-….parquet`` where there is activity.
    ordered
        The ordered digest of each day's events, by its name (`endcap.events.days.DayWriter`).
    connection
        A DuckDB connection.

    Returns
    -------
    list of dict
        For each day in order: `day`; `events`, how many; `first`, `last`, their times (epoch ms, None without events);
        `test`, `without_session`, `without_customer`, `words_as_items`: how many of them; `types`, how many by type,
        None beyond `MOST_TYPES`; `activity`: rows; `files`, `activity_files`: names in the folder; `content`,
        `activity_content`: digests that count no order and no place; `key`, a fingerprint of the rows in their order.
    """
    columns = [name for name in EVENTS.names if name not in PLACE]
    events = {
        day: {"content": content, **dict(zip(_COUNTS, values, strict=True))}
        for day, content, values in _digest_days(folder / EVENTS_FOLDER, columns, list(_COUNTS.values()), connection)
    }
    activity = {
        day: {"activity_content": content, "activity": rows}
        for day, content, (rows,) in _digest_days(folder / ACTIVITY_FOLDER, ACTIVITY.names, ["count(*)"], connection)
    }
    days = []
    for day in sorted(events.keys() | activity.keys()):
        facts = {"content": add_digests([]), "activity_content": None, "activity": 0, **_NO_EVENTS}
        facts |= events.get(day, {}) | activity.get(day, {})
        facts["types"] = facts["types"] if len(facts["types"]) <= MOST_TYPES else None
        files, activity_files = (
            _list_files(folder, f"{name}/{DAY_PREFIX}{day}") for name in (EVENTS_FOLDER, ACTIVITY_FOLDER)
        )
        key = fingerprint("day", ordered.get(day), facts["activity_content"])
        days.append({"day": day, "key": key, **facts, "files": files, "activity_files": activity_files})
    return days


def merge_days(days: Sequence[Json]) -> Json:
    """Return what a snapshot says of all its days together, and the days themselves (`days`)."""
    first = [day["first"] for day in days if day["events"]]
    last = [day["last"] for day in days if day["events"]]
    events, test = (sum(day[name] for day in days) for name in ("events", "test"))
    facts: Json = {
        "events": events,
        "first": min(first, default=None),
        "last": max(last, default=None),
        "parts": {"train": events - test, "test": test},
        "words_as_items": sum(day["words_as_items"] for day in days),
        "content": add_digests(day["content"] for day in days),
        "days": list(days),
    }
    if any(day["activity"] for day in days):
        content = add_digests(day["activity_content"] for day in days if day["activity"])
        facts |= {
            "activity": {"rows": sum(day["activity"] for day in days)},
            "content": [facts["content"], content],
        }
    return facts


def merge_types(days: Sequence[Json]) -> dict[str, int] | None:
    """Return how many events of the days have each type, the empty text for none; None where a day has too many."""
    types: Counter[str] = Counter()
    for day in days:
        if day["types"] is None:
            return None
        types.update(day["types"])
    return dict(types)


def _digest_days(
    folder: Path, columns: Sequence[str], also: Sequence[str], connection: Any
) -> list[tuple[str, str, list[Any]]]:
    if not folder.is_dir():
        return []
    rows = f"read_parquet({quote_text(str(folder / '*' / '*.parquet'))}, hive_partitioning = false)"
    groups = digest_groups(connection, rows, columns, f"time // {DAY}", also)
    return [(format_day(day), content, values) for day, content, values in groups]


def _list_files(folder: Path, name: str) -> list[str]:
    """List a day's files in the order in which they were written."""
    place = folder / name
    files = place.iterdir() if place.is_dir() else ()
    return [f"{name}/{file.name}" for file in sorted(files, key=lambda file: int(file.stem.rpartition("-")[2]))]
