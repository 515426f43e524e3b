"""Random snapshots and settings, which meet every kind of session, filter, window and feature."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

from endcap.spec import Shop
from tests.features.logs import DAY, MONDAY, shop

Row = dict[str, Any]
TYPES = ["view", "buy", "cart", None]
KINDS = ("position", "gap", "repeat", "hour", "weekday")
FEATURES = [
    *({"name": kind, "kind": kind} for kind in KINDS),
    {"name": "slow", "kind": "gap", "buckets": [1, 5]},
    {"name": "type", "kind": "type", "types": ["cart", "view"]},
]
ODD = ["c!", "c", "ä|b", "x\\y", "größe 🛒", " ", "-1"]


class RandomShop:
    """A shop and its rows, drawn by a seed. rows: in reading order, of Monday and up to a week."""

    def __init__(self, seed: int) -> None:
        self._draw = draw = random.Random(seed)
        self._span, self._step = draw.choice([2000, DAY // 2, 3 * DAY, 6 * DAY]), draw.choice([1, 1000, 60_000])
        self._start = draw.choice([0, DAY - 1000, DAY // 2])
        self._customers = [None] * draw.choice([0, 1, 5]) + [f"c{n}" for n in range(draw.choice([1, 3, 20]))]
        self._sessions = [f"s{n}" for n in range(draw.choice([1, 5, 50, 200]))] + [None] * draw.choice([0, 0, 1])
        if draw.random() < 0.3:
            self._customers += ODD
            self._sessions += ODD
        by = draw.choice(["given", "gap"])
        types = draw.choice([None, None, ["view"], ["view", "cart"]])
        self.shop = self._draw_shop(by, types)
        self.rows = self._draw_rows(None if types is None else self.shop.kept_types)
        self.activity = [
            self._place({"customer": draw.choice([name for name in self._customers if name])})
            for _ in range(draw.choice([0, 30, 200]) if by == "gap" else 0)
        ]
        self.items = {"item": [f"i{n}" for n in range(0, 60, 2)], "price": [None, *map(float, range(29))]}
        end = self._start + draw.randrange(self._span, 2 * self._span)
        moment = datetime.fromtimestamp(MONDAY / 1000, UTC) + timedelta(milliseconds=end)
        self.until = None if draw.random() < 0.6 else moment

    def _draw_shop(self, by: str, types: list[str] | None) -> Shop:
        draw = self._draw
        columns = {"session": "session", "customer": "customer", "type": "type"}
        keys: dict[str, Any] = {
            "events": {"sources": [{"path": "events.csv"}], "columns": columns, "types": types},
            "sessions": {"by": by, "gap": draw.choice(["1ms", "500ms", "30m", "20h", "2d"])},
            "features": {"events": draw.sample(FEATURES, draw.randrange(len(FEATURES) + 1))},
            "filters": {
                "min_session_events": draw.choice([1, 2, 3]),
                "min_item_events": draw.choice([1, 1, 3]),
                "min_customer_events": draw.choice([1, 1, 3]),
            },
        }
        if draw.random() < 0.5:
            keys["rules"] = {"owned": {"types": draw.choice([["buy"], ["buy", "view"]])}}
        if draw.random() < 0.4:
            keys["window"] = f"{draw.choice([self._span // 3, self._span // 2, 2 * self._span])}ms"
        return shop(**keys)

    def _draw_rows(self, types: list[str] | None) -> list[Row]:
        draw = self._draw
        alone, items = draw.random() < 0.5, draw.choice([2, 10, 60])
        owners = {session: draw.choice(self._customers) for session in self._sessions}
        rows = []
        for _ in range(draw.choice([20, 100, 400])):
            session = draw.choice(self._sessions)
            customer = owners[session] if alone else draw.choice(self._customers)
            kind = draw.choice(TYPES if types is None else types)
            rows.append(
                self._place(
                    {"session": session, "customer": customer, "item": f"i{draw.randrange(items)}", "type": kind}
                )
            )
        return rows

    def _place(self, row: Row) -> Row:
        time = self._start + self._draw.randrange(-(-self._span // self._step)) * self._step
        part = "test" if self._draw.random() < 0.1 else "train"
        return {**row, "time": MONDAY + time, "part": part}
