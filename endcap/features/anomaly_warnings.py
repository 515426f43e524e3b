"""Warnings of sessions and customers that look like mistakes: from which share on, and their words."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

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


def is_busy(events: int, total: int, customers: int) -> bool:
    """Tell whether the busiest of some customers has too many of their events."""
    if customers < 2 or total < FEW_EVENTS:
        return False
    mean_of_others = (total - events) / (customers - 1)
    return events / total >= BUSY_SHARE and events >= BUSY_TIMES * mean_of_others


def warn_of_busy_customer(customer: str, events: int, total: int) -> Json:
    """Warn of a customer with too many events."""
    share = events / total
    text = (
        f"the customer {customer!r} has {events:,} events, {share:.1%} of all customers'. If the "
        "id means that the customer is unknown, name it in events.null_values. If it is a robot, drop its rows by "
        "`where`"
    )
    return _build_warning("busy_customer", text, customer=customer, events=events, share=share)


def warn_of_shared_sessions(ids: int, session: str, customers: int) -> Json:
    """Warn of so many session ids with too many customers, of which one has the most."""
    text = (
        f"{ids:,} session id{' is' if ids == 1 else 's are'} of more than {MANY_CUSTOMERS} customers each; "
        f"{session!r} is of {customers:,}. Each of these customers gets a session of that id. If the "
        "id means that the session is unknown, name it in events.null_values"
    )
    return _build_warning("sessions_of_many_customers", text, ids=ids, session=session, customers=customers)


def warn_of_long_sessions(extent: Json, events: int) -> Iterator[Json]:
    """Warn of sessions with more events than LONG_SESSION. extent: `sessions`, their `events`, and the worst one's
    `session` and `most`. events: of all sessions."""
    if extent["events"] >= MANY_IN_LONG_SESSIONS * events:
        share = extent["events"] / events
        text = (
            f"{share:.1%} of all events are in {_format_sessions(extent)} of more than {LONG_SESSION:,} events. The "
            f"longest, {extent['session']!r}, has {extent['most']:,}. Is it a robot, or an id that many share?"
        )
        yield _build_warning("long_sessions", text, **extent, share=share)


def warn_of_lasting_sessions(extent: Json, events: int) -> Iterator[Json]:
    """Warn of sessions that last longer than LONG_TIME. extent: as above, `most` in ms."""
    if extent["events"] >= MANY_OVER_LONG_TIME * events:
        extent = dict(extent)
        share, days = extent["events"] / events, extent.pop("most") * MILLISECOND / timedelta(days=1)
        text = (
            f"{share:.1%} of all events are in {_format_sessions(extent)} of more than {LONG_TIME.days} days; "
            f"{extent['session']!r} takes {days:,.0f}. Does the session column identify visits? `sessions: {{by: "
            "gap}}` cuts each customer's events into visits"
        )
        yield _build_warning("lasting_sessions", text, **extent, days=round(days, 2), share=share)


def _format_sessions(extent: Json) -> str:
    return f"{extent['sessions']:,} session{'' if extent['sessions'] == 1 else 's'}"


def _build_warning(name: str, text: str, **numbers: Any) -> Json:
    return {"name": name, **numbers, "text": text}
