"""Sessions and customers that look like mistakes: ids that stand for nobody, sessions that are no visits."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import ibis.expr.types as ir

from endcap.features.engines.table_engine import TableEngine
from endcap.features.keyed_log import NOBODY, KeyedLog
from endcap.features.split import MILLISECOND

Json = dict[str, Any]
FEW_EVENTS = 20
"""The shares of a log with fewer events mean nothing."""
LONG_SESSION = 1000
"""More events than a person makes in one visit: the longest of RecSys 2015's nine million sessions has 200. The online
store keeps this many events of a session."""
MANY_IN_LONG_SESSIONS = 0.01
"""A warning begins at this share of the events. Every log has some robot."""
LONG_TIME = timedelta(days=2)
"""A visit over midnight is shorter, in any time zone."""
MANY_OVER_LONG_TIME = 0.05
"""A warning begins at this share of events in sessions that last longer. A tab that is open for a week is no
mistake."""
MANY_CUSTOMERS = 10
"""More customers than share a machine at home. Ids made of several columns are told apart."""
BUSY_SHARE, BUSY_TIMES = 0.1, 10
"""A customer's share of all customers' events, and how many times the mean of the others it is, from which a warning
begins."""


def find_anomalies(engine: TableEngine, log: KeyedLog, *, by_gap: bool) -> list[Json]:
    """Find warnings of a log before its filters.

    Parameters
    ----------
    engine, log
        The log and where it is kept.
    by_gap
        Whether gaps cut the sessions, so that their duration says nothing.

    Returns
    -------
    list of dict
        Each has `name`, numbers of its own, and `text`.
    """
    events = int(log.sessions.events.sum().fill_null(0).execute())
    if events < FEW_EVENTS:
        return []
    warnings = [
        *_find_busy_customer(log.customers),
        *_find_shared_sessions(log),
        *_find_long_sessions(log.sessions, events),
    ]
    return warnings if by_gap else [*warnings, *_find_lasting_sessions(log.sessions, events)]


def _find_busy_customer(customers: ir.Table) -> Iterator[Json]:
    """Warn of a customer with too many events."""
    (total,) = _fetch_rows(
        customers.aggregate(events=customers.events.sum().cast("int64"), customers=customers.count())
    )
    if total["customers"] < 2 or total["events"] < FEW_EVENTS:
        return
    (busy,) = _fetch_rows(customers.order_by(customers.events.desc(), customers.id).limit(1))
    share = busy["events"] / total["events"]
    mean_of_others = (total["events"] - busy["events"]) / (total["customers"] - 1)
    if share >= BUSY_SHARE and busy["events"] >= BUSY_TIMES * mean_of_others:
        text = (
            f"the customer {busy['id']!r} has {busy['events']:,} events, {share:.1%} of all customers'. If the "
            "id means that the customer is unknown, name it in events.null_values. If it is a robot, drop its rows by "
            "`where`"
        )
        yield _build_warning("busy_customer", text, customer=busy["id"], events=busy["events"], share=share)


def _find_shared_sessions(log: KeyedLog) -> Iterator[Json]:
    """Warn of session ids with too many customers."""
    if not log.counts["shared_sessions"]:
        return
    named = log.sessions.filter(log.sessions.customer != NOBODY)
    ids = named.group_by("id").aggregate(customers=named.count())
    many = ids.filter(ids.customers > MANY_CUSTOMERS)
    for worst in _fetch_rows(many.order_by(many.customers.desc(), many.id).limit(1)):
        count = int(many.count().execute())
        text = (
            f"{count:,} session id{' is' if count == 1 else 's are'} of more than {MANY_CUSTOMERS} customers each; "
            f"{worst['id']!r} is of {worst['customers']:,}. Each of these customers gets a session of that id. If the "
            "id means that the session is unknown, name it in events.null_values"
        )
        yield _build_warning(
            "sessions_of_many_customers", text, ids=count, session=worst["id"], customers=worst["customers"]
        )


def _find_long_sessions(sessions: ir.Table, events: int) -> Iterator[Json]:
    """Warn of sessions with too many events."""
    extent = _find_worst(sessions, sessions.events > LONG_SESSION, sessions.events)
    if extent is not None and extent["events"] >= MANY_IN_LONG_SESSIONS * events:
        share = extent["events"] / events
        text = (
            f"{share:.1%} of all events are in {_format_sessions(extent)} of more than {LONG_SESSION:,} events. The "
            f"longest, {extent['session']!r}, has {extent['most']:,}. Is it a robot, or an id that many share?"
        )
        yield _build_warning("long_sessions", text, **extent, share=share)


def _find_lasting_sessions(sessions: ir.Table, events: int) -> Iterator[Json]:
    """Warn of sessions that last too long."""
    took = sessions.end - sessions.start
    extent = _find_worst(sessions, took > LONG_TIME // MILLISECOND, took)
    if extent is not None and extent["events"] >= MANY_OVER_LONG_TIME * events:
        share, days = extent["events"] / events, extent.pop("most") * MILLISECOND / timedelta(days=1)
        text = (
            f"{share:.1%} of all events are in {_format_sessions(extent)} of more than {LONG_TIME.days} days; "
            f"{extent['session']!r} takes {days:,.0f}. Does the session column identify visits? `sessions: {{by: "
            "gap}}` cuts each customer's events into visits"
        )
        yield _build_warning("lasting_sessions", text, **extent, days=round(days, 2), share=share)


def _find_worst(sessions: ir.Table, too_much: ir.BooleanValue, by: ir.IntegerColumn) -> Json | None:
    """Return how many sessions exceed a limit, their events, and the id and measure of the worst one."""
    some = sessions.mutate(most=by).filter(too_much)
    (extent,) = _fetch_rows(some.aggregate(sessions=some.count(), events=some.events.sum().cast("int64")))
    if not extent["sessions"]:
        return None
    (worst,) = _fetch_rows(some.order_by(some.most.desc(), some.id).limit(1))
    return {**extent, "session": worst["id"], "most": worst["most"]}


def _fetch_rows(table: ir.Table) -> list[Json]:
    rows: list[Json] = table.to_pyarrow().to_pylist()
    return rows


def _format_sessions(extent: Json) -> str:
    return f"{extent['sessions']:,} session{'' if extent['sessions'] == 1 else 's'}"


def _build_warning(name: str, text: str, **numbers: Any) -> Json:
    return {"name": name, **numbers, "text": text}
