"""A snapshot's events: the rows of its units by day, and the facts of its manifest."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

from endcap.errors import DataError
from endcap.events.day_facts import DayOfUnit, join_parts, merge_days
from endcap.events.distinct_days import DistinctWriter, drop_shared_rows
from endcap.events.event_mapping import OTHER_TYPES, RETURNS, list_event_columns
from endcap.events.forget_list import FORGOTTEN, NOBODY, ForgetList
from endcap.events.ingest_engine import IngestEngine, read_units
from endcap.events.parsed_units import Unit, group_units
from endcap.events.snapshot import EVENTS, QUARANTINE
from endcap.events.unit_reading import ParsedUnit, UnitReader
from endcap.sources.column_mapping import WITHOUT_ITEM
from endcap.sources.load import Loader, check_columns
from endcap.sources.parts import SourcePart
from endcap.spec.event_log import EventSource
from endcap.spec.shop import Shop
from endcap.spec.source import SourceSpec
from endcap.store import Store

Json = dict[str, Any]
Files = Sequence[tuple[SourceSpec, Sequence[SourcePart], Sequence[str]]]
"""Sources with their files and the digests of these."""


def write_events(
    shop: Shop,
    files: Files,
    store: Store,
    staging: Path,
    loader: Loader,
    engine: IngestEngine,
    forgotten: ForgetList = NOBODY,
) -> Json:
    """Keep a log's rows in the store, by units of its files, and describe its days.

    Parameters
    ----------
    shop
        The shop's spec.
    files
        The sources of events with their files.
    store
        The store that keeps units.
    staging
        A folder for files in the making. The folder above it keeps bad rows if too many are bad.
    loader
        Reads, and takes what is known of all rows.
    engine
        Has units parsed.
    forgotten
        Customers whose rows are left out.

    Returns
    -------
    dict
        The facts of the events for the snapshot's manifest, and `units`: `read`, the numbers of the files that were
        read, and `kept`, how many were not.

    Raises
    ------
    DataError
        If too many rows are bad, or no event remains to learn from.

    Notes
    -----
    The snapshot keeps events of types that models learn from, and of types that make an item a customer's. Rows that a
    rule leaves out and that are still a shopper's activity are kept apart from them.
    """
    reader = UnitReader(
        shop,
        store,
        staging,
        staging.parent,
        loader.connection,
        loader.progress,
        int(time.time() * 1000),
        forgotten=forgotten,
    )
    learnt = written = 0
    ambiguous = shifted = 0
    parsed: list[ParsedUnit] = []
    for unit in read_units(_list_units(files), reader, engine):
        parsed.append(unit)
        _merge_unit(unit, store, loader)
        learnt, written = learnt + unit.facts["learnt"], written + unit.facts["written"]
        ambiguous, shifted = (
            total + unit.facts["times"][name] for total, name in ((ambiguous, "ambiguous"), (shifted, "shifted"))
        )
        loader.quarantine.check(loader.table, end=False)
    _check_columns(shop, files, parsed, loader)
    loader.quarantine.check(loader.table, end=True)
    if not learnt:
        raise _no_event_error(shop, files, loader, written)
    by_day: dict[str, list[DayOfUnit]] = {}
    for unit in parsed:
        for day in unit.facts["days"]:
            by_day.setdefault(day["day"], []).append(DayOfUnit(unit.address, unit.unit.first_file, day))
    days = [join_parts(day, by_day[day]) for day in sorted(by_day)]
    if shop.events.drop_duplicates:
        counts = {unit.address: len(unit.unit.files) for unit in parsed}
        writer = DistinctWriter(store, shop.name, staging, loader.connection)
        days = drop_shared_rows(days, counts, writer, lambda missing: engine.write_distinct(missing, writer))
    facts = merge_days(days)
    read = [
        unit.unit.first_file + place for unit in parsed if not unit.is_kept for place in range(len(unit.unit.files))
    ]
    return facts | {
        "schema": {name: str(kind) for name, kind in zip(EVENTS.names, EVENTS.types, strict=True)},
        "rows": loader.quarantine.count_rows(loader.table),
        "duplicates": written - facts["events"],
        "empty_files": loader.empty,
        "missing": dict(loader.missing),
        "times": {"ambiguous": ambiguous, "shifted": shifted},
        "units": {"read": read, "kept": sum(len(unit.unit.files) for unit in parsed) - len(read)},
    }


def _list_units(files: Files) -> list[Unit]:
    units: list[Unit] = []
    first_file = 0
    for number, (source, parts, digests) in enumerate(files):
        units += group_units(cast(EventSource, source), number, parts, digests, first_file)
        first_file += len(parts)
    return units


def _merge_unit(parsed: ParsedUnit, store: Store, loader: Loader) -> None:
    """Add what is known of a unit's rows to what is known of all."""
    facts, files = parsed.facts, parsed.unit.files
    names = {then: file.name for then, file in zip(facts["files"], files, strict=True)}
    bad = facts["quarantine"]["bad"]
    file = store.fetch(parsed.address, names=[QUARANTINE]) / QUARANTINE if bad else Path()
    loader.quarantine.merge(loader.table, facts["quarantine"], file, names)
    loader.empty += [files[place].name for place in facts["empty"]]
    loader.missing += Counter(facts["missing"])
    loader.present_columns |= set(facts["present"])
    for name, counts in facts["values"].items():
        loader.values.setdefault(name, Counter()).update(dict(counts))


def _check_columns(shop: Shop, files: Files, parsed: Iterable[ParsedUnit], loader: Loader) -> None:
    """Raise DataError if a column that the shop names has no value in a source, or that of a return in none."""
    by_source: dict[int, list[Json]] = {}
    for unit in parsed:
        by_source.setdefault(unit.unit.number, []).append(unit.facts)
    for number, facts in by_source.items():
        source = cast(EventSource, files[number][0])
        loader.sources = number
        never = [set(unit["never_seen"]) for unit in facts if unit["never_seen"] is not None]
        columns = loader.list_columns(source, list_event_columns(shop, source))
        check_columns(source, columns, set.intersection(*never) if never else None, facts[-1]["paths"])
    absent = [name for name in shop.events.returns if name not in loader.present_columns]
    if absent and loader.quarantine.count_rows(loader.table):
        paths = [source.path for source, _, _ in files]
        raise DataError(
            f"{', '.join(paths)}: no file has {', '.join(map(repr, absent))} ({RETURNS}); name the right column",
            code="events.column-empty",
            path=paths[0],
            columns=dict.fromkeys(absent, RETURNS),
        )


def _no_event_error(shop: Shop, files: Files, loader: Loader, owned_events: int) -> DataError:
    """The error that says which rules left out how many rows. kept: events that only make an item a customer's."""
    excluded, total = (
        loader.quarantine.left_out.get(loader.table, Counter()),
        loader.quarantine.count_rows(loader.table),
    )
    names = ", ".join(source.path for source, _, _ in files)
    reasons = {
        "where": "do not fit the `where` of their source",
        "returns": f"fit a condition of {RETURNS}",
        OTHER_TYPES: f"are of other types than {shop.kept_types} (events.types)",
        WITHOUT_ITEM: "are about no item",
        "without_customer": "name no customer, which `sessions: {by: gap}` needs",
        FORGOTTEN: "are of customers who are forgotten (endcap events forget)",
    }
    lines = [f"  - {excluded[name]:,} {reason}" for name, reason in reasons.items() if excluded[name]]
    if owned_events:
        lines.append(f"  - {owned_events:,} are of types that only make an item a customer's (rules.owned)")
    if bad_count := loader.quarantine.bad.get(loader.table, Counter()).total():
        lines.append(f"  - {bad_count:,} are bad")
    empty = f"{names} {'has' if len(files) == 1 else 'have'} no row; give a log with events"
    text = "\n".join([f"of {total:,} rows", *lines]) + loader.format_values() if total else empty
    return DataError(
        f"no event is left: {text}",
        code="events.none-left",
        paths=[source.path for source, _, _ in files],
        rows=total,
        types=shop.events.types,
        left_out=dict(excluded),
        values={name: [list(pair) for pair in counts] for name, counts in loader.list_common_values().items()},
    )
