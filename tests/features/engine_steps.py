"""The declared steps of features, one after the other, each with its result in a form that all engines share.

Keys differ by engine, so results name the ids that keys stand for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import ibis.expr.types as ir
import pyarrow.parquet as pq

from endcap.events.snapshot_days import SnapshotDays
from endcap.features.anomalies import find_anomalies
from endcap.features.content_digest import TableDigest
from endcap.features.engines.table_engine import TableEngine
from endcap.features.event_features import encode_types
from endcap.features.filters import apply_filters
from endcap.features.keyed_log import NOBODY, KeyedLog, cut_by_gap, take_given_sessions
from endcap.features.ownership import write_ownership
from endcap.features.tables import number_entities, number_sessions, write_catalogue, write_events, write_sessions
from endcap.features.window import select_window
from endcap.spec.settings import FeatureSettings

Row = dict[str, Any]
_LOST = "no such key"


def run_steps(
    engine: TableEngine, settings: FeatureSettings, snapshot: SnapshotDays, end: int | None, out: Path
) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Run the steps that `endcap.features.declared_steps` runs, and yield each one's name and what reads its result.

    A result must be read before the next step, which may free its tables. Steps go on where no events are left.
    """
    window = select_window(engine, settings, snapshot, end)
    features = settings.features.events
    rows = {"train": encode_types(window.train, features), "test": encode_types(window.test, features)}
    about = (window.start, window.end, window.rows, window.dropped, window.customers)
    yield "select_window", lambda: about
    for part, table in rows.items():
        yield f"rows of {part}", partial(_fetch_sorted, table)
    for part, table in window.activity.items():
        yield f"activity of {part}", partial(_fetch_sorted, table)

    by_gap = settings.sessions.by == "gap"
    logs = {}
    for part, table in rows.items():
        if by_gap:
            logs[part] = cut_by_gap(engine, table, settings.sessions.gap, "", window.activity.get(part))
        else:
            logs[part] = take_given_sessions(engine, table, "", customers=window.customers)
        yield f"sessions of {part}", partial(describe_log, logs[part])
    log, test = logs["train"], logs["test"]
    yield "find_anomalies", partial(find_anomalies, engine, log, by_gap=by_gap)

    filtered = apply_filters(engine, log, settings.filters)
    left = filtered.log
    yield "apply_filters", lambda: (filtered.rounds, dict(filtered.dropped), describe_log(left, events=False))

    items, customers = number_entities(engine, left, test)
    yield "number_entities", lambda: [_fetch_sorted(table.drop("key")) for table in (items, customers)]
    sessions, test_sessions = (number_sessions(engine, part, customers) for part in (left, test))
    yield "number_sessions", lambda: [_fetch_sorted(table.drop("key")) for table in (sessions, test_sessions)]

    engine.keep_only(left.events, test.events, sessions, test_sessions, items, customers)
    write_sessions(engine, sessions, out / "sessions.parquet")
    write_events(engine, left, (sessions, items.filter(items.events > 0), customers), features, out / "events.parquet")
    write_sessions(engine, test_sessions, out / "test_sessions.parquet")
    write_events(engine, test, (test_sessions, items, customers), features, out / "test_events.parquet")
    for name, kept, counts in (("item", items, ("events", "first_seen")), ("customer", customers, ("events",))):
        write_catalogue(engine, kept, name, counts, snapshot.tables.get(f"{name}s"), out / f"{name}s.parquet")
    if settings.owned is not None:
        owned = write_ownership(
            engine, settings.owned, snapshot.files, window.end, items, customers, out / "owned.parquet"
        )
        yield "write_ownership", lambda: owned
    engine.keep_only()
    for file in sorted(out.iterdir()):
        yield file.name, partial(read_file, file)


def read_file(file: Path) -> tuple[list[tuple[Any, ...]], dict[str, str]]:
    """Read a file's rows in their order, and the digests of its columns, which cover their types too."""
    table = pq.read_table(file)
    digest = TableDigest(table.schema)
    digest.update(table)
    return [tuple(row.values()) for row in table.to_pylist()], digest.list_digests()


def describe_log(log: KeyedLog, *, events: bool = True) -> dict[str, Any]:
    """Describe a log by ids in place of keys: its tables' rows, each sorted, and its counts."""
    tables = {name: _fetch(getattr(log, name)) for name in ("sessions", "items", "customers")}
    ids = {name: {row["key"]: row["id"] for row in rows} for name, rows in tables.items()}
    # What is dropped from one table leaves its keys in the others.
    customers = {NOBODY: None, **ids["customers"]}
    for row in tables["sessions"]:
        row["customer"] = customers.get(row["customer"], _LOST)
    described: dict[str, Any] = {
        name: _sort({column: value for column, value in row.items() if column != "key"} for row in rows)
        for name, rows in tables.items()
    }
    if events:
        named = (
            {
                **row,
                "session": ids["sessions"].get(row["session"], _LOST),
                "item": ids["items"].get(row["item"], _LOST),
                "customer": customers.get(row["customer"], _LOST),
            }
            for row in _fetch(log.events)
        )
        described["events"] = _sort(named)
    return {**described, "by_customer": log.by_customer, "counts": dict(log.counts)}


def _fetch(table: ir.Table) -> list[Row]:
    rows: list[Row] = table.to_pyarrow().to_pylist()
    return rows


def _fetch_sorted(table: ir.Table) -> list[tuple[tuple[str, Any], ...]]:
    return _sort(_fetch(table))


def _sort(rows: Iterable[Mapping[str, Any]]) -> list[tuple[tuple[str, Any], ...]]:
    """Sort rows, whose columns may come in any order."""
    return sorted((tuple(sorted(row.items())) for row in rows), key=repr)
