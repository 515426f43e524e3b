"""Coded days as artifacts: what was coded for an earlier dataset is found again."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

from endcap.cpus import read_cpu_limit
from endcap.errors import IntegrityError
from endcap.events.snapshot_days import DayPart
from endcap.features.daily.coded_day import FILE, CodedDay
from endcap.features.daily.coding import CodingSettings, Cut, code_day
from endcap.store import Store, check_artifact, fingerprint, fingerprint_code

Json = dict[str, Any]
KIND = "coded"
_CODE = "endcap.features.daily.coding:code_day"
Origin = Literal["kept", "new", "cut", "damaged"]
"""kept: found; new: its rows were not coded before with these settings; cut: not found, and the window begins or ends
within the day; damaged: the kept one differs from its checksums."""


@dataclass(frozen=True)
class KeptDays:
    """Keeps the coded days of a shop in a store."""

    store: Store
    shop: str
    settings: CodingSettings

    def code(self, days: Sequence[tuple[DayPart, Cut]]) -> tuple[list[CodedDay], Json]:
        """Find or code days, several at once; the second value says how many were kept, and why others were not."""
        code = fingerprint_code(_CODE)
        with ThreadPoolExecutor(read_cpu_limit()) as threads:
            coded = list(threads.map(lambda day: self._code(day[0], day[1], code), days))
        origins = Counter(origin for _, origin in coded)
        kept = origins.pop("kept", 0)
        return [day for day, _ in coded], {"days": len(days), "kept": kept, "coded": dict(sorted(origins.items()))}

    def _code(self, day: DayPart, cut: Cut, code: str) -> tuple[CodedDay, Origin]:
        kind = f"{KIND}/{self.shop}"
        origin: Origin = "new" if cut.begin is None and cut.end is None else "cut"
        for attempt in itertools.count():
            # An artifact cannot be replaced, so what takes the place of a damaged one has a key of its own.
            key = fingerprint(day.key, cut.begin, cut.end, self.settings.key(), code, attempt)
            address = self.store.find(kind, key)
            if address is None:
                break
            try:
                return self._open_kept(address), "kept"
            except IntegrityError:
                origin = "damaged"
        with self.store.publish(kind, key) as draft:
            code_day(day, cut, self.settings).write(draft.path / FILE)
            draft.facts |= {"day": day.day, "day_key": day.key}
        return CodedDay.open(self.store.fetch(draft.address) / FILE), origin

    def _open_kept(self, address: str) -> CodedDay:
        """Open what an earlier run coded. Raises IntegrityError if it is damaged."""
        folder = self.store.fetch(address)
        # Not `fetch` with `verify`, which downloads every file of a bucket again.
        check_artifact(folder, self.store.manifest(address), name=address)
        return CodedDay.open(folder / FILE)


def describe_reuse(reuse: Json) -> str:
    """Say in a line how many days were kept and coded, such as "57 days: 1 coded (1 new), 56 kept"."""
    coded = sum(reuse["coded"].values())
    reasons = ", ".join(f"{count} {origin}" for origin, count in reuse["coded"].items())
    days = f"{reuse['days']:,} day{'' if reuse['days'] == 1 else 's'}"
    return f"{days}: {coded:,} coded{f' ({reasons})' if reasons else ''}, {reuse['kept']:,} kept"
