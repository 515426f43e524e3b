"""Sessions and customers of coded days that look like mistakes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from endcap.features import anomaly_warnings as warnings
from endcap.features.daily.arrays import CodedTexts, Flags, Ints, sort_by_texts
from endcap.features.daily.session_table import SessionNames
from endcap.features.daily.sessions_of_days import DaySessions
from endcap.features.split import MILLISECOND

Json = dict[str, Any]


def find_anomalies(sessions: DaySessions, names: SessionNames, customer_events: Ints) -> list[Json]:
    """Find warnings of sessions before the filters, as `endcap.features.anomalies.find_anomalies` does."""
    events = int(sessions.events.sum())
    if events < warnings.FEW_EVENTS:
        return []
    anomalies = [*_find_busy_customer(names.customers, customer_events), *_find_shared_sessions(sessions, names)]
    extent = _find_worst(sessions, names, sessions.events > warnings.LONG_SESSION, sessions.events)
    if extent is not None:
        anomalies += warnings.warn_of_long_sessions(extent, events)
    if names.begun is None:
        took = sessions.end - sessions.start
        lasting = (took > warnings.LONG_TIME // MILLISECOND) & (sessions.events > 0)
        extent = _find_worst(sessions, names, lasting, took)
        if extent is not None:
            anomalies += warnings.warn_of_lasting_sessions(extent, events)
    return anomalies


def _find_busy_customer(ids: pa.Array, events: Ints) -> Iterator[Json]:
    most, total = int(events.max(initial=0)), int(events.sum())
    if warnings.is_busy(most, total, int((events > 0).sum())):
        yield warnings.warn_of_busy_customer(min(ids.filter(pa.array(events == most)).to_pylist()), most, total)


def _find_shared_sessions(sessions: DaySessions, names: SessionNames) -> Iterator[Json]:
    if not sessions.counts["shared_sessions"]:
        return
    visits = sessions.visits
    heads = visits[(sessions.events[visits] > 0) & (sessions.customer[visits] >= 0)]
    coded = CodedTexts.of(pa.chunked_array([names.list_ids(heads)]))
    customers = np.bincount(coded.codes, minlength=len(coded.ids))
    many = int((customers > warnings.MANY_CUSTOMERS).sum())
    if many:
        most = int(customers.max())
        worst = min(coded.ids.filter(pa.array(customers == most)).to_pylist())
        yield warnings.warn_of_shared_sessions(many, worst, most)


def _find_worst(sessions: DaySessions, names: SessionNames, too_much: Flags, by: Ints) -> Json | None:
    groups = np.flatnonzero(too_much)
    if not len(groups):
        return None
    most = int(by[groups].max())
    worst = groups[by[groups] == most]
    ids = names.list_ids(worst)
    first = sort_by_texts(np.zeros(len(worst), np.int64), [ids])[0]
    events = int(sessions.events[groups].sum())
    return {"sessions": len(groups), "events": events, "session": ids[first].as_py(), "most": most}
