"""A step's line about its result: short counts, with what was left out and what matches nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from endcap.description.tables import format_share

Json = Mapping[str, Any]
SHOWN_EQUAL = 0.001
"""The share of neighbours at equal times from which the line says it."""


def summarize_ingest(facts: Json, *, files: int) -> str:
    """Summarize a snapshot by its facts. files: the number of skipped files of its sources."""
    bad = sum(n for counts in facts.get("bad", {}).values() for n in counts.values())
    left_out = sum(map(Counter, facts.get("left_out", {}).values()), Counter[str]())
    parts = [f"{facts['events']:,} events", f"{bad:,} bad rows set aside"]
    if left_out:
        rules = ", ".join(f"{name} {n:,}" for name, n in left_out.most_common())
        parts.append(f"{left_out.total():,} rows left out ({rules})")
    parts += [f"{files:,} file{'' if files == 1 else 's'} left out"] if files else []
    return ", ".join(parts)


def summarize_sql(facts: Json) -> str:
    """Summarize the rows of a step of SQL by its facts: how many, of which columns and days, out of what."""
    names = [column["name"] for column in facts["columns"]]
    parts = [f"{facts['rows']:,} rows of {len(names)} columns ({', '.join(names)})"]
    if days := facts.get("days"):
        parts.append(f"{days['count']:,} days")
    sources = ", ".join(_describe_input(name, source) for name, source in facts["inputs"].items())
    bad = sum(n for source in facts["inputs"].values() for n in source.get("bad", {}).values())
    parts += [f"out of {sources}"] if sources else []
    parts += [f"{bad:,} lines that are no rows left out"] if bad else []
    return ", ".join(parts)


def _describe_input(name: str, source: Json) -> str:
    if "files" not in source:
        return name
    kind, count = "part" if source["path"].startswith("bigquery:") else "file", len(source["files"])
    return f"{name} ({count:,} {kind}{'' if count == 1 else 's'})"


def summarize_features(facts: Json, description: Json | None) -> str:
    """Summarize a dataset by its facts and its description (None: there is none), which says more."""
    line = f"{facts['sessions']:,} sessions, {facts['events']:,} events, {facts['items']:,} items"
    if description is None:
        return line
    items, parts = description["data"]["items"], []
    if items["table"] is not None and items["table"]["missing"]:
        parts.append(
            f"{items['table']['missing']:,} of {items['table']['ids']:,} items without a row in the item table"
        )
    blacklist = (description.get("rules") or {}).get("blacklist")
    if blacklist and blacklist["missing"]:
        parts.append(f"{blacklist['missing']:,} of {blacklist['ids']:,} blacklisted ids match no item")
    data, dropped = description["data"], sum(description["sessions"]["dropped"].values())
    if dropped:
        parts.append(f"{dropped:,} events dropped")
    equal, pairs = (description["sessions"][name] for name in ("equal_times", "transitions"))
    if equal >= SHOWN_EQUAL * pairs > 0:
        parts.append(f"{format_share(equal, pairs)} of neighbours at equal times")
    if data["anonymous"] and data["anonymous"] < data["events"]:
        parts.append(f"{data['anonymous'] / data['events']:.1%} of the events without customer")
    return "; ".join([line, *parts])
