"""Warnings of sessions and customers that are hardly meant."""

from __future__ import annotations

from typing import Any

import pytest

from endcap.features import anomaly_warnings, build
from endcap.store import Store
from tests.features.logs import DAY, event, shop, snapshot

pytestmark = pytest.mark.usefixtures("engine")
Row = dict[str, Any]
MINUTE = 60_000


def visits(customers: int, *, events: int = 3, days: int = 0) -> list[Row]:
    """A visit of each customer c<n>, of its own session id."""
    every = days * DAY // max(1, events - 1) or MINUTE
    return [event(f"s{n}", "abc"[at % 3], at * every, f"c{n}") for n in range(customers) for at in range(events)]


def warned(store: Store, rows: list[Row], by: str) -> list[Row]:
    its = shop(sessions={"by": by, "gap": "30m"}, filters={"min_session_events": 1})
    found: list[Row] = store.manifest(build(its, snapshot(store, rows), store))["facts"]["warnings"]
    return found


GUEST = [event(f"g{at}", "a", at * MINUTE, "guest") for at in range(60)]
ONE_ID = [event("0", "a", n * MINUTE, f"c{n}") for n in range(30)]
COOKIES = visits(8, days=9)
CASES: dict[str, tuple[list[Row], str, list[dict[str, Any]]]] = {
    "as it should be": (visits(20), "given", []),
    "few customers": (visits(2, events=30), "given", []),
    "one customer": ([event(f"s{n}", "a", n * DAY, "c") for n in range(30)], "given", []),
    "guest": (
        visits(20) + GUEST,
        "given",
        [{"name": "busy_customer", "customer": "guest", "events": 60, "share": 0.5}],
    ),
    "guest by gap": (
        visits(20) + GUEST,
        "gap",
        [{"name": "busy_customer", "customer": "guest"}, {"name": "long_sessions", "most": 60}],
    ),
    "a word for a session": (
        visits(20) + ONE_ID,
        "given",
        [{"name": "sessions_of_many_customers", "ids": 1, "session": "0", "customers": 30}],
    ),
    "a household": (visits(20) + ONE_ID[:10], "given", []),
    "cookies": (
        visits(20) + COOKIES,
        "given",
        [{"name": "lasting_sessions", "sessions": 8, "events": 48, "days": 9.0}],
    ),
    "cookies by gap": (visits(20) + COOKIES, "gap", []),
    "a robot": (
        visits(20) + [event("r", "a", at, "c1") for at in range(50)],
        "given",
        [
            {"name": "busy_customer", "customer": "c1"},
            {"name": "long_sessions", "session": "r", "sessions": 1, "most": 50},
        ],
    ),
    "a little log": (COOKIES[:9], "given", []),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_hardly_meant_is_said(case: str, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(anomaly_warnings, "LONG_SESSION", 40)
    rows, by, expected = CASES[case]
    found = warned(store, rows, by)
    assert [one["name"] for one in found] == [one["name"] for one in expected]
    for one, wanted in zip(found, expected, strict=True):
        assert wanted.items() <= one.items()
        assert one["text"]
