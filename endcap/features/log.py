"""A part of a snapshot with integers for its string ids, and its sessions made.

Strings cost many times what integers cost to sort, group and join. So each id is replaced by its 64-bit hash at once,
and the id itself is kept in one small table of each kind. Two ids of one hash would be taken for one: that is looked
for, and met by hashing anew with another salt.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import ibis
import ibis.expr.types as ir
from ibis.expr import datatypes as dt

from endcap.features.engine import Engine
from endcap.features.window import MILLISECOND

NOBODY = 0
"""The key of a missing customer. Nulls would need a second look in every join."""


@ibis.udf.scalar.builtin(name="hash", signature=((dt.string,), dt.uint64))  # type: ignore[untyped-decorator]
def _hash(value: str) -> int:  # type: ignore[empty-body]
    """DuckDB's own hash. Ibis's `hash()` casts its result by way of a bit string, row by row."""


class CollisionError(Exception):
    """Two ids share a key under this salt."""


@dataclass(frozen=True)
class Log:
    """Events of one part, in keys.

    events: session, item, customer (keys, NOBODY where there is none), time (epoch ms), row (reading order), and type
    where the rows have one.
    sessions: key, id, customer (id or null), start, end, events. items: key, id, events, first_seen.
    customers: key, id, events. The three tables say which events are in: those whose keys all stand in them.
    """

    events: ir.Table
    sessions: ir.Table
    items: ir.Table
    customers: ir.Table


def given(engine: Engine, rows: ir.Table, salt: str) -> Log:
    """The log of rows whose sessions come with them. A session of several customers is of the first id of them."""
    events, items, customers = _coded(engine, rows.mutate(session=_key(rows.session, salt)), rows, salt)
    sessions = rows.group_by(id=rows.session).aggregate(
        customer=rows.customer.min(), start=rows.time.min(), end=rows.time.max(), events=rows.count()
    )
    kept = engine.keep(sessions.mutate(key=_key(sessions.id, salt)))
    check_keys(engine, kept)
    return Log(events, kept, items, customers)


def by_gap(engine: Engine, rows: ir.Table, gap: timedelta, salt: str) -> Log:
    """The log of rows that all have a customer, cut into sessions where a customer's pause is longer than `gap`.

    A session's id is its customer's and its start, as in ``c7@1717236000000``.
    """
    unsorted, items, customers = _coded(engine, rows.drop("session"), rows, salt)
    # Sorted once, the rest are running values over neighbouring rows, which are far cheaper than a window for each.
    events = engine.keep(unsorted.order_by("customer", "time", "row"))
    engine.drop(unsorted)
    apart = events.mutate(pause=events.time - events.time.lag(), other=events.customer != events.customer.lag())
    cut = (apart.other | (apart.pause > gap // MILLISECOND)).fill_null(True)
    numbered = apart.mutate(session=cut.cast("int64").sum().over(ibis.cumulative_window()).cast("uint64"))
    coded = engine.keep(numbered.select("session", *(name for name in events.columns if name != "session")))
    engine.drop(events)
    sessions = coded.group_by(key=coded.session).aggregate(
        owner=coded.customer.min(), start=coded.time.min(), end=coded.time.max(), events=coded.count()
    )
    owners = customers.select(owner="key", customer="id")
    sessions = sessions.join(owners, "owner").drop("owner")
    named = sessions.mutate(id=sessions.customer.concat("@", sessions.start.cast("string")))
    return Log(coded, engine.keep(named), items, customers)


def check_keys(engine: Engine, *tables: ir.Table) -> None:
    """Raise CollisionError where two ids of a table share a key."""
    for table in tables:
        rows, keys = table.aggregate(rows=table.count(), keys=table.key.nunique()).to_pyarrow().to_pylist()[0].values()
        if rows != keys:
            raise CollisionError


def _coded(engine: Engine, events: ir.Table, rows: ir.Table, salt: str) -> tuple[ir.Table, ir.Table, ir.Table]:
    """A log's events, items and customers."""
    coded = events.mutate(item=_key(events.item, salt), customer=_key(events.customer, salt).fill_null(NOBODY))
    columns = [name for name in ("session", "item", "customer", "time", "row", "type") if name in coded.columns]
    items = rows.group_by(id=rows.item).aggregate(events=rows.count(), first_seen=rows.time.min())
    known = rows.filter(rows.customer.notnull())
    customers = known.group_by(id=known.customer).aggregate(events=known.count())
    kept_items, kept_customers = (engine.keep(table.mutate(key=_key(table.id, salt))) for table in (items, customers))
    check_keys(engine, kept_items, kept_customers)
    return engine.keep(coded.select(columns)), kept_items, kept_customers


def _key(column: ir.Value, salt: str) -> ir.Value:
    # Null has a hash too; a missing id must stay missing.
    hashed = _hash(column.concat(salt) if salt else column)
    return ibis.ifelse(column.notnull(), hashed, None)
