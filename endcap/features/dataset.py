"""From a snapshot to an immutable dataset version, which all recommenders of a shop share."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import ibis.expr.types as ir

from endcap.errors import Problem, SpecError
from endcap.features.anomalies import find_anomalies
from endcap.features.dataset_files import OWNED_FILE
from endcap.features.engine import TableEngine, open_engine
from endcap.features.event_features import encode_types
from endcap.features.filters import apply_filters
from endcap.features.keyed_log import CollisionError, KeyedLog, cut_by_gap, take_given_sessions
from endcap.features.ownership import write_ownership
from endcap.features.split import MILLISECOND
from endcap.features.tables import number_entities, number_sessions, write_catalogue, write_events, write_sessions
from endcap.features.window import build_nothing_left_error, select_window, to_milliseconds
from endcap.spec.settings import FeatureSettings
from endcap.spec.shop import Shop
from endcap.steps import STEPS
from endcap.store import Store, fingerprint, fingerprint_code, get_content_key

Json = dict[str, Any]
Progress = Callable[[str], None]
CUSTOMERS = "customers.parquet"
SALTS = ("", "1", "2", "3")
RESERVED = {
    "features.events": {"session", "item", "customer", "time"},
    "items": {"events", "first_seen"},
    "customers": {"events"},
}


def build(
    shop: Shop, snapshot: str, store: Store, *, until: datetime | None = None, progress: Progress = lambda line: None
) -> str:
    """Make the dataset of a snapshot, or find it.

    Events outside the window are cut first, and sessions are made of what is left. Events of `part: test` become
    sessions of their own; neither filters nor the window's start apply to them. What customers own under the shop's
    rule comes from all events before `until`, however long ago.

    Parameters
    ----------
    shop
        The spec.
    snapshot
        Address of the snapshot.
    store
        Where both lie.
    until
        The logical date, UTC if it names no zone. Events before it count, if they are not older than the shop's window.
        None: just after the snapshot's last event.
    progress
        Takes a line at a time.

    Returns
    -------
    str
        The dataset's address.

    Raises
    ------
    DataError
        If no events are left.
    SpecError
        If columns of the shop have reserved names.
    """
    _refuse_reserved_names(shop)
    settings = FeatureSettings.of(shop)
    kind = STEPS["features"].folder(settings.name)
    end = None if until is None else to_milliseconds(until)
    key = fingerprint(get_content_key(snapshot), settings.key(), end, fingerprint_code(STEPS["features"].entry))
    with store.workspace(kind, key, progress) as work:
        address = store.find(kind, key)
        if address is not None:
            return address
        folder = store.fetch(snapshot)
        with store.publish(kind, key) as draft, _open_spill_folder(work) as spill, open_engine(spill) as engine:
            facts = _write(engine, settings, folder, draft.path, end, progress)
            draft.facts |= {
                "snapshot": snapshot,
                "shop": settings.name,
                "event_types": settings.types,
                "session_gap_ms": settings.sessions.gap // MILLISECOND if settings.sessions.by == "gap" else None,
                "fingerprint": key,
                **facts,
            }
    return draft.address


@contextlib.contextmanager
def _open_spill_folder(work: Path) -> Iterator[Path]:
    """A folder for spilled tables, empty at first and removed at last: a later run cannot use what was spilled."""
    spill = work / "spill"
    shutil.rmtree(spill, ignore_errors=True)
    spill.mkdir()
    try:
        yield spill
    finally:
        shutil.rmtree(spill, ignore_errors=True)


def _refuse_reserved_names(shop: Shop) -> None:
    tables = {"items": shop.items, "customers": shop.customers}
    named = {key: [*table.categorical, *table.numeric] for key, table in tables.items() if table is not None}
    named["features.events"] = [feature.name for feature in shop.features.events]
    problems = [
        Problem(
            f"shop {shop.name}",
            key,
            repr(name),
            f"names other than {', '.join(sorted(RESERVED[key]))}",
            code="not-allowed",
        )
        for key, names in named.items()
        for name in names
        if name in RESERVED[key]
    ]
    if problems:
        raise SpecError(problems)


def _write(
    engine: TableEngine, settings: FeatureSettings, snapshot: Path, out: Path, end: int | None, progress: Progress
) -> Json:
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
    snapshot: Path,
    out: Path,
    end: int | None,
    progress: Progress,
    salt: str,
) -> Json:
    window = select_window(engine, settings, snapshot, end)
    progress("reading ids and making sessions")
    parts = (encode_types(rows, settings.features.events) for rows in (window.train, window.test))
    log, test = (
        _build_log(engine, settings, rows, salt, window.customers, window.activity.get(part))
        for part, rows in zip(("train", "test"), parts, strict=True)
    )
    before, tested = _count_sizes(engine, log), _count_sizes(engine, test)
    single = engine.count(log.sessions.filter(log.sessions.events == 1))
    warnings = find_anomalies(engine, log, by_gap=settings.sessions.by == "gap")
    progress("filtering")
    filtered = apply_filters(engine, log, settings.filters)
    left, features = filtered.log, settings.features.events
    if not engine.count(left.items):
        raise build_nothing_left_error(settings, window, filtered.dropped)
    progress("writing events, sessions, items and customers")
    items, customers = number_entities(engine, left, test)
    sessions, test_sessions = (number_sessions(engine, part, customers) for part in (left, test))
    after = _count_sizes(engine, replace(left, sessions=sessions))
    engine.keep_only(left.events, test.events, sessions, test_sessions, items, customers)
    write_sessions(engine, sessions, out / "sessions.parquet")
    write_sessions(engine, test_sessions, out / "test_sessions.parquet")
    write_events(engine, left, (sessions, items, customers), features, out / "events.parquet")
    write_events(engine, test, (test_sessions, items, customers), features, out / "test_events.parquet")
    write_catalogue(engine, items, "item", ("events", "first_seen"), snapshot / "items.parquet", out / "items.parquet")
    write_catalogue(engine, customers, "customer", ("events",), snapshot / CUSTOMERS, out / CUSTOMERS)
    owned = {}
    if settings.owned is not None:
        owned = {
            "owned": write_ownership(engine, settings.owned, snapshot, window.end, items, customers, out / OWNED_FILE)
        }
    declarations = [feature.model_dump(mode="json") for feature in features]
    (out / "features.json").write_text(json.dumps(declarations, indent=1) + "\n")
    return {
        "from": window.start,
        "until": window.end,
        **after,
        **log.counts,
        "test": {**tested, **test.counts},
        "dropped": {**window.dropped, **filtered.dropped},
        "before_filters": before,
        "single_sessions": single,
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


def _count_sizes(engine: TableEngine, log: KeyedLog) -> dict[str, int]:
    sizes = {name: engine.count(getattr(log, name)) for name in ("sessions", "items", "customers")}
    return {"events": int(log.sessions.events.sum().fill_null(0).execute()), **sizes}
