"""A little log, and recommenders of it, for tests of the train step and its search."""

from __future__ import annotations

from typing import Any

from endcap.features import build
from endcap.spec import Recommender
from endcap.store import Store
from tests.features.logs import recommender, sessions, shop, snapshot
from tests.training.stand_ins import PATH

# The last two of twenty sessions are the test; only there is an `n`.
LOG = " ".join(["abcab", "xyzxy"] * 9 + ["abcan", "xyzxn"])
SPLIT = {"by": "time", "test": 0.1, "validation": 0.2}


def little_dataset(store: Store) -> str:
    """The log's dataset in a store."""
    return build(shop(), snapshot(store, sessions(LOG)), store)


def sleeper(search: dict[str, Any], path: str = PATH, **parameters: Any) -> Recommender:
    """A recommender whose model is a stand-in."""
    model = {"name": "custom", "class": path, "parameters": parameters}
    return recommender(model=model, classes=[path], split=SPLIT, search=search)
