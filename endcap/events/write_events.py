"""Write a snapshot's events from the good rows, then read them once more for the facts of the manifest."""

from __future__ import annotations

import functools
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc

from endcap.errors import DataError
from endcap.events.day_facts import collect_days, merge_days
from endcap.events.days import DayWriter, drop_duplicates
from endcap.events.event_mapping import OTHER_TYPES, RETURNS, list_event_columns, map_events
from endcap.events.snapshot import ACTIVITY, ACTIVITY_FOLDER, EVENTS, EVENTS_FOLDER
from endcap.sources.column_mapping import WITHOUT_ITEM
from endcap.sources.load import Loader
from endcap.sources.parts import SourcePart
from endcap.spec.event_log import EventSource
from endcap.spec.shop import Shop
from endcap.spec.source import SourceSpec

Json = dict[str, Any]
Files = Sequence[tuple[SourceSpec, Sequence[SourcePart]]]


def write_events(shop: Shop, files: Files, folder: Path, loader: Loader) -> Json:
    """Write ``events/day=…/part-….parquet`` below `folder`.

    Parameters
    ----------
    shop
        The shop's spec.
    files
        The sources of events with their files.
    folder
        The snapshot's folder.
    loader
        Loads the rows.

    Returns
    -------
    dict
        The facts of the events for the snapshot's manifest.

    Raises
    ------
    DataError
        If too many rows are bad, or no event remains to learn from.

    Notes
    -----
    The snapshot keeps events of types that models learn from, and of types that make an item a customer's. Rows that a
    rule leaves out and that are still a shopper's activity go to a file of their own.
    """
    learnt = 0
    with (
        DayWriter(folder / EVENTS_FOLDER, EVENTS) as writer,
        DayWriter(folder / ACTIVITY_FOLDER, ACTIVITY) as activity,
    ):
        for part, rows in _load_events(shop, files, loader, activity):
            learnt += rows.num_rows if shop.kept_types == shop.events.types else _count_types(rows, shop.events.types)
            writer.add(_add_columns(rows, part, loader))
        loader.quarantine.check(loader.table, end=True)
        if not learnt:
            raise _no_event_error(shop, files, loader, writer.rows)
        digests = writer.close()
        activity.close()
    if shop.events.drop_duplicates:
        loader.progress("events: dropping duplicates")
        digests = drop_duplicates(writer.folder, loader.connection)
    loader.progress("events: taking the fingerprint")
    facts = merge_days(collect_days(folder, digests, loader.connection))
    return facts | {
        "schema": {name: str(kind) for name, kind in zip(EVENTS.names, EVENTS.types, strict=True)},
        "rows": loader.quarantine.count_rows(loader.table),
        "duplicates": writer.rows - facts["events"],
        "empty_files": loader.empty,
        "missing": dict(loader.missing),
    }


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


def _count_types(rows: pa.Table, types: Sequence[str] | None) -> int:
    return int(pc.sum(pc.is_in(rows["type"], pa.array(types, pa.string()))).as_py() or 0)


def _load_events(shop: Shop, files: Files, loader: Loader, activity: DayWriter) -> Iterator[tuple[str, pa.Table]]:
    now = int(time.time() * 1000)
    for source, source_files in files:
        event_source = cast(EventSource, source)
        make_mapping = functools.partial(map_events, shop, event_source, now=now)
        columns = list_event_columns(shop, event_source)
        active = functools.partial(_add_activity, activity, event_source.part)
        for table in loader.load(source, source_files, columns, make_mapping, event_source.layout, active):
            yield event_source.part, table
    absent = [name for name in shop.events.returns if name not in loader.present_columns]
    if absent and loader.rows:
        paths = [source.path for source, _ in files]
        raise DataError(
            f"{', '.join(paths)}: no file has {', '.join(map(repr, absent))} ({RETURNS}); name the right column",
            code="events.column-empty",
            path=paths[0],
            columns=dict.fromkeys(absent, RETURNS),
        )


def _add_activity(writer: DayWriter, part: str, rows: pa.Table) -> None:
    if rows.num_rows:
        columns = [rows["customer"], rows["time"], pa.repeat(part, rows.num_rows)]
        writer.add(pa.table(columns, names=ACTIVITY.names).cast(ACTIVITY))


def _no_event_error(shop: Shop, files: Files, loader: Loader, owned_events: int) -> DataError:
    """The error that says which rules left out how many rows. kept: events that only make an item a customer's."""
    excluded, total = (
        loader.quarantine.left_out.get(loader.table, Counter()),
        loader.quarantine.count_rows(loader.table),
    )
    names = ", ".join(source.path for source, _ in files)
    reasons = {
        "where": "do not fit the `where` of their source",
        "returns": f"fit a condition of {RETURNS}",
        OTHER_TYPES: f"are of other types than {shop.kept_types} (events.types)",
        WITHOUT_ITEM: "are about no item",
        "without_customer": "name no customer, which `sessions: {by: gap}` needs",
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
        paths=[source.path for source, _ in files],
        rows=total,
        types=shop.events.types,
        left_out=dict(excluded),
        values={name: [list(pair) for pair in counts] for name, counts in loader.list_common_values().items()},
    )
