"""A shop with types, features and item attributes, and a recommender that prepares its sessions in every way."""

from __future__ import annotations

from typing import Any

import numpy as np

from endcap.features import build
from endcap.features.sessions import Sessions
from endcap.registry.package import LoadedPackage
from endcap.spec import Recommender, Shop
from endcap.store import Store
from tests.features.logs import event, recommender, shop, snapshot
from tests.preprocessing.stand_ins import step

ITEMS = [f"i{number:02}" for number in range(24)]
KINDS = ["view", "view", "view", "cart", None]
STEPS = [
    step("DropType", type="cart"),
    step("DropGlances", ms=2000),
    step("SlowBefore", seconds=50.0),
    step("LastOfRegulars"),
    step("ToCheapest"),
]


def its_shop() -> Shop:
    """Events have types, of which one is not told apart, and a gap."""
    columns = {"session": "session", "customer": "customer", "type": "type"}
    features = [{"name": "gap", "kind": "gap"}, {"name": "kind", "kind": "type", "types": ["view", "cart"]}]
    return shop(
        events={"sources": [{"path": "events.csv"}], "columns": columns},
        items={
            "sources": [{"path": "items.csv"}],
            "columns": {"item": "item", "category": "category", "price": "price"},
        },
        features={"events": features},
    )


def dataset(store: Store, count: int = 240) -> str:
    """Walks among neighbouring items; some customers come back, and some of those unknown have carts alone."""
    rng = np.random.default_rng(1)
    rows: list[dict[str, Any]] = []
    for number in range(count):
        place, moment = int(rng.integers(24)), 600_000 * number
        who = None if number % 7 == 0 else f"c{int(rng.integers(150))}"
        for _ in range(int(rng.integers(2, 9))):
            row = event(f"s{number:03}", ITEMS[place], moment, who)
            kind = KINDS[int(rng.integers(5))] if rng.random() < 0.95 else "share"
            rows.append({**row, "type": "cart" if number % 21 == 0 else kind})
            place = (place + int(rng.integers(1, 4))) % 24
            moment += int(rng.choice([1000, 5000, 30_000, 60_000]))
    items = {
        "item": ITEMS,
        "category": [f"k{number // 2}" for number in range(24)],
        "price": [float(10 + 7 * number % 24) for number in range(24)],
    }
    return build(its_shop(), snapshot(store, rows, items=items), store)


def spec(model: dict[str, Any] | None = None, **keys: Any) -> Recommender:
    """All steps before a model that remembers customers."""
    defaults: dict[str, Any] = {
        "model": model or {"name": "item-knn", "history": "customer"},
        "preprocessing": STEPS,
        "classes": [one["class"] for one in STEPS],
        "split": {"by": "time", "test": 0.2, "validation": 0.1},
        "evaluation": {"cutoffs": [5, 20], "bootstrap": 100},
        "gate": [],
        "exclude": "seen",
        "batch": {"k": 6, "partition_size": 40},
    }
    return recommender(**{**defaults, **keys})


def request(package: LoadedPackage, session: Sessions, ids: list[str]) -> dict[str, Any]:
    """A session as a shop's front end would send it."""
    events = [
        {"item": package.vocabulary.ids[item], "time": int(moment), **({} if kind is None else {"type": kind})}
        for item, moment, kind in zip(session.items, session.times, types_of(session), strict=True)
    ]
    who = int(session.customers[0])
    return {"events": events, "k": 20, **({"customer": ids[who]} if who >= 0 else {})}


def types_of(session: Sessions) -> list[str | None]:
    assert session.types is not None
    # What the shop does not tell apart comes to the predictor by its own name all the same.
    return [["share", *session.types.names][code] for code in session.types.codes]
