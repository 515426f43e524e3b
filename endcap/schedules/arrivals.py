"""What came since a schedule's run before: the listing of that run, kept in the store, beside the present one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from itertools import islice

from endcap.events.data_version import DataListing
from endcap.schedules.ledger import name_ledger
from endcap.schedules.ledger_records import DataArrival
from endcap.store import Store, fingerprint

MOST_PARTS = 1_000
"""Listings of more parts are compared by folders, and those of more folders not at all."""
MOST_NAMES, MOST_DAYS = 20, 31
"""So many are handed on."""
_KEYS = re.compile(r"\b(?:year|month|day|hour|date|dt|y|m|d)=", re.IGNORECASE)
_DAY = re.compile(r"(?<!\d)(\d{4})([-_/]?)(\d{2})\2(\d{2})(?:\d{2}|\d{6})?(?!\d)")


def find_arrival(store: Store, recommender: str, part: str, listing: DataListing) -> DataArrival | None:
    """Find what came since the schedule's run before.

    Parameters
    ----------
    store, recommender, part
        The schedule's ledger, as in `endcap.schedules.ledger.read_ledger`.
    listing
        The present listing.

    Returns
    -------
    DataArrival or None
        Of the first run, all that is there. None if there is nothing to compare: data without parts, or too many.
    """
    now = condense_listing(listing.parts)
    if not now:
        return None
    before = (store.read_document(_name_listing(recommender, part)) or {}).get("parts", {})
    added = sorted(now.keys() - before.keys())
    changed = sorted(name for name in now.keys() & before.keys() if now[name] != before[name])
    names = [*added, *changed]
    return DataArrival(
        added=len(added),
        changed=len(changed),
        removed=len(before.keys() - now.keys()),
        names=tuple(names[:MOST_NAMES]),
        days=tuple(islice(sorted(set(list_days(names))), MOST_DAYS)),
    )


def keep_listing(store: Store, recommender: str, part: str, listing: DataListing) -> None:
    """Keep the listing of a run that was started, for the next one."""
    store.write_document(_name_listing(recommender, part), {"parts": condense_listing(listing.parts)})


def condense_listing(parts: Mapping[str, str]) -> dict[str, str]:
    """Condense a listing to at most `MOST_PARTS` names with a short mark each: parts, else their folders, else none."""
    if len(parts) <= MOST_PARTS:
        return {name: fingerprint("part", mark)[:8] for name, mark in parts.items()}
    folders: dict[str, list[tuple[str, str]]] = {}
    for name, mark in sorted(parts.items()):
        folders.setdefault(f"{name.rpartition('/')[0]}/", []).append((name, mark))
    if len(folders) > MOST_PARTS:
        return {}
    return {name: fingerprint("folder", members)[:8] for name, members in folders.items()}


def list_days(names: Iterable[str]) -> Iterator[str]:
    """List the days in names of files, folders and partitions, such as day=2026-03-01, 2026/03/01 or 20260301."""
    for name in names:
        for year, _, month, day in _DAY.findall(_KEYS.sub("", name)):
            try:
                yield date(int(year), int(month), int(day)).isoformat()
            except ValueError:
                continue


def _name_listing(recommender: str, part: str) -> str:
    return f"{name_ledger(recommender, part)}/listing"
