"""Parse the units of a log that the store does not have yet, each into an artifact of its rows by day."""

from __future__ import annotations

import functools
import shutil
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from endcap.events.day_facts import collect_days
from endcap.events.days import DAY, DayWriter, drop_duplicates, format_day
from endcap.events.event_mapping import list_event_columns, map_events
from endcap.events.forget_list import NOBODY, ForgetList, keep_by_outcome
from endcap.events.parsed_units import Unit, compute_unit_key
from endcap.events.snapshot import ACTIVITY, ACTIVITY_FOLDER, EVENTS, EVENTS_FOLDER, QUARANTINE
from endcap.sources.find import prepare_parts
from endcap.sources.load import Loader, Progress
from endcap.sources.pseudonymised_rows import find_row_pseudonyms
from endcap.sources.quarantine import Quarantine
from endcap.sources.values.clock import make_clock
from endcap.sources.values.times import IN_FUTURE
from endcap.spec.shop import Shop
from endcap.store import Store, fingerprint, get_content_key

Json = dict[str, Any]
TABLE = "events"


@dataclass(frozen=True)
class ParsedUnit:
    """A unit whose rows are in the store: its address as kind and key, its facts, and whether they were there."""

    unit: Unit
    address: str
    facts: Json
    is_kept: bool


@dataclass
class UnitReader:
    """Parses units one after the other.

    Attributes
    ----------
    shop, store
        The shop's spec, and the store that keeps its units.
    staging
        A folder for files in the making.
    bad_rows
        A folder in which the bad rows of a unit lie while it is parsed, and stay if too many are bad.
    connection
        The DuckDB connection that reads.
    progress
        Takes a line now and then.
    now
        The present, epoch ms. Later times are bad.
    keeps_bad_rows
        Whether the folder of bad rows remains after an error. Otherwise the error itself names the first of them.
    forgotten
        Customers whose rows are left out.
    """

    shop: Shop
    store: Store
    staging: Path
    bad_rows: Path
    connection: Any
    progress: Progress
    now: int
    keeps_bad_rows: bool = True
    forgotten: ForgetList = NOBODY
    _rows: int = field(default=0, init=False)

    def parse(self, units: Sequence[Unit]) -> Iterator[ParsedUnit]:
        """Parse units that the store does not have, and yield them in their order.

        While one is written to the store, the next is read.

        Raises
        ------
        DataError
            If a unit cannot be read, or so many of its rows are bad that the rest will not help.
        """
        # A limit of bytes counts the parts of all tables that will be read.
        prepare_parts((part for unit in units for part in unit.files), self.progress)
        with ThreadPoolExecutor(1) as writing:
            last: Future[ParsedUnit] | None = None
            for number, unit in enumerate(units):
                finish = self._prepare(unit, number)
                if last is not None:
                    yield last.result()
                last = writing.submit(finish)
            if last is not None:
                yield last.result()

    def find(self, unit: Unit) -> ParsedUnit | None:
        """Find a unit whose rows are in the store; None if they are not."""
        address = self.store.find(f"parsed/{self.shop.name}", compute_unit_key(self.shop, unit, self.forgotten))
        if address is None:
            return None
        return ParsedUnit(unit, get_content_key(address), self.store.manifest(address)["facts"], True)

    def _prepare(self, unit: Unit, number: int) -> functools.partial[ParsedUnit]:
        """Read a unit. What remains to be done is returned."""
        kind, key = f"parsed/{self.shop.name}", compute_unit_key(self.shop, unit, self.forgotten)
        folder = self.staging / f"unit-{number}"
        folder.mkdir()
        bad_rows = self.bad_rows / f"unit-{number}.{QUARANTINE}"
        with ExitStack() as stack:
            limit, rule = self.shop.events.max_bad_share, self.shop.events.time
            quarantine = stack.enter_context(Quarantine(bad_rows, limit, rule, is_kept=self.keeps_bad_rows))
            events = stack.enter_context(DayWriter(folder / EVENTS_FOLDER, EVENTS))
            activity = stack.enter_context(DayWriter(folder / ACTIVITY_FOLDER, ACTIVITY))
            loader = Loader(
                TABLE,
                self.connection,
                quarantine,
                self.progress,
                make_clock(rule.zone),
                words=self.shop.events.null_values,
                rows=self._rows,
                sources=unit.number,
                is_partial=True,
                hides=self.forgotten.covers_text if self.forgotten else None,
                pseudonyms=find_row_pseudonyms(self.shop),
            )
            facts = self._read(unit, loader, events, activity)
            self._rows = loader.rows
            return functools.partial(
                self._publish,
                unit,
                (kind, key),
                folder,
                bad_rows,
                facts,
                (quarantine, events, activity),
                stack.pop_all(),
            )

    def _read(self, unit: Unit, loader: Loader, events: DayWriter, activity: DayWriter) -> Json:
        """Give a unit's rows to the writers. Returns its facts as far as they are known then."""
        shop, source, learnt = self.shop, unit.source, 0
        make_mapping = functools.partial(map_events, shop, source, now=self.now, forgotten=self.forgotten)
        columns = list_event_columns(shop, source)
        fed: defaultdict[str, set[int]] = defaultdict(set)

        def note_days(rows: pa.Table) -> None:
            for day in np.unique(rows["time"].to_numpy() // DAY):
                fed[format_day(int(day))].add(loader.file)

        def add_activity(rows: pa.Table) -> None:
            if rows.num_rows:
                note_days(rows)
                named = [rows["customer"], rows["time"], pa.repeat(source.part, rows.num_rows)]
                activity.add(pa.table(named, names=ACTIVITY.names).cast(ACTIVITY))

        for rows in loader.load(source, unit.files, columns, make_mapping, source.layout, add_activity):
            learnt += rows.num_rows if shop.kept_types == shop.events.types else count_types(rows, shop.events.types)
            note_days(rows)
            events.add(_add_columns(rows, source.part, loader))
        names = [file.name for file in unit.files]
        return {
            "files": names,
            "empty": [names.index(name) for name in loader.empty],
            "learnt": learnt,
            "missing": dict(loader.missing),
            "present": sorted(loader.present_columns),
            "never_seen": None if loader.never_seen is None else sorted(loader.never_seen),
            "paths": loader.paths,
            "values": {name: counts.most_common() for name, counts in loader.values.items()} if not events.rows else {},
            "times": {
                "ambiguous": loader.clock.ambiguous if loader.clock else 0,
                "shifted": loader.clock.shifted if loader.clock else 0,
            },
            "fed_by": {day: sorted(files) for day, files in fed.items()},
        }

    def _publish(
        self,
        unit: Unit,
        place: tuple[str, str],
        folder: Path,
        bad_rows: Path,
        facts: Json,
        writers: tuple[Quarantine, DayWriter, DayWriter],
        stack: ExitStack,
    ) -> ParsedUnit:
        """Write the rest of a unit's rows, and publish it."""
        (kind, key), (quarantine, events, activity) = place, writers
        with stack:
            ordered = events.close()
            activity.close()
        with self.connection.cursor() as connection:
            if self.shop.events.drop_duplicates and events.rows:
                ordered |= drop_duplicates(events.folder, connection)
            days = collect_days(folder, ordered, connection, facts.pop("fed_by"))
        facts |= {"written": events.rows, "days": days, "quarantine": quarantine.export(TABLE)}
        key = keep_by_outcome(self.store, self.shop.name, key, facts["quarantine"], self.forgotten)
        if IN_FUTURE in facts["quarantine"]["bad"]:
            # Another day these rows will be good: the unit is kept by its outcome, and its files are read again.
            key = fingerprint(key, days, quarantine.digest)
        with self.store.publish(kind, key) as draft:
            for name in (EVENTS_FOLDER, ACTIVITY_FOLDER):
                if (folder / name).is_dir():
                    shutil.move(folder / name, draft.path / name)
            shutil.move(bad_rows, draft.path / QUARANTINE)
            draft.facts |= facts
        shutil.rmtree(folder)
        # A copy of the same files may have been published meanwhile, whose names its quarantine has.
        return ParsedUnit(unit, f"{kind}/{key}", self.store.manifest(draft.address)["facts"], False)


def count_types(rows: pa.Table, types: Sequence[str] | None) -> int:
    """Count the rows of some types."""
    return int(pc.sum(pc.is_in(rows["type"], pa.array(types, pa.string()))).as_py() or 0)


def _add_columns(rows: pa.Table, part: str, loader: Loader) -> pa.Table:
    """Return rows as events, with their part and the place where they were read."""
    columns = {name: rows[name] for name in EVENTS.names if name in rows.schema.names}
    columns["part"] = pa.repeat(part, rows.num_rows)
    if loader.has_places:
        columns["file"] = pa.repeat(pa.scalar(loader.file, pa.int32()), rows.num_rows)
        columns["position"] = pc.subtract(rows["row"], loader.first_row)
    for name in ("sequence", "file", "position"):
        columns.setdefault(name, pa.nulls(rows.num_rows, pa.int64()))
    return pa.table(columns).select(EVENTS.names).cast(EVENTS)
