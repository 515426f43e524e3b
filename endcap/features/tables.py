"""A dataset's tables: numbers in place of ids, in the order that readers rely on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ibis
import ibis.expr.types as ir

from endcap.features.engines.table_engine import TableEngine
from endcap.features.event_features import KINDS, build_column
from endcap.features.event_order import ORDER, list_order_keys
from endcap.features.keyed_log import NOBODY, KeyedLog, check_keys
from endcap.spec.event_features import EventFeature


def number_entities(engine: TableEngine, log: KeyedLog, test: KeyedLog) -> tuple[ir.Table, ir.Table]:
    """Number the items and customers of both parts: by events of the training part, then by id."""
    trained = log.items.select("key", "id", "events", "first_seen")
    tested = test.items.select("key", "id", "first_seen").mutate(events=0).select(trained.columns)
    items = trained.union(tested.mutate(events=tested.events.cast("int64"))).group_by("key", "id")
    known = log.customers.select("key", "id", "events")
    test_customers = test.customers.select("key", "id").mutate(events=ibis.literal(0, "int64")).select(known.columns)
    customers = known.union(test_customers).group_by("key", "id")
    tables = (
        items.aggregate(lambda t: t.events.sum().name("events"), lambda t: t.first_seen.min().name("first_seen")),
        customers.aggregate(lambda t: t.events.sum().name("events")),
    )
    kept = [
        engine.number(
            table.mutate(events=table.events.cast("int64")),
            [ibis.desc("events"), "id"],
            [*table.columns, "number"],
            number="int32",
        )
        for table in tables
    ]
    check_keys(*kept)
    return kept[0], kept[1]


def number_sessions(engine: TableEngine, log: KeyedLog, customers: ir.Table) -> ir.Table:
    """Number a part's sessions (`session`) in the order of their start, then id, then customer.

    If customers may share an id, it becomes that of `endcap.online.key_names.session_id`.
    """
    owners = customers.select(customer="key", owner="number", name="id")
    owned = log.sessions.left_join(owners, "customer")
    if log.by_customer:
        owned = owned.mutate(name=owned.name.fill_null(""), plain=owned.id)
        owned = owned.mutate(id=_escape(owned.name).concat("|", _escape(owned.plain)))
        order = ["start", "plain", "name"]
    else:
        order = ["start", "id"]
    columns = ["key", "session", "id", "customer", "start", "end", "events"]
    return engine.number(owned.mutate(customer=owned.owner.fill_null(-1)), order, columns, session="int64")


def _escape(id_: ir.StringValue) -> ir.StringValue:
    return id_.replace("\\", "\\\\").replace("|", "\\|")


def write_sessions(engine: TableEngine, sessions: ir.Table, file: Path) -> None:
    """Write a part's numbered sessions."""
    engine.write(sessions.drop("key"), file)


def write_events(
    engine: TableEngine,
    log: KeyedLog,
    tables: tuple[ir.Table, ir.Table, ir.Table],
    features: list[EventFeature],
    file: Path,
) -> None:
    """Write a part's events with their features. `tables` are its numbered sessions, and the items and customers."""
    kinds = [KINDS[feature.kind] for feature in features]
    joined = _join_numbers(log.events, engine, *tables, needs_seen=any(kind.needs_seen for kind in kinds))
    events = engine.order_events(joined, _list_keys, places=any(kind.needs_place for kind in kinds))
    engine.drop(log.events)
    numbers = [events.session.cast("int64").name("session"), events.item, events.customer, events.time]
    engine.write(events.select(*numbers, **{feature.name: build_column(feature, events) for feature in features}), file)
    engine.drop(events)


def _join_numbers(
    log: ir.Table, engine: TableEngine, sessions: ir.Table, items: ir.Table, customers: ir.Table, *, needs_seen: bool
) -> ir.Table:
    """Return the events that are in, in numbers, with `seen` if it is needed (see `EventFeatureKind`)."""
    # Events without a customer have a customer of their own here, so that every event finds its partner or goes.
    nobody = ibis.memtable({"key": [NOBODY], "number": [-1]}, schema={"key": engine.key_type, "number": "int32"})
    everybody = customers.select("key", "number").union(nobody)
    events = log.rename(session_key="session", item_key="item", customer_key="customer")
    table = (
        events.join(sessions.select(session_key="key", session=sessions.session.cast("int32")), "session_key")
        .join(items.select(item_key="key", item="number"), "item_key")
        .join(everybody.select(customer_key="key", customer="number"), "customer_key")
        .select("session", "item", "customer", "time", *ORDER, *(name for name in ("type",) if name in log.columns))
    )
    if needs_seen:
        same = ibis.window(group_by=["session", "item"], order_by=[table.time, *list_order_keys(table)])
        table = table.mutate(seen=ibis.row_number().over(same))
    return table


def _list_keys(events: ir.Table) -> list[Any]:
    """List the keys that sort events of one time in one session."""
    # Equal events are numbered in any order; by their numbers the first of them lies first.
    return [*list_order_keys(events), *([events.seen] if "seen" in events.columns else [])]


def write_catalogue(
    engine: TableEngine, table: ir.Table, name: str, counts: tuple[str, ...], source: Path | None, file: Path
) -> None:
    """Write items or customers in the order of their numbers, with the attributes that the snapshot has of them."""
    ids = table.select("number", *counts, **{name: "id"})
    attributes: list[str] = []
    if source is not None:
        known = engine.read([source])
        attributes = [attribute for attribute in known.columns if attribute != name]
        ids = ids.left_join(known, name)
    engine.write(ids.order_by("number").select(name, *counts, *attributes), file)
