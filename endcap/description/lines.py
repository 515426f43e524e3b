"""A step's line on what it made of the data: short counts of what was left out and of what matches nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Json = Mapping[str, Any]


def ingest_line(facts: Json, *, files: int) -> str:
    """On a snapshot, by its facts. files: of the sources that were left out."""
    bad, left_out = (
        sum(n for counts in facts.get(name, {}).values() for n in counts.values()) for name in ("bad", "left_out")
    )
    parts = [f"{facts['events']:,} events", f"{bad:,} bad rows set aside"]
    parts += [f"{left_out:,} rows left out by rules"] if left_out else []
    parts += [f"{files:,} file{'' if files == 1 else 's'} left out"] if files else []
    return ", ".join(parts)


def features_line(facts: Json, description: Json | None) -> str:
    """On a dataset, by its facts and the description of its data (None: it could not be made)."""
    line = f"{facts['sessions']:,} sessions, {facts['events']:,} events, {facts['items']:,} items"
    if description is None:
        return line
    items, parts = description["data"]["items"], []
    if items["table"] is not None and items["table"]["missing"]:
        parts.append(
            f"{items['table']['missing']:,} of {items['table']['ids']:,} items without a row in the item table"
        )
    listed = (description.get("rules") or {}).get("blacklist")
    if listed and listed["missing"]:
        parts.append(f"{listed['missing']:,} of {listed['ids']:,} blacklisted ids match no item")
    return "; ".join([line, *parts])
