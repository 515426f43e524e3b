"""What a run of ingest could keep of what was there: a line for people, and the same as facts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Json = dict[str, Any]


def compare_days(days: Sequence[Json], before: Sequence[Json]) -> Json:
    """Count the days of a snapshot that are `new`, `changed` and `unchanged` against those of the one before, and the
    days that are `gone`."""
    keys, known = ({day["day"]: day["key"] for day in listed} for listed in (days, before))
    unchanged = sum(known.get(day) == key for day, key in keys.items())
    new = len(keys.keys() - known.keys())
    return {
        "days": len(keys),
        "new": new,
        "changed": len(keys) - new - unchanged,
        "unchanged": unchanged,
        "gone": len(known.keys() - keys.keys()),
    }


def count_read(days: Sequence[Json], before: Sequence[Json], read: Sequence[int]) -> Json:
    """Count the files that were `read`, and those of them that were read `again`: all their days are those of the
    snapshot before.

    Parameters
    ----------
    days, before
        The days of a snapshot and of the one before.
    read
        The files' numbers, as the days' `fed_by` has them.
    """
    known = {day["day"]: day["key"] for day in before}
    of_kept, of_others = (
        {file for day in days if (known.get(day["day"]) == day["key"]) is is_kept for file in day["fed_by"]}
        for is_kept in (True, False)
    )
    return {"read": len(read), "again": len(of_kept.difference(of_others).intersection(read))}


def format_reuse(reuse: Json) -> str:
    """Return the counts of `compare_days` and `count_read`, and how many files were `kept`, as a line."""
    gone = f", {reuse['gone']:,} gone" if reuse["gone"] else ""
    days = "day" if reuse["days"] == 1 else "days"
    files = "file" if reuse["read"] == 1 else "files"
    again = f", {reuse['again']:,} of them again with their neighbours" if reuse["again"] else ""
    kept = f"{reuse['unchanged']:,} kept{gone}"
    return (
        f"{reuse['days']:,} {days}: {reuse['new']:,} new, {reuse['changed']:,} changed, {kept} "
        f"({reuse['read']:,} {files} read{again}, {reuse['kept']:,} kept)"
    )
