"""Who the customer is, from the log to a request's answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from endcap.errors import IntegrityError
from endcap.features import build
from endcap.features.dataset_files import read_customer_ids, read_refit_sessions
from endcap.registry.package import LoadedPackage, load_package
from endcap.spec import Recommender
from endcap.store import Store
from endcap.training import refit, train
from tests.features.logs import event, recommender, shop, snapshot
from tests.refusals import refused

KNN = {"name": "item-knn", "history": "customer"}
NEUMF = {"name": "neumf", "width": 4, "layers": [8], "batch_size": 16, "max_epochs": 2}
EASE = {"name": "ease", "history": "customer", "regularisation": 1.0}
WORDS = ["abcab", "xyzxy"]


@pytest.fixture
def dataset(store: Store) -> str:
    """Ann and others have a, b, c; Zoe and others x, y, z; nobody knows who had sessions 18 and 19."""
    names = ["ann", "zoe", "bob", "yan", "cy", "xi"]
    rows = [
        event(f"s{number}", item, 100_000 * number + 1000 * step, None if number > 17 else names[number % 6])
        for number in range(20)
        for step, item in enumerate(WORDS[number % 2])
    ]
    return build(shop(), snapshot(store, rows), store)


def make_recommender(model: dict[str, Any]) -> Recommender:
    return recommender(model=model, split={"by": "time", "test": 0.2, "validation": 0.2})


def make_package(spec: Recommender, dataset: str, store: Store) -> LoadedPackage:
    with store.publish("verdicts/test", spec.model.name) as draft:
        draft.facts["passed"] = True
    address = refit(spec, dataset, train(spec, dataset, store), draft.address, store)
    package = load_package(store.fetch(address, verify=True))
    package.check()
    return package


def ask(package: LoadedPackage, **request: Any) -> list[tuple[str, float | None]]:
    answer = package.ranker.rank([package.ranker.parse({"k": 3, **request})])[0]
    return list(zip(answer.ids, answer.scores, strict=True))


@pytest.mark.parametrize(
    "model", [EASE, {"name": "item-knn", "history": "customer"}, NEUMF], ids=lambda one: one["name"]
)
def test_a_request_s_customer_is_the_customer_of_the_log(store: Store, dataset: str, model: dict[str, Any]) -> None:
    spec = make_recommender(model)
    package = make_package(spec, dataset, store)
    assert sorted(package.customers) == ["ann", "bob", "cy", "xi", "yan", "zoe"]
    folder = store.fetch(dataset)
    vocabulary, sessions = read_refit_sessions(folder, spec)
    ids = read_customer_ids(folder).to_pylist()
    for name in ("ann", "zoe"):
        (row, *_) = np.flatnonzero(sessions.customers == ids.index(name))
        asked = sessions.take(np.array([row]))
        offline = package.model.recommend(asked, 3)
        ranked = [vocabulary.ids[item] for item in offline.items[0]]
        served = ask(package, items=[vocabulary.ids[item] for item in asked.items], customer=name)
        assert [item for item, _ in served] == ranked
        assert [score for _, score in served] == pytest.approx(offline.scores[0].tolist())
    # Of someone unknown the session tells; without one the popular items fill up.
    assert ask(package, items=["x"], customer="eve") == ask(package, items=["x"])
    assert ask(package, items=["x"]) != ask(package, items=["x"], customer="ann")
    assert [score for _, score in ask(package, items=[], customer="eve")] == [None] * 3
    assert None not in [score for _, score in ask(package, items=[], customer="ann")]


def test_a_package_names_customers_only_where_its_model_knows_them(store: Store, dataset: str) -> None:
    package = make_package(make_recommender({"name": "ease"}), dataset, store)
    assert package.customers == {}
    assert not list(store.fetch(store.list("packages/test")[0]).rglob("customers*"))
    assert ask(package, items=["a"], customer="zoe") == ask(package, items=["a"])


def test_a_package_whose_customers_are_not_its_model_s_is_refused(store: Store, dataset: str, tmp_path: Any) -> None:
    make_package(make_recommender(EASE), dataset, store)
    folder = store.fetch(store.list("packages/test")[0])
    (copy := tmp_path / "copy").mkdir()
    for file in folder.rglob("*"):
        if file.is_file() and file.name != "customers.parquet":
            (copy / file.relative_to(folder)).parent.mkdir(exist_ok=True)
            (copy / file.relative_to(folder)).write_bytes(file.read_bytes())
    reason = "the model knows 6 customers, and 0 have an id"
    with refused(IntegrityError, "registry.package-damaged", path=str(copy), reason=reason):
        load_package(copy)
