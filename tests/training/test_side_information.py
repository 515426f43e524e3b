"""Side information on its way: from a shop's log and items into a model, and from a request into the same model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from endcap.events import ingest
from endcap.features import build
from endcap.features.dataset_files import read_refit_sessions
from endcap.features.sessions import Sessions
from endcap.features.view import open_view
from endcap.features.vocabulary import Vocabulary
from endcap.models import load
from endcap.registry.package import load_package
from endcap.spec import Recommender, Shop
from endcap.store import Store, open_store
from endcap.training import refit, train
from tests.features.logs import recommender, shop

SIMULATED = {"simulated": {"events": 1200, "days": 4, "items": 60, "customers": 300, "seed": 3}}
NAMES = {"columns": {"session": "session", "customer": "customer", "item": "item", "time": "time", "type": "type"}}
FEATURES = [
    {"name": "act", "kind": "type", "types": ["view", "cart", "purchase"]},
    {"name": "gap", "kind": "gap", "buckets": [10, 60]},
    {"name": "hour", "kind": "hour"},
]
GIVEN = {"features": ["act", "gap", "hour"], "item_features": ["category", "price", "brand"]}
GRU = {"name": "gru4rec", "width": 8, "batch_size": 32, "negatives": 16, "max_epochs": 2, **GIVEN}
SAS = {"name": "sasrec", "width": 8, "blocks": 1, "batch_size": 32, "negatives": 16, "max_epochs": 2, **GIVEN}
BLEND = {"name": "blend", "members": {"sas": SAS, "rules": {"name": "sequential-rules"}}}


@pytest.fixture(scope="module")
def shop_data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, str]:
    """A store with the dataset of a small simulated shop."""
    store = open_store(str(tmp_path_factory.mktemp("shop")))
    chosen = simulate_shop()
    return store, build(chosen, ingest(chosen, store), store)


def simulate_shop() -> Shop:
    items = {"columns": {"title": "title", "category": "category", "price": "price"}, "categorical": ["brand"]}
    return shop(
        events={"sources": [SIMULATED], **NAMES},
        items={"sources": [SIMULATED], **items},
        features={"events": FEATURES},
    )


def make_recommender(model: dict[str, Any], **keys: Any) -> Recommender:
    return recommender(model=model, split={"by": "time", "test": 0.2, "validation": 0.2}, **keys)


def request(sessions: Sessions, row: int, ids: list[str]) -> dict[str, Any]:
    """A session as a shop's page would send it."""
    assert sessions.types is not None
    names = [None, *sessions.types.names]
    begin, end = sessions.offsets[row : row + 2].tolist()
    events = [
        {"item": ids[sessions.items[event]], "time": int(sessions.times[event]), "type": names[code]}
        for event, code in enumerate(sessions.types.codes[begin:end].tolist(), begin)
    ]
    return {"events": events, "k": 10}


@pytest.mark.parametrize("model", [GRU, SAS, BLEND], ids=lambda model: model["name"])
def test_a_request_is_answered_as_its_session_in_the_log_would_be(
    shop_data: tuple[Store, str], model: dict[str, Any]
) -> None:
    store, dataset = shop_data
    spec = make_recommender(model)
    with store.publish("verdicts/test", model["name"]) as verdict:
        verdict.facts["passed"] = True
    packed = refit(spec, dataset, train(spec, dataset, store), verdict.address, store)
    package = load_package(store.fetch(packed, verify=True))
    vocabulary, sessions = read_refit_sessions(store.fetch(dataset), spec)
    assert package.vocabulary.ids == vocabulary.ids
    rows = np.flatnonzero((sessions.lengths > 2) & (sessions.lengths < 20))[:40]
    told = sessions.take(rows)
    expected = package.model.recommend(told, 10)
    requests = [package.ranker.parse(request(told, row, vocabulary.ids)) for row in range(len(rows))]
    for row, answer in enumerate(package.ranker.rank(requests)):
        scored = expected.items[row][expected.items[row] >= 0]
        assert answer.ids[: len(scored)] == [vocabulary.ids[item] for item in scored]
        np.testing.assert_allclose(answer.scores[: len(scored)], expected.scores[row][: len(scored)], rtol=1e-5)


def test_what_models_are_given_changes_what_they_say(shop_data: tuple[Store, str]) -> None:
    store, dataset = shop_data
    spec = make_recommender(SAS)
    folder = store.fetch(train(spec, dataset, store))
    model, ids = load(folder / "model"), Vocabulary.load(folder / "vocabulary.json").ids
    view = open_view(store.fetch(dataset), spec)
    assert view.vocabulary.ids == ids
    plain = model.score(view.test)
    for name in ("act", "gap", "hour"):
        features = {**view.test.features, name: np.roll(view.test.features[name], 1)}
        other = Sessions(view.test.items, view.test.times, view.test.offsets, view.test.customers, features)
        assert not np.allclose(model.score(other), plain), name
    bare = load(store.fetch(train(make_recommender({**SAS, "item_features": []}), dataset, store)) / "model")
    assert not np.allclose(bare.score(view.test), plain)


@pytest.mark.parametrize("model", [GRU, SAS], ids=lambda model: model["name"])
def test_an_event_of_no_type_is_told_by_its_item_alone(shop_data: tuple[Store, str], model: dict[str, Any]) -> None:
    store, dataset = shop_data
    fitted = load(store.fetch(train(make_recommender(model), dataset, store)) / "model")
    weights = fitted.network.weights["feature.act"]  # type: ignore[attr-defined]
    assert weights.shape[0] == 4
    assert not weights[0].any()
    assert weights[1:].any(dim=1).all()
