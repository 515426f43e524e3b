"""Snapshots of releases that listed no days: what their files tell of each day."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from endcap.events.days import DAY_PREFIX
from endcap.store import fingerprint

Json = dict[str, Any]
ACTIVITY_FILE = "activity.parquet"


def read_older_days(folder: Path, files: Mapping[str, Json]) -> list[Json]:
    """Read the days of an older snapshot, as the facts of a present one list them.

    Parameters
    ----------
    folder
        The snapshot's folder.
    files
        The files of its manifest.

    Notes
    -----
    Its activity lay in one file, which is listed with the first day. Its events have no places.
    """
    by_day: dict[str, list[str]] = {}
    for name in sorted(files):
        if name.startswith(f"events/{DAY_PREFIX}"):
            by_day.setdefault(name.split("/")[1].removeprefix(DAY_PREFIX), []).append(name)
    days = [_describe_day(folder, day, names, files) for day, names in by_day.items()]
    if days and ACTIVITY_FILE in files:
        days[0]["activity"] = pq.read_metadata(folder / ACTIVITY_FILE).num_rows
        days[0]["parts"][0]["activity"] = [ACTIVITY_FILE]
    return days


def _describe_day(folder: Path, day: str, names: list[str], files: Mapping[str, Json]) -> Json:
    tables = [pq.read_table(folder / name, columns=["session", "customer", "time", "part"]) for name in names]
    times = [pc.min_max(table["time"]).as_py() for table in tables if table.num_rows]
    return {
        "day": day,
        "key": fingerprint("older day", [files[name]["sha256"] for name in names]),
        "events": sum(table.num_rows for table in tables),
        "first": min((time["min"] for time in times), default=None),
        "last": max((time["max"] for time in times), default=None),
        "test": sum(pc.sum(pc.equal(table["part"], "test")).as_py() or 0 for table in tables),
        "without_session": sum(table["session"].null_count for table in tables),
        "without_customer": sum(table["customer"].null_count for table in tables),
        "types": None,
        "activity": 0,
        "parts": [{"unit": None, "first_file": 0, "files": names, "activity": []}],
    }
