"""What of sessions and customers is hardly meant: ids that stand for nobody, sessions that are no visits."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import ibis.expr.types as ir

from endcap.features.engine import TableEngine
from endcap.features.keyed_log import NOBODY, KeyedLog
from endcap.features.window import MILLISECOND

Json = dict[str, Any]
FEW_EVENTS = 20
"""A log of fewer says nothing by its shares."""
LONG_SESSION = 1000
"""Events that no person makes in one visit: the longest of RecSys 2015's nine million sessions has 200. The online
store keeps as many of a session."""
MANY_IN_LONG_SESSIONS = 0.01
"""Their share of the events. Every log has some robot."""
LONG_TIME = timedelta(days=2)
"""A visit over midnight is shorter, in any zone of time."""
MANY_OVER_LONG_TIME = 0.05
"""The share of the events that are of sessions of a longer time: a tab that is left open for a week is no mistake."""
MANY_CUSTOMERS = 10
"""Customers of a session's id. A machine that a household shares has fewer; ids of several columns are told apart."""
BUSY_SHARE, BUSY_TIMES = 0.1, 10
"""A customer's share of all customers' events, and how many times the mean of the others it is."""


def find_anomalies(engine: TableEngine, log: KeyedLog, *, by_gap: bool) -> list[Json]:
    """Warnings of a log before its filters, each with `name`, numbers of its own, and `text`.

    by_gap: whether its sessions are cut by gaps, so that their length in time says nothing.
    """
    events = int(log.sessions.events.sum().fill_null(0).execute())
    if events < FEW_EVENTS:
        return []
    warnings = [*_busy(log.customers), *_shared(log), *_long(log.sessions, events)]
    return warnings if by_gap else [*warnings, *_lasting(log.sessions, events)]


def _busy(customers: ir.Table) -> Iterator[Json]:
    """A customer of too many events."""
    (total,) = _rows(customers.aggregate(events=customers.events.sum().cast("int64"), customers=customers.count()))
    if total["customers"] < 2 or total["events"] < FEW_EVENTS:
        return
    (busy,) = _rows(customers.order_by(customers.events.desc(), customers.id).limit(1))
    share = busy["events"] / total["events"]
    others = (total["events"] - busy["events"]) / (total["customers"] - 1)
    if share >= BUSY_SHARE and busy["events"] >= BUSY_TIMES * others:
        text = (
            f"the customer {busy['id']!r} has {busy['events']:,} events, {share:.1%} of all customers'. Where this is "
            "a word for nobody, name it in events.null_values; where it is a robot, leave its rows out by `where`"
        )
        yield _warning("busy_customer", text, customer=busy["id"], events=busy["events"], share=share)


def _shared(log: KeyedLog) -> Iterator[Json]:
    """Session ids of too many customers."""
    if not log.counts["shared_sessions"]:
        return
    named = log.sessions.filter(log.sessions.customer != NOBODY)
    ids = named.group_by("id").aggregate(customers=named.count())
    many = ids.filter(ids.customers > MANY_CUSTOMERS)
    for worst in _rows(many.order_by(many.customers.desc(), many.id).limit(1)):
        count = int(many.count().execute())
        text = (
            f"{count:,} session id{' is' if count == 1 else 's are'} of more than {MANY_CUSTOMERS} customers each; "
            f"{worst['id']!r} is of {worst['customers']:,}. Each customer has a session of that id. Where it is a "
            "word for nothing, name it in events.null_values"
        )
        yield _warning("sessions_of_many_customers", text, ids=count, session=worst["id"], customers=worst["customers"])


def _long(sessions: ir.Table, events: int) -> Iterator[Json]:
    """Sessions of too many events."""
    extent = _worst(sessions, sessions.events > LONG_SESSION, sessions.events)
    if extent is not None and extent["events"] >= MANY_IN_LONG_SESSIONS * events:
        share = extent["events"] / events
        text = (
            f"{share:.1%} of all events are in {_sessions(extent)} of more than {LONG_SESSION:,} events; the longest, "
            f"{extent['session']!r}, has {extent['most']:,}. Is it a robot, or an id that many share?"
        )
        yield _warning("long_sessions", text, **extent, share=share)


def _lasting(sessions: ir.Table, events: int) -> Iterator[Json]:
    """Sessions that take too much time."""
    took = sessions.end - sessions.start
    extent = _worst(sessions, took > LONG_TIME // MILLISECOND, took)
    if extent is not None and extent["events"] >= MANY_OVER_LONG_TIME * events:
        share, days = extent["events"] / events, extent.pop("most") * MILLISECOND / timedelta(days=1)
        text = (
            f"{share:.1%} of all events are in {_sessions(extent)} of more than {LONG_TIME.days} days; "
            f"{extent['session']!r} takes {days:,.0f}. Is the session column an id of visits? `sessions: {{by: gap}}` "
            "makes visits of what customers did"
        )
        yield _warning("lasting_sessions", text, **extent, days=round(days, 2), share=share)


def _worst(sessions: ir.Table, too_much: ir.BooleanValue, by: ir.IntegerColumn) -> Json | None:
    """How many sessions are so, their events, and the id and measure of the one that is most so."""
    some = sessions.mutate(most=by).filter(too_much)
    (extent,) = _rows(some.aggregate(sessions=some.count(), events=some.events.sum().cast("int64")))
    if not extent["sessions"]:
        return None
    (worst,) = _rows(some.order_by(some.most.desc(), some.id).limit(1))
    return {**extent, "session": worst["id"], "most": worst["most"]}


def _rows(table: ir.Table) -> list[Json]:
    rows: list[Json] = table.to_pyarrow().to_pylist()
    return rows


def _sessions(extent: Json) -> str:
    return f"{extent['sessions']:,} session{'' if extent['sessions'] == 1 else 's'}"


def _warning(name: str, text: str, **numbers: Any) -> Json:
    return {"name": name, **numbers, "text": text}
