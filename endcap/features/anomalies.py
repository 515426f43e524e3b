"""Sessions and customers that look like mistakes: ids that stand for nobody, sessions that are no visits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ibis.expr.types as ir

from endcap.features import anomaly_warnings as warnings
from endcap.features.engines.table_engine import TableEngine
from endcap.features.keyed_log import NOBODY, KeyedLog
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
    events = int(log.sessions.events.sum().fill_null(0).execute())
    if events < warnings.FEW_EVENTS:
        return []
    anomalies = [
        *_find_busy_customer(log.customers),
        *_find_shared_sessions(log),
        *_find_long_sessions(log.sessions, events),
    ]
    return anomalies if by_gap else [*anomalies, *_find_lasting_sessions(log.sessions, events)]


def _find_busy_customer(customers: ir.Table) -> Iterator[Json]:
    """Warn of a customer with too many events."""
    (total,) = _fetch_rows(
        customers.aggregate(events=customers.events.sum().cast("int64"), customers=customers.count())
    )
    for busy in _fetch_rows(customers.order_by(customers.events.desc(), customers.id).limit(1)):
        if warnings.is_busy(busy["events"], total["events"], total["customers"]):
            yield warnings.warn_of_busy_customer(busy["id"], busy["events"], total["events"])


def _find_shared_sessions(log: KeyedLog) -> Iterator[Json]:
    """Warn of session ids with too many customers."""
    if not log.counts["shared_sessions"]:
        return
    named = log.sessions.filter(log.sessions.customer != NOBODY)
    ids = named.group_by("id").aggregate(customers=named.count())
    many = ids.filter(ids.customers > warnings.MANY_CUSTOMERS)
    for worst in _fetch_rows(many.order_by(many.customers.desc(), many.id).limit(1)):
        yield warnings.warn_of_shared_sessions(int(many.count().execute()), worst["id"], worst["customers"])


def _find_long_sessions(sessions: ir.Table, events: int) -> Iterator[Json]:
    """Warn of sessions with too many events."""
    extent = _find_worst(sessions, sessions.events > warnings.LONG_SESSION, sessions.events)
    if extent is not None:
        yield from warnings.warn_of_long_sessions(extent, events)


def _find_lasting_sessions(sessions: ir.Table, events: int) -> Iterator[Json]:
    """Warn of sessions that last too long."""
    took = sessions.end - sessions.start
    extent = _find_worst(sessions, took > warnings.LONG_TIME // MILLISECOND, took)
    if extent is not None:
        yield from warnings.warn_of_lasting_sessions(extent, events)


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
