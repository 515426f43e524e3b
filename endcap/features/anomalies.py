"""Sessions and customers that look like mistakes: ids that stand for nobody, sessions that are no visits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ibis.expr.types as ir

from endcap.features import anomaly_warnings as warnings
from endcap.features.engines.table_engine import TableEngine
from endcap.features.keyed_log import NOBODY, KeyedLog
from endcap.features.measures import measure
from endcap.features.split import MILLISECOND

Json = dict[str, Any]


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
    sessions, customers = log.sessions, log.customers
    took = sessions.end - sessions.start
    extents = {
        "long": (sessions.events, sessions.events > warnings.LONG_SESSION),
        "lasting": (took, took > warnings.LONG_TIME // MILLISECOND),
    }
    numbers = measure(
        events=sessions.events.sum(),
        customers=customers.count(),
        known=customers.events.sum(),
        busiest=customers.events.max(),
        **{f"{name} sessions": too_much.sum() for name, (_, too_much) in extents.items()},
        **{f"{name} events": sessions.events.sum(where=too_much) for name, (_, too_much) in extents.items()},
    )
    events = numbers["events"]
    if events < warnings.FEW_EVENTS:
        return []
    anomalies = list(_find_busy_customer(customers, numbers["busiest"], numbers["known"], numbers["customers"]))
    anomalies += _find_shared_sessions(log)
    for name, warn in (("long", warnings.warn_of_long_sessions), ("lasting", warnings.warn_of_lasting_sessions)):
        extent = {"sessions": numbers[f"{name} sessions"], "events": numbers[f"{name} events"]}
        if extent["sessions"] and not (by_gap and name == "lasting"):
            anomalies += warn({**extent, **_find_worst(sessions, extents[name][0])}, events)
    return anomalies


def _find_busy_customer(customers: ir.Table, busiest: int, events: int, count: int) -> Iterator[Json]:
    """Warn of a customer with too many events. `events` are of so many customers."""
    if warnings.is_busy(busiest, events, count):
        (busy,) = _fetch_rows(customers.order_by(customers.events.desc(), customers.id).limit(1))
        yield warnings.warn_of_busy_customer(busy["id"], busy["events"], events)


def _find_shared_sessions(log: KeyedLog) -> Iterator[Json]:
    """Warn of session ids with too many customers."""
    if not log.counts["shared_sessions"]:
        return
    named = log.sessions.filter(log.sessions.customer != NOBODY)
    ids = named.group_by("id").aggregate(customers=named.count())
    many = ids.filter(ids.customers > warnings.MANY_CUSTOMERS)
    for worst in _fetch_rows(many.order_by(many.customers.desc(), many.id).limit(1)):
        yield warnings.warn_of_shared_sessions(int(many.count().execute()), worst["id"], worst["customers"])


def _find_worst(sessions: ir.Table, by: ir.IntegerColumn) -> Json:
    """Return the id and the measure (`most`) of the worst session."""
    some = sessions.mutate(most=by)
    (worst,) = _fetch_rows(some.order_by(some.most.desc(), some.id).limit(1))
    return {"session": worst["id"], "most": worst["most"]}


def _fetch_rows(table: ir.Table) -> list[Json]:
    rows: list[Json] = table.to_pyarrow().to_pylist()
    return rows
