"""Sources that are simulated where they are read."""

from __future__ import annotations

import pytest

from endcap.errors import ProblemCode
from endcap.events import ingest
from endcap.spec import Shop
from endcap.store import Store
from tests.refusals import mistaken

SIMULATED = {"simulated": {"events": 2000, "days": 3, "items": 100, "customers": 200, "seed": 5}}


def shop(**numbers: int) -> Shop:
    source = {"simulated": SIMULATED["simulated"] | numbers}
    return Shop.model_validate(
        {
            "apiVersion": "endcap/v2",
            "kind": "Shop",
            "name": "simulated",
            "events": {"sources": [source], "columns": {"session": "session", "customer": "customer"}},
            "items": {"sources": [source], "columns": {"title": "title"}},
        }
    )


def test_the_same_numbers_are_the_same_snapshot_and_others_another(store: Store) -> None:
    first = ingest(shop(), store)
    assert ingest(shop(), store) == first
    assert ingest(shop(seed=6), store) != first
    facts = store.manifest(first)["facts"]
    assert 1000 < facts["events"] < 4000
    assert facts["items"]["rows"] > 50
    assert not any(facts["bad"].values())


@pytest.mark.parametrize(
    ("source", "key", "code"), [({}, "path", "missing"), ({"path": "x.csv", **SIMULATED}, "simulated", "conflict")]
)
def test_a_source_has_one_origin(source: dict[str, object], key: str, code: ProblemCode) -> None:
    with mistaken((("events", "sources", 0, key), code)):
        Shop.model_validate(shop().model_dump(mode="json") | {"events": {"sources": [source]}})
