"""Days whose rows come from several units, without the rows that these share."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from endcap.events.day_facts import DayOfUnit, collect_days, join_parts
from endcap.events.days import DAY_PREFIX, write_distinct_rows
from endcap.events.snapshot import EVENTS_FOLDER
from endcap.steps import STEPS
from endcap.store import Store, fingerprint, fingerprint_code

Json = dict[str, Any]


@dataclass(frozen=True)
class SharedDay:
    """A day whose rows come from several units.

    Attributes
    ----------
    day, key, events
        Its name, the key of its rows with those that are there twice, and how many there are.
    parts
        Its parts that have events, as a snapshot names them.
    counts
        How many files the unit of each part has.
    """

    day: str
    key: str
    events: int
    parts: Sequence[Json]
    counts: Sequence[int]

    def compute_key(self) -> str:
        """Fingerprint what its distinct rows depend on."""
        places = [[part["unit"], part["files"], count] for part, count in zip(self.parts, self.counts, strict=True)]
        return fingerprint("distinct", self.key, places, fingerprint_code(STEPS["ingest"].entry))


@dataclass(frozen=True)
class DistinctWriter:
    """Writes the distinct rows of days.

    Attributes
    ----------
    store, shop
        The store, and the name of the shop.
    staging
        A folder for files in the making.
    connection
        A DuckDB connection.
    """

    store: Store
    shop: str
    staging: Path
    connection: Any

    @property
    def kind(self) -> str:
        """The kind of the artifacts."""
        return f"parsed/{self.shop}"

    def write(self, day: SharedDay) -> Json:
        """Publish a day's distinct rows. Returns the facts: `days`, with the day, or empty if no rows are equal."""
        folder = self.staging / "distinct"
        place = folder / EVENTS_FOLDER / f"{DAY_PREFIX}{day.day}"
        place.mkdir(parents=True)
        files = [(self.store.fetch(part["unit"]) / name, part["unit"]) for part in day.parts for name in part["files"]]
        firsts: dict[str, int] = {}
        first = 0
        for part, count in zip(day.parts, day.counts, strict=True):
            if part["unit"] not in firsts:
                firsts[part["unit"]] = first
                first += count
        ordered = write_distinct_rows(
            [file for file, _ in files], place, self.connection, [firsts[unit] for _, unit in files]
        )
        days = collect_days(folder, {day.day: ordered}, self.connection)
        if days[0]["events"] == day.events:
            days = []
        with self.store.publish(self.kind, day.compute_key()) as draft:
            if days:
                shutil.move(folder / EVENTS_FOLDER, draft.path / EVENTS_FOLDER)
            draft.facts["days"] = days
        shutil.rmtree(folder)
        return {"days": days}


def drop_shared_rows(
    days: Sequence[Json],
    counts: Mapping[str, int],
    writer: DistinctWriter,
    write: Callable[[Sequence[SharedDay]], Sequence[Json]],
) -> list[Json]:
    """Return days without the rows that a part shares with an earlier part; as they are if there are none.

    Parameters
    ----------
    days
        As a snapshot names them.
    counts
        How many files each unit has, by its address.
    writer
        Says where the distinct rows of days lie, which are kept for later snapshots.
    write
        Writes the days that are not there yet, as `DistinctWriter.write` does.
    """
    shared, facts = {}, {}
    for day in days:
        parts = [part for part in day["parts"] if part["files"]]
        if len(parts) < 2:
            continue
        entry = SharedDay(day["day"], day["key"], day["events"], parts, [counts[part["unit"]] for part in parts])
        shared[entry.day] = entry
        if address := writer.store.find(writer.kind, entry.compute_key()):
            facts[entry.day] = writer.store.manifest(address)["facts"]
    missing = [day for name, day in shared.items() if name not in facts]
    facts |= dict(zip((day.day for day in missing), write(missing), strict=True))
    return [_join(day, shared[day["day"]], facts[day["day"]], writer) if day["day"] in shared else day for day in days]


def _join(day: Json, shared: SharedDay, facts: Json, writer: DistinctWriter) -> Json:
    if not facts["days"]:
        return day
    (merged,) = facts["days"]
    address = f"{writer.kind}/{shared.compute_key()}"
    joined = join_parts(day["day"], [DayOfUnit(address, shared.parts[0]["first_file"], merged)])
    activity = [{**part, "files": []} for part in day["parts"] if part["activity"]]
    kept = {name: day[name] for name in ("activity", "activity_content", "fed_by")}
    return {**joined, **kept, "key": fingerprint("distinct", day["key"]), "parts": [*joined["parts"], *activity]}
