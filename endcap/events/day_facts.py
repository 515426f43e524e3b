"""What is known of each day of a snapshot without reading its rows: how many events, of which types, and digests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
_SUMS = ("events", "test", "without_session", "without_customer", "words_as_items", "activity")


@dataclass(frozen=True)
class DayOfUnit:
    """The rows of a day in a unit: the unit's address as kind and key, the place of its first file among all files of
    events, and the facts of the day as `collect_days` returns them."""

    unit: str | None
    first_file: int
    facts: Json


def collect_days(
    folder: Path, ordered: Mapping[str, str], connection: Any, fed_by: Mapping[str, Sequence[int]] = {}
) -> list[Json]:
    """Collect the facts of the days whose rows lie in a folder.

    Parameters
    ----------
    folder
        With ``events/day=…/part-….parquet``, and ``activity/day=…/part-….parquet`` where there is activity.
    ordered
        The ordered digest of each day's events, by its name (`endcap.events.days.DayWriter`).
    connection
        A DuckDB connection.
    fed_by
        The numbers of the files that each day's rows are of, by its name.

    Returns
    -------
    list of dict
        For each day in order: `day`; `events`, how many; `first`, `last`, their times (epoch ms, None without events);
        `test`, `without_session`, `without_customer`, `words_as_items`: how many of them; `types`, how many by type,
        None beyond `MOST_TYPES`; `fed_by`, the numbers of the files that its rows are of; `activity`: rows; `files`,
        `activity_files`: names in the folder; `content`, `activity_content`: digests that count no order and no place;
        `key`, a fingerprint of the rows in their order.
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
        facts["fed_by"] = list(fed_by.get(day, ()))
        files, activity_files = (
            _list_files(folder, f"{name}/{DAY_PREFIX}{day}") for name in (EVENTS_FOLDER, ACTIVITY_FOLDER)
        )
        key = fingerprint("day", ordered.get(day), facts["activity_content"])
        days.append({"day": day, "key": key, **facts, "files": files, "activity_files": activity_files})
    return days


def join_parts(day: str, parts: Sequence[DayOfUnit]) -> Json:
    """Return what a snapshot says of a day: its facts, of all its parts together, and where each part lies.

    Parameters
    ----------
    day
        Its name.
    parts
        Its rows in the units that have some, in the order of their files.

    Returns
    -------
    dict
        The facts of `collect_days`, and in place of the names of files `parts`: for each the address of its `unit` as
        kind and key (None: the snapshot itself), the place of its first file among all files of events (`first_file`),
        the names of its `files` and of those of its `activity`. `fed_by` counts all files of events.
    """
    facts = [part.facts for part in parts]
    activity = [part["activity_content"] for part in facts if part["activity"]]
    return {
        "day": day,
        "key": fingerprint("day", [part["key"] for part in facts]),
        "content": add_digests(part["content"] for part in facts),
        "activity_content": add_digests(activity) if activity else None,
        "first": min((part["first"] for part in facts if part["events"]), default=None),
        "last": max((part["last"] for part in facts if part["events"]), default=None),
        "types": merge_types(facts),
        "fed_by": sorted({file + part.first_file for part in parts for file in part.facts["fed_by"]}),
        **{name: sum(part[name] for part in facts) for name in _SUMS},
        "parts": [
            {
                "unit": part.unit,
                "first_file": part.first_file,
                "files": part.facts["files"],
                "activity": part.facts["activity_files"],
            }
            for part in parts
        ],
    }


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
    """Return how many events of the days have each type, the empty text for none; None if there are too many."""
    types: Counter[str] = Counter()
    for day in days:
        if day["types"] is None:
            return None
        types.update(day["types"])
    return dict(types) if len(types) <= MOST_TYPES else None


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
