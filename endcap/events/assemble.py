"""A snapshot's tables from the good rows: written, then read once more for what the manifest says of them."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from endcap.errors import DataError
from endcap.events.days import DayWriter, drop_duplicates
from endcap.events.digest import digest
from endcap.events.ids import is_word
from endcap.events.load import Loader
from endcap.events.plan import (
    KEPT,
    TIME,
    event_columns,
    event_plan,
    table_columns,
    table_kind,
    table_plan,
)
from endcap.events.snapshot import EVENTS
from endcap.events.sources import SourceFile
from endcap.events.sql import quoted, text
from endcap.spec.shop import MISSING, Customers, EventSource, Items, ItemSource, Shop
from endcap.spec.source import Source

Json = dict[str, Any]
Files = Sequence[tuple[Source, Sequence[SourceFile]]]


def write_events(shop: Shop, files: Files, folder: Path, loader: Loader) -> Json:
    """Write ``events/day=…/part-….parquet`` below `folder` and return the facts of them.

    Kept are the events of the types that models learn from, and of those that make an item a customer's.
    Raises DataError, also where no event is left to learn from.
    """
    kept, read, learnt = 0, 0, 0
    with DayWriter(folder / "events") as writer:
        for part, table in _good_events(shop, files, loader):
            rows = _of_types(table, shop.kept_types)
            learnt += _of_types(rows, shop.events.types).num_rows
            writer.add(rows.append_column("part", pa.repeat(part, rows.num_rows)).select(EVENTS.names).cast(EVENTS))
            read, kept = read + table.num_rows, kept + rows.num_rows
        loader.quarantine.check(loader.table, end=True)
        if not learnt:
            raise DataError(
                f"no event is left: {_why_none(shop, files, read)}",
                code="events.none-left",
                paths=[source.path for source, _ in files],
                rows=read,
                types=shop.events.types,
            )
        writer.close()
    if shop.events.drop_duplicates:
        loader.progress("events: dropping duplicates")
        drop_duplicates(writer.folder, loader.connection)
    loader.progress("events: taking the fingerprint")
    facts = _facts_of_events(writer.folder, loader.connection)
    return facts | {
        "rows": loader.quarantine.rows[loader.table],
        "other_types": read - kept,
        "duplicates": kept - facts["events"],
        "empty_files": loader.empty,
        "missing": dict(loader.missing),
    }


def write_table(table: Items | Customers, files: Files, folder: Path, loader: Loader, end: int) -> Json:
    """Write ``items.parquet`` or ``customers.parquet``: a row an id, the one read last, ordered by id.

    Of rows that bear a time those after `end` (epoch ms) do not count, and the last in time does. Returns the facts of
    it; `until` is the time of the newest row that counts. Raises DataError.
    """
    key = table_kind(table)
    raw, file = folder / f"{key}s.raw", folder / f"{key}s.parquet"
    rows = _good_rows(table, files, loader)
    first = next(rows, None)
    loader.quarantine.check(loader.table, end=first is None)
    if first is None:
        raise _no_row(files, key)
    with pq.ParquetWriter(raw, first.schema, compression="zstd", compression_level=1) as writer:
        writer.write_table(first)
        for more in rows:
            writer.write_table(more)
    loader.quarantine.check(loader.table, end=True)
    until = _write_latest(key, first.schema.names, raw, file, loader.connection, end)
    raw.unlink()
    columns = zip(first.schema.names, first.schema.types, strict=True)
    schema = {name: str(kind) for name, kind in columns if name not in ("row", TIME)}
    found, (count,) = digest(loader.connection, f"read_parquet({text(str(file))})", list(schema), ["count(*)"])
    if not count:
        raise _no_row(files, key, later=TIME in first.schema.names)
    return {"rows": count, "schema": schema, "content": [found, schema], **until}


def _of_types(table: pa.Table, types: Sequence[str] | None) -> pa.Table:
    return table if types is None else table.filter(pc.is_in(table["type"], pa.array(types)))


def _good_events(shop: Shop, files: Files, loader: Loader) -> Iterator[tuple[str, pa.Table]]:
    now = int(time.time() * 1000)
    for source, found in files:
        event_source = cast(EventSource, source)
        plan_of = functools.partial(event_plan, shop, event_source, now=now)
        wanted = event_columns(shop, event_source)
        for table in loader.load(source, found, wanted, plan_of, event_source.layout):
            yield event_source.part, table


def _good_rows(table: Items | Customers, files: Files, loader: Loader) -> Iterator[pa.Table]:
    for source, found in files:
        layout = source.layout if isinstance(source, ItemSource) else "columns"
        for rows in loader.load(
            source, found, table_columns(table), functools.partial(table_plan, table, loader.clock is not None), layout
        ):
            yield rows.filter(rows[KEPT]).drop_columns(KEPT) if KEPT in rows.schema.names else rows


def _write_latest(key: str, names: Sequence[str], raw: Path, file: Path, connection: Any, end: int) -> Json:
    """Each id's last row, and the time of the newest of them where rows bear one."""
    timed = TIME in names
    order = [TIME, "row"] if timed else ["row"]
    rows = f"read_parquet({text(str(raw))})" + (f" WHERE {quoted(TIME)} <= {end}" if timed else "")
    latest = ", ".join(f"{quoted(name)} DESC" for name in order)
    connection.execute(
        f"COPY (SELECT * EXCLUDE ({', '.join(map(quoted, order))}) FROM {rows} "  # noqa: S608 (all parts are quoted)
        f"QUALIFY row_number() OVER (PARTITION BY {quoted(key)} ORDER BY {latest}) = 1 ORDER BY {quoted(key)}) "
        f"TO {text(str(file))} (FORMAT parquet, COMPRESSION zstd)"
    ).fetchall()
    if not timed:
        return {}
    return {"until": connection.execute(f"SELECT max({quoted(TIME)}) FROM {rows}").fetchone()[0]}  # noqa: S608 (as above)


def _no_row(files: Files, key: str, *, later: bool = False) -> DataError:
    what = " that is not later than the log's last event" if later else ""
    paths = [source.path for source, _ in files]
    return DataError(
        f"{', '.join(paths)}: no row is there{what}; the {key} table has none",
        code="events.table-empty",
        paths=paths,
        table=key,
        later=later,
    )


def _why_none(shop: Shop, files: Files, read: int) -> str:
    if read:
        return f"none of {read:,} events is of the types {shop.events.types} (events.types)"
    names = ", ".join(source.path for source, _ in files)
    return f"{names} {'has' if len(files) == 1 else 'have'} no row; give a log with events"


def _facts_of_events(folder: Path, connection: Any) -> Json:
    files = f"read_parquet({text(str(folder / '*' / '*.parquet'))}, hive_partitioning = false)"
    aggregates = [
        "count(*)",
        "count(DISTINCT session)",
        "min(time)",
        "max(time)",
        "count(*) FILTER (part = 'train')",
        "count(*) FILTER (part = 'test')",
        f"count(*) FILTER ({is_word(['item'], MISSING)})",
    ]
    columns = [name for name in EVENTS.names if name != "row"]
    found, (events, sessions, first, last, train, test, words) = digest(connection, files, columns, aggregates)
    return {
        "events": events,
        "sessions": sessions,
        "first": first,
        "last": last,
        "parts": {"train": train, "test": test},
        "words_as_items": words,
        "schema": {name: str(kind) for name, kind in zip(EVENTS.names, EVENTS.types, strict=True)},
        "content": found,
    }
