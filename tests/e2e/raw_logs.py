"""Raw files in the shapes that shops' systems export."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

DAYS = 6
START = datetime(2026, 3, 2, 9, tzinfo=UTC)
ITEMS = 40


@dataclass(frozen=True)
class Visit:
    """A shopper's visit: items (numbers) in order, a minute apart. An item is mostly followed by the next number."""

    customer: int
    start: datetime
    items: list[int]


def visits(count: int, *, seed: int = 42) -> list[Visit]:
    """So many visits, evenly over the days."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(count):
        walk = [int(rng.integers(ITEMS))]
        while len(walk) < rng.integers(2, 6):
            walk.append((walk[-1] + 1) % ITEMS if rng.random() < 0.9 else int(rng.integers(ITEMS)))
        start = START + timedelta(days=number * DAYS / count)
        made.append(Visit(int(rng.integers(count // 3)), start.replace(microsecond=0), walk))
    return made


def orders(count: int, *, products: int = 400, lines: int = 20, seed: int = 42) -> list[Visit]:
    """So many baskets of about so many lines, evenly over the days. What is in one says little of what else is: half of
    it are products that its customer likes, half any. The till sorts the lines by product."""
    rng = np.random.default_rng(seed)
    customers = count // 10
    liked = [rng.choice(products, size=2 * lines, replace=False) for _ in range(customers)]
    made = []
    for number in range(count):
        customer = int(rng.integers(customers))
        size = int(rng.integers(lines - 5, lines + 6))
        own = rng.choice(liked[customer], size=size // 2, replace=False)
        items = sorted({*own.tolist(), *rng.choice(products, size=size - size // 2, replace=False).tolist()})
        start = START + timedelta(days=number * DAYS / count)
        made.append(Visit(customer, start.replace(microsecond=0), items))
    return made


def write_invoices(file: Path, invoices: list[Visit]) -> dict[str, int]:
    """Invoices as retailers' systems export them: Latin-1, times as month/day/year, customers as floats, a fifth of
    them missing, and cancellations among the rows. Returns how many rows there are of each kind."""
    counts = {"sales": 0, "returns": 0}
    text = io.StringIO(newline="")
    write = csv.writer(text).writerow
    write(["InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID", "Country"])
    for number, one in enumerate(invoices):
        customer = "" if number % 5 == 4 else f"{17000 + one.customer}.0"
        moment = f"{one.start.month}/{one.start.day}/{one.start.year} {one.start.hour}:{one.start.minute:02d}"
        for item in one.items:
            title = f'CAFÉ "No. {item}", £5 MUG'
            write([700001 + number, f"{22000 + item}A", title, 6, moment, 5.25, customer, "United Kingdom"])
            counts["sales"] += 1
        if number % 10 == 0:
            row = [f"C{700001 + number}", f"{22000 + one.items[0]}A", "CANCELLED", -6, moment, 5.25, customer, "EIRE"]
            write(row)
            counts["returns"] += 1
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text.getvalue().encode("latin-1"))
    return counts


def write_ga4(file: Path, sessions: list[Visit]) -> dict[str, int]:
    """Events as GA4 exports them to BigQuery, as JSON lines: nested, in microseconds, with events that have no item,
    and with two shoppers who share a session id. Returns the counts of what a model should see."""

    def product(item: int) -> dict[str, object]:
        return {"item_id": f"A-{item:02d}", "item_name": f"N {item}", "item_brand": "Alder", "price": 9.5}

    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as handle:
        for number, one in enumerate(sessions):
            # A session id is the second of its start: not unique.
            session = int(sessions[number - number % 2].start.timestamp())
            steps = [("session_start", None), *(("view_item", item) for item in one.items), ("page_view", None)]
            for minute, (name, item) in enumerate(steps):
                moment = one.start + timedelta(minutes=minute)
                event = {
                    "event_date": f"{moment:%Y%m%d}",
                    "event_timestamp": str(int(moment.timestamp() * 1e6)),
                    "event_name": name,
                    "user_pseudo_id": f"{1_000_000 + number}.{session}",
                    "event_params": [
                        {"key": "page_location", "value": {"string_value": "https://shop.example/p"}},
                        {"key": "ga_session_id", "value": {"int_value": str(session)}},
                    ],
                    "items": [] if item is None else [product(item)],
                }
                handle.write(json.dumps(event) + "\n")
    return {"sessions": len(sessions), "events": sum(len(one.items) for one in sessions)}


def write_otto(file: Path, sessions: list[Visit]) -> dict[str, int]:
    """A line a session with its events nested, as OTTO published its log."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as handle:
        for number, one in enumerate(sessions):
            events = [
                {"aid": item, "ts": int((one.start + timedelta(minutes=place)).timestamp() * 1000), "type": "clicks"}
                for place, item in enumerate(one.items)
            ]
            handle.write(json.dumps({"session": number, "events": events}) + "\n")
    return {"sessions": len(sessions), "events": sum(len(one.items) for one in sessions)}
