"""Days whose rows come from several units, without the rows that these share."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from endcap.events.day_facts import DayOfUnit, collect_days, join_parts
from endcap.events.days import DAY_PREFIX, write_distinct_rows
from endcap.events.snapshot import EVENTS_FOLDER
from endcap.steps import STEPS
from endcap.store import Store, fingerprint, fingerprint_code

Json = dict[str, Any]


@dataclass
class DistinctDays:
    """Merges the parts of days that share rows. What was merged is kept for later snapshots.

    Attributes
    ----------
    store, shop
        The store, and the name of the shop.
    staging
        A folder for files in the making.
    connection
        A DuckDB connection.
    counts
        How many files each unit has, by its address.
    """

    store: Store
    shop: str
    staging: Path
    connection: Any
    counts: Mapping[str, int]

    def merge(self, day: Json) -> Json:
        """Return a day without the rows that a part of it shares with an earlier one; as it is if there are none."""
        parts = [part for part in day["parts"] if part["files"]]
        if len(parts) < 2:
            return day
        kind = f"parsed/{self.shop}"
        places = [[part["unit"], part["files"], self.counts[part["unit"]]] for part in parts]
        key = fingerprint("distinct", day["key"], places, fingerprint_code(STEPS["ingest"].entry))
        address = self.store.find(kind, key)
        facts = self.store.manifest(address)["facts"] if address else self._write(day, parts, kind, key)
        if not facts["days"]:
            return day
        (merged,) = facts["days"]
        joined = join_parts(day["day"], [DayOfUnit(f"{kind}/{key}", parts[0]["first_file"], merged)])
        activity = [{**part, "files": []} for part in day["parts"] if part["activity"]]
        kept = {name: day[name] for name in ("activity", "activity_content", "fed_by")}
        return {**joined, **kept, "key": fingerprint("distinct", day["key"]), "parts": [*joined["parts"], *activity]}

    def _write(self, day: Json, parts: Sequence[Json], kind: str, key: str) -> Json:
        folder = self.staging / "distinct"
        place = folder / EVENTS_FOLDER / f"{DAY_PREFIX}{day['day']}"
        place.mkdir(parents=True)
        files = [(self.store.fetch(part["unit"]) / name, part["unit"]) for part in parts for name in part["files"]]
        firsts: dict[str, int] = {}
        for part in parts:
            firsts.setdefault(part["unit"], sum(self.counts[unit] for unit in firsts))
        ordered = write_distinct_rows(
            [file for file, _ in files], place, self.connection, [firsts[unit] for _, unit in files]
        )
        days = collect_days(folder, {day["day"]: ordered}, self.connection)
        if days[0]["events"] == day["events"]:
            days = []
        with self.store.publish(kind, key) as draft:
            if days:
                shutil.move(folder / EVENTS_FOLDER, draft.path / EVENTS_FOLDER)
            draft.facts["days"] = days
        shutil.rmtree(folder)
        return {"days": days}
