"""A dataset's tables: numbers in place of ids, in the order that readers rely on."""

from __future__ import annotations

from pathlib import Path

import ibis
import ibis.expr.types as ir
import pyarrow as pa

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
        engine.keep(
            table.mutate(
                events=table.events.cast("int64"),
                number=ibis.row_number().over(order_by=[table.events.desc(), table.id]).cast("int32"),
            )
        )
        for table in tables
    ]
    check_keys(engine, *kept)
    return kept[0], kept[1]


def number_sessions(engine: TableEngine, log: KeyedLog, customers: ir.Table) -> ir.Table:
    """Number a part's sessions (`session`) in the order of their start, then id, then customer.

    If customers may share an id, it becomes that of `endcap.online.key_names.session_id`.
    """
    owners = customers.select(customer="key", owner="number", name="id")
    owned = log.sessions.left_join(owners, "customer")
    if log.by_customer:
        owned = owned.order_by("start", owned.id, owned.name.fill_null(""))
        owned = owned.mutate(id=_escape(owned.name.fill_null("")).concat("|", _escape(owned.id)))
    else:
        owned = owned.order_by("start", owned.id)
    numbered = owned.mutate(session=ibis.row_number(), customer=owned.owner.fill_null(-1))
    return engine.keep(numbered.select("key", "session", "id", "customer", "start", "end", "events"))


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
    events = _order_events(engine, log.events, *tables, needs_seen=any(kind.needs_seen for kind in kinds))
    engine.drop(log.events)
    if any(kind.needs_place for kind in kinds):
        ordered, events = events, _add_places(engine, events)
        engine.drop(ordered)
    numbers = [events.session.cast("int64").name("session"), events.item, events.customer, events.time]
    engine.write(events.select(*numbers, **{feature.name: build_column(feature, events) for feature in features}), file)
    engine.drop(events)


def _order_events(
    engine: TableEngine, log: ir.Table, sessions: ir.Table, items: ir.Table, customers: ir.Table, *, needs_seen: bool
) -> ir.Table:
    """Return the events that are in, in numbers, ordered by session, time, and what orders events of one time."""
    # Events without a customer have a customer of their own here, so that every event finds its partner or goes.
    nobody = ibis.memtable(pa.table({"key": pa.array([NOBODY], pa.uint64()), "number": pa.array([-1], pa.int32())}))
    everybody = customers.select("key", "number").union(nobody)
    events = log.rename(session_key="session", item_key="item", customer_key="customer")
    table = (
        events.join(sessions.select(session_key="key", session=sessions.session.cast("int32")), "session_key")
        .join(items.select(item_key="key", item="number"), "item_key")
        .join(everybody.select(customer_key="key", customer="number"), "customer_key")
        .select("session", "item", "customer", "time", *ORDER, *(name for name in ("type",) if name in log.columns))
    )
    if not needs_seen:
        return engine.keep(table.order_by("session", "time", *list_order_keys(table)))
    same = ibis.window(group_by=["session", "item"], order_by=[table.time, *list_order_keys(table)])
    counted = table.mutate(seen=ibis.row_number().over(same))
    # Equal events are numbered in any order; by their numbers the first of them lies first.
    return engine.keep(counted.order_by("session", "time", *list_order_keys(counted), "seen"))


def _add_places(engine: TableEngine, ordered: ir.Table) -> ir.Table:
    """Add `position` in the session and `previous`, the time of the event before it or null.

    The table is in order already: running values over neighbouring rows need no second sort, windows would.
    """
    number = ibis.row_number()
    first = (ordered.session != ordered.session.lag()).fill_null(True)
    marked = ordered.mutate(number=number, first=first, before=ordered.time.lag())
    begin = ibis.ifelse(marked.first, marked.number, None).max().over(ibis.cumulative_window())
    previous = ibis.ifelse(marked.first, None, marked.before)
    placed = marked.mutate(position=(marked.number - begin).cast("int32"), previous=previous)
    # Kept, since running values take one thread: what comes after them then has all.
    return engine.keep(placed.drop("number", "first", "before", *ORDER))


def write_catalogue(
    engine: TableEngine, table: ir.Table, name: str, counts: tuple[str, ...], source: Path, file: Path
) -> None:
    """Write items or customers in the order of their numbers, with the attributes that the snapshot has of them."""
    ids = table.select("number", *counts, **{name: "id"})
    attributes: list[str] = []
    if source.is_file():
        known = engine.read([source])
        attributes = [attribute for attribute in known.columns if attribute != name]
        ids = ids.left_join(known, name)
    engine.write(ids.order_by("number").select(name, *counts, *attributes), file)
