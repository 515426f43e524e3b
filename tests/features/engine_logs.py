"""Small logs and shops that meet every branch of the declared steps, drawn by a seed."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from endcap.events.snapshot_days import SnapshotDays, open_snapshot
from endcap.spec import Shop
from endcap.spec.settings import FeatureSettings
from endcap.store import Store
from tests.features.logs import MONDAY, event, shop, snapshot

Row = dict[str, Any]
MINUTE = 60_000
ALIKE = ["a", "A", "a ", "á", "a\u0301", "ß", "ss", "日本", "🛒", "a|b", "a\\|b", "%", "_", "'", "ﬀ", "1", "1.0"]
"""Ids that an engine may take for each other: by case, blanks, forms of Unicode, escapes, patterns, numbers."""
EVERY_FEATURE = [
    *({"name": kind, "kind": kind} for kind in ("position", "gap", "repeat", "hour", "weekday")),
    {"name": "slow", "kind": "gap", "buckets": [60, 300.5]},
    {"name": "type", "kind": "type", "types": ["buy", "view"]},
]


@dataclass(frozen=True)
class Log:
    """A log with its shop.

    Attributes
    ----------
    shop
        How datasets are made of it.
    rows, activity
        As `tests.features.logs.snapshot` takes them.
    items, customers
        What is known of them, by columns.
    end
        Events before it count, epoch ms. None: all.
    files
        In how many a day's rows lie.
    """

    shop: Shop
    rows: Sequence[Row]
    activity: Sequence[Row] = ()
    items: Mapping[str, list[Any]] | None = None
    customers: Mapping[str, list[Any]] | None = None
    end: int | None = None
    files: int = 2

    @property
    def settings(self) -> FeatureSettings:
        """Those of the features step."""
        return FeatureSettings.of(self.shop)

    def open(self, store: Store) -> SnapshotDays:
        """Publish the log as a snapshot, and open it."""
        items, customers = (None if table is None else dict(table) for table in (self.items, self.customers))
        return open_snapshot(
            store,
            snapshot(store, self.rows, items=items, customers=customers, activity=self.activity, files=self.files),
        )


def draw_rows(seed: int, count: int, *, without_customers: bool = False) -> list[Row]:
    """Draw rows of few sessions, items, customers and moments, so that many are shared, equal or missing."""
    draw = random.Random(seed)
    sessions = [*ALIKE, *(f"s{number}" for number in range(30)), None]
    customers = [None, None, *ALIKE[:8], *(f"c{number}" for number in range(10))]
    items = [*ALIKE, *(f"i{number}" for number in range(12))]
    owners = {session: draw.choice(customers) for session in sessions}
    rows = []
    for _ in range(count):
        session = draw.choice(sessions)
        customer = owners[session] if draw.random() < 0.7 else draw.choice(customers)
        row = event(
            session,
            draw.choice(items[: draw.choice([3, len(items)])]),
            draw.randrange(200) * MINUTE + draw.choice([0, 0, 0, 1]),
            None if without_customers else customer,
            part="test" if draw.random() < 0.15 else "train",
        )
        place = {} if draw.random() < 0.7 else {"file": None, "position": None}
        rows.append(
            {
                **row,
                **place,
                "type": draw.choice(["view", "buy", "cart", None]),
                "sequence": draw.choice([None, None, -1, 0, 2]),
            }
        )
    return rows


def make_given_log() -> Log:
    """Shared, adopted and anonymous sessions; filters of several rounds; items and customers with attributes."""
    rows = draw_rows(1, 420)
    # A robot that lasts for days, a customer of most events, and a session of many customers.
    rows += [{**event("robot", "a", 3 * number * 60 * MINUTE, "c1"), "type": "view"} for number in range(40)]
    rows += [{**event("0", "a", number * MINUTE, f"c{number}"), "type": "view"} for number in range(8)]
    keys = {
        "events": {
            "sources": [{"path": "events.csv"}],
            "columns": {"session": "session", "customer": "customer", "type": "type"},
        },
        "features": {"events": EVERY_FEATURE},
        "filters": {"min_session_events": 2, "min_item_events": 6, "min_customer_events": 3},
        "sessions": {"by": "given"},
        "rules": {"owned": {"types": ["buy"]}},
    }
    return Log(
        shop(**keys),
        rows,
        items={
            "item": ["a", "ß", "unseen", "a|b"],
            "price": [1.5, None, 2.0, 1e300],
            "name": [None, "ẞ", "", "x"],
        },
        customers={"customer": ["c1", "á"], "tier": ["gold", None]},
    )


def make_gap_log() -> Log:
    """Sessions by pauses of exactly the gap and of a millisecond more, split by activity; a window; other types."""
    draw = random.Random(2)
    rows = draw_rows(2, 500)
    activity = [
        event(None, "a", draw.randrange(200) * MINUTE, draw.choice(["c1", "c2", "a", "stranger"]), row["part"])
        for row in rows[:60]
    ]
    keys = {
        "events": {
            "sources": [{"path": "events.csv"}],
            "columns": {"customer": "customer", "type": "type"},
            "types": ["view", "cart"],
        },
        "features": {"events": EVERY_FEATURE[:3]},
        "filters": {"min_session_events": 2},
        "sessions": {"by": "gap", "gap": "5m"},
        "rules": {"owned": {"types": ["buy", "view"]}},
        "window": "2h",
    }
    columns = ("customer", "time", "part")
    its = [{name: row[name] for name in columns} for row in activity]
    return Log(shop(**keys), rows, its, end=MONDAY + 190 * MINUTE)


def make_anonymous_log() -> Log:
    """No customers, no test part, no filters, no features, one file."""
    rows = [{**row, "part": "train"} for row in draw_rows(3, 60, without_customers=True)]
    return Log(shop(filters={"min_session_events": 1}, sessions={"by": "given"}), rows, files=1)


def make_empty_log() -> Log:
    """A window that leaves nothing of the training part, and a few events of the test part."""
    rows = [row for row in draw_rows(4, 60) if row["part"] == "test"]
    rows += [event("s1", "a", 0, "c1"), event("s2", "ß", 1)]
    keys = {
        "features": {"events": EVERY_FEATURE[:3]},
        "filters": {"min_session_events": 2, "min_customer_events": 2},
        "sessions": {"by": "given"},
        "window": "1m",
    }
    return Log(shop(**keys), rows, end=MONDAY + 300 * MINUTE)


LOGS = {
    "given": make_given_log,
    "gap": make_gap_log,
    "anonymous": make_anonymous_log,
    "empty": make_empty_log,
}
