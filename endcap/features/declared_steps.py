"""A dataset by the declared steps: each is an Ibis expression, which every engine evaluates alike."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import ibis.expr.types as ir

from endcap.events.snapshot_days import SnapshotDays
from endcap.features.anomalies import find_anomalies
from endcap.features.dataset_files import OWNED_FILE
from endcap.features.engines.table_engine import TableEngine
from endcap.features.event_features import encode_types
from endcap.features.filters import apply_filters
from endcap.features.keyed_log import CollisionError, KeyedLog, cut_by_gap, take_given_sessions
from endcap.features.measures import measure
from endcap.features.nothing_left import build_nothing_left_error
from endcap.features.ownership import write_ownership
from endcap.features.tables import number_entities, number_sessions, write_catalogue, write_events, write_sessions
from endcap.features.window import select_window
from endcap.spec.settings import FeatureSettings

Json = dict[str, Any]
Progress = Callable[[str], None]
SIZES = ("events", "sessions", "items", "customers")
SALTS = ("", "1", "2", "3")


def write_tables(
    engine: TableEngine,
    settings: FeatureSettings,
    snapshot: SnapshotDays,
    out: Path,
    end: int | None,
    progress: Progress,
) -> Json:
    """Write a dataset's files, as `FeatureEngine.write_dataset` does, with the tables of an engine."""
    for salt in SALTS:
        try:
            return _write_salted(engine, settings, snapshot, out, end, progress, salt)
        except CollisionError:
            progress("two ids share a hash; hashing again with another salt")
            engine.keep_only()
    raise AssertionError("ids collide under every salt: the engine's hash is broken")


def _write_salted(
    engine: TableEngine,
    settings: FeatureSettings,
    snapshot: SnapshotDays,
    out: Path,
    end: int | None,
    progress: Progress,
    salt: str,
) -> Json:
    window = select_window(engine, settings, snapshot, end)
    progress("reading ids and making sessions")
    parts = (encode_types(rows, settings.features.events) for rows in (window.train, window.test))
    logs = [
        _build_log(engine, settings, rows, salt, window.customers, window.activity.get(part))
        for part, rows in zip(("train", "test"), parts, strict=True)
        if part == "train" or window.tested
    ]
    log, test = logs if window.tested else (*logs, _empty(engine, logs[0]))
    sizes = measure(
        **_count_sizes(log),
        **_count_sizes(test, "test "),
        single=log.sessions.filter(log.sessions.events == 1).count(),
    )
    warnings = find_anomalies(engine, log, by_gap=settings.sessions.by == "gap")
    progress("filtering")
    filtered = apply_filters(engine, log, settings.filters)
    left, features = filtered.log, settings.features.events
    items, customers = number_entities(engine, left, test)
    sessions, test_sessions = (number_sessions(engine, part, customers) for part in (left, test))
    after = measure(**_count_sizes(replace(left, sessions=sessions)))
    if not after["items"]:
        raise build_nothing_left_error(settings, window, filtered.dropped)
    progress("writing events, sessions, items and customers")
    engine.keep_only(left.events, test.events, sessions, test_sessions, items, customers)
    write_sessions(engine, sessions, out / "sessions.parquet")
    write_sessions(engine, test_sessions, out / "test_sessions.parquet")
    # An item that fell to a filter may have its number from the test part.
    trained = items.filter(items.events > 0)
    write_events(engine, left, (sessions, trained, customers), features, out / "events.parquet")
    write_events(engine, test, (test_sessions, items, customers), features, out / "test_events.parquet")
    item_table, customer_table = (snapshot.tables.get(name) for name in ("items", "customers"))
    write_catalogue(engine, items, "item", ("events", "first_seen"), item_table, out / "items.parquet")
    write_catalogue(engine, customers, "customer", ("events",), customer_table, out / "customers.parquet")
    owned = {}
    if settings.owned is not None:
        owned = {
            "owned": write_ownership(
                engine, settings.owned, snapshot.files, window.end, items, customers, out / OWNED_FILE
            )
        }
    declarations = [feature.model_dump(mode="json") for feature in features]
    (out / "features.json").write_text(json.dumps(declarations, indent=1) + "\n")
    return {
        "from": window.start,
        "until": window.end,
        **after,
        **log.counts,
        "test": {**_pick(sizes, "test "), **test.counts},
        "dropped": {**window.dropped, **filtered.dropped},
        "before_filters": _pick(sizes),
        "single_sessions": sizes["single"],
        "warnings": warnings,
        "sessions_by": settings.sessions.by,
        "rounds": filtered.rounds,
        "features": declarations,
        **owned,
    }


def _build_log(
    engine: TableEngine,
    settings: FeatureSettings,
    rows: ir.Table,
    salt: str,
    customers: bool,
    activity: ir.Table | None,
) -> KeyedLog:
    if settings.sessions.by == "gap":
        return cut_by_gap(engine, rows, settings.sessions.gap, salt, activity)
    return take_given_sessions(engine, rows, salt, customers=customers)


def _empty(engine: TableEngine, log: KeyedLog) -> KeyedLog:
    """The log of a part without events, with the columns of another's."""
    events, sessions, items, customers = (
        table.limit(0) for table in (log.events, log.sessions, log.items, log.customers)
    )
    return KeyedLog(engine.keep(events), sessions, items, customers, log.by_customer)


def _count_sizes(log: KeyedLog, prefix: str = "") -> dict[str, ir.IntegerScalar]:
    sizes = {name: getattr(log, name).count() for name in SIZES[1:]}
    return {f"{prefix}{name}": size for name, size in {"events": log.sessions.events.sum(), **sizes}.items()}


def _pick(sizes: Json, prefix: str = "") -> Json:
    return {name: sizes[f"{prefix}{name}"] for name in SIZES}
