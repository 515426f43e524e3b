"""A part of a snapshot with integer keys in place of text ids, and its sessions.

Texts cost many times what integers cost to sort, group and join. So each id is replaced by its 64-bit hash at once, and
the id itself is kept in one small table of each kind. If two ids have one hash, the log is hashed anew with another
salt.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

import ibis
import ibis.expr.types as ir

from endcap.features.engines.table_engine import TableEngine
from endcap.features.event_order import ORDER, list_order_keys
from endcap.features.measures import measure
from endcap.features.split import MILLISECOND

NOBODY = 0
"""The key of a missing customer. Nulls would need a second look in every join."""
COUNTS = ("shared_sessions", "adopted_events", "anonymous_events")
"""Session ids of several customers; rows without a customer that belong to their session's only customer; rows without
a customer whose session id has several customers."""


class CollisionError(Exception):
    """Two ids share a key under this salt."""


@dataclass(frozen=True)
class KeyedLog:
    """Events of one part, in keys.

    Attributes
    ----------
    events
        session, item, customer (keys, NOBODY if there is none), time (epoch ms), the columns that order events of one
        time (`endcap.features.event_order`), and type if the rows have one.
    sessions
        key, id, customer (key), start, end, events.
    items
        key, id, events, first_seen.
    customers
        key, id, events. An event is in the log if its keys are in all three tables.
    by_customer
        Whether customers may share an id of `sessions`, each with a session of its own.
    counts
        See COUNTS.
    """

    events: ir.Table
    sessions: ir.Table
    items: ir.Table
    customers: ir.Table
    by_customer: bool = False
    counts: Mapping[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTS, 0))


def take_given_sessions(engine: TableEngine, rows: ir.Table, salt: str, *, customers: bool) -> KeyedLog:
    """Build the log of rows that name their sessions.

    A session belongs to one customer: rows of other customers under its id are sessions of theirs. A row without a
    customer belongs to the id's only customer. If the id has several, the row is in nobody's session.

    `customers` says whether any row of the log has a customer.
    """
    session, customer = _hash_key(engine, rows.session, salt), _hash_key(engine, rows.customer, salt)
    coded = rows.mutate(session=session, customer=customer)
    by_id = rows.group_by(id=rows.session)
    span = {"start": rows.time.min(), "end": rows.time.max(), "events": rows.count()}
    if not customers:
        sessions = by_id.aggregate(**span).mutate(customer=ibis.literal(NOBODY, engine.key_type))
        kept = engine.keep(sessions.mutate(key=_hash_key(engine, sessions.id, salt)))
        items, nobody = _build_entities(engine, rows, salt)
        check_keys(kept, items, nobody)
        return KeyedLog(_keep_events(engine, coded, salt), kept, items, nobody)
    # The least and the greatest of its customers' keys tell in one pass whether an id has several.
    visits = by_id.aggregate(first=customer.min(), last=customer.max(), nameless=rows.customer.isnull().sum(), **span)
    visits = engine.keep(visits.mutate(key=_hash_key(engine, visits.id, salt)))
    items, known = _build_entities(engine, rows, salt)
    counts = check_keys(visits, items, known, **_count_visits(visits))
    adopting = visits.filter(visits.first == visits.last, visits.nameless > 0)
    if counts["adopted_events"]:
        owners = adopting.select(visit="key", owner="first")
        joined = coded.left_join(owners, coded.session == owners.visit)
        coded = joined.mutate(customer=joined.customer.coalesce(joined.owner)).drop("visit", "owner")
    events = _keep_events(engine, coded, salt)
    if counts["adopted_events"]:
        more = adopting.group_by(key=adopting.first).aggregate(more=adopting.nameless.sum())
        joined = known.left_join(more, "key").drop("key_right")
        known = engine.keep(joined.mutate(events=joined.events + joined.more.fill_null(0)).drop("more"))
    columns = ("key", "id", "customer", "start", "end", "events")
    sessions = visits.mutate(customer=visits.first.fill_null(NOBODY))
    if not counts["shared_sessions"]:
        return KeyedLog(events, engine.keep(sessions.select(*columns)), items, known, True, counts)
    shared = engine.keep(visits.filter(visits.first != visits.last).select(visit="key", id="id"))
    theirs = events.semi_join(shared, events.session == shared.visit)
    parts = theirs.group_by(visit=theirs.session, customer=theirs.customer).aggregate(
        start=theirs.time.min(), end=theirs.time.max(), events=theirs.count()
    )
    parts = parts.mutate(key=engine.mix_keys(parts.visit, parts.customer)).join(shared, "visit")
    alone = sessions.filter(sessions.first.isnull() | (sessions.first == sessions.last))
    kept = engine.keep(alone.select(*columns).union(parts.select(*columns)))
    check_keys(kept)
    joined = events.left_join(shared.select("visit"), events.session == shared.visit)
    own = ibis.ifelse(joined.visit.notnull(), engine.mix_keys(joined.session, joined.customer), joined.session)
    apart = engine.keep(joined.mutate(session=own).select(*events.columns))
    engine.drop(events)
    return KeyedLog(apart, kept, items, known, True, counts)


def _count_visits(visits: ir.Table) -> dict[str, ir.IntegerScalar]:
    several, alone = visits.first != visits.last, visits.first == visits.last
    return {
        "shared_sessions": several.sum(),
        "adopted_events": visits.nameless.sum(where=alone),
        "anonymous_events": visits.nameless.sum(where=several),
    }


def cut_by_gap(
    engine: TableEngine, rows: ir.Table, gap: timedelta, salt: str, activity: ir.Table | None = None
) -> KeyedLog:
    """Build the log of rows that all have a customer; a session ends where a customer pauses longer than `gap`.

    Sessions are made of rows only. `activity` (customer id and time) is what customers did besides: it splits a pause
    in two. A session's id is its customer's and its first row's time, as in ``c7@1717236000000``.
    """
    keyed = rows.drop("session").mutate(customer=_hash_key(engine, rows.customer, salt))
    items, customers = _build_entities(engine, rows, salt)
    unsorted = _keep_events(engine, keyed, salt)
    together = unsorted if activity is None else _merge_activity(unsorted, activity, customers)
    coded = engine.cut_runs(together, list_order_keys, gap // MILLISECOND)
    engine.drop(unsorted)
    sessions = coded.group_by("customer", key=coded.session).aggregate(
        start=coded.time.min(), end=coded.time.max(), events=coded.count()
    )
    sessions = sessions.join(customers.select(customer="key", name="id"), "customer")
    named = sessions.mutate(id=sessions.name.concat("@", sessions.start.cast("string"))).drop("name")
    kept = engine.keep(named)
    check_keys(items, customers, kept)
    return KeyedLog(coded, kept, items, customers)


def _merge_activity(events: ir.Table, activity: ir.Table, customers: ir.Table) -> ir.Table:
    """Merge events and their customers' other activity into one table, in which `event` tells them apart."""
    # By the ids, not by the keys: a stranger whose key is that of a customer would not be noticed.
    known = activity.join(customers.select("key", "id"), activity.customer == customers.id)
    activity_rows = known.select(customer="key", time="time").distinct()
    empty = {name: ibis.null(kind) for name, kind in events.schema().items() if name not in activity_rows.columns}
    return events.mutate(event=True).union(activity_rows.mutate(**empty).select(events.columns).mutate(event=False))


def check_keys(*tables: ir.Table, **values: ir.IntegerScalar) -> dict[str, int]:
    """Raise CollisionError if two ids of a table share a key. The same statement measures other numbers."""
    spare = {f"table {number}": table.count() - table.key.nunique() for number, table in enumerate(tables)}
    measured = measure(**spare, **values)
    if any(measured[name] for name in spare):
        raise CollisionError
    return {name: measured[name] for name in values}


def _build_entities(engine: TableEngine, rows: ir.Table, salt: str) -> tuple[ir.Table, ir.Table]:
    """Build a log's items and customers."""
    items = rows.group_by(id=rows.item).aggregate(events=rows.count(), first_seen=rows.time.min())
    known = rows.filter(rows.customer.notnull())
    customers = known.group_by(id=known.customer).aggregate(events=known.count())
    kept = [engine.keep(table.mutate(key=_hash_key(engine, table.id, salt))) for table in (items, customers)]
    return kept[0], kept[1]


def _keep_events(engine: TableEngine, events: ir.Table, salt: str) -> ir.Table:
    """Keep a log's events. `events` are rows with the keys of their customers and sessions."""
    coded = events.mutate(item=_hash_key(engine, events.item, salt), customer=events.customer.fill_null(NOBODY))
    columns = [name for name in ("session", "item", "customer", "time", *ORDER, "type") if name in coded.columns]
    return engine.keep(coded.select(columns))


def _hash_key(engine: TableEngine, column: ir.Value, salt: str) -> ir.Value:
    # Null has a hash too; a missing id must stay missing.
    hashed = engine.hash_text(column.concat(salt) if salt else column)
    return ibis.ifelse(column.notnull(), hashed, None)
