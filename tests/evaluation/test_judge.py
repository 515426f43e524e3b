"""Verdicts on a shop where after each item comes the next of a circle."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from endcap.errors import IntegrityError
from endcap.evaluation import describe, judge
from endcap.features.view import open_view
from endcap.models import Fitting, make
from endcap.registry import Registry, default_uri, register
from endcap.registry.package import write_package
from endcap.spec import Recommender
from endcap.store import Store, fingerprint
from tests.features.logs import MONDAY, dataset, recommender, sessions

CIRCLE = "abcdef"
BASELINES = [{"name": "popularity"}]
GATE = [
    {"metric": "mrr@5", "against": "best-baseline", "min": 0.1, "bound": "lower"},
    {"metric": "hr@5", "against": "champion", "min": 0.0},
]


@pytest.fixture(scope="module")
def empty_registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("registry") / "mlflow.db"
    Registry(f"sqlite:///{file}")
    return file


@pytest.fixture
def shop_store(store: Store, empty_registry: Path) -> Store:
    shutil.copy(empty_registry, default_uri(store).removeprefix("sqlite:///"))
    return store


def walks(letters: str, count: int) -> str:
    return " ".join("".join(letters[(start + step) % len(letters)] for step in range(5)) for start in range(count))


def log(store: Store, letters: str = CIRCLE) -> str:
    """Test sessions are given, and begin when the training sessions do."""
    rows = sessions(walks(letters, 40)) + sessions(walks(letters, 20), part="test")
    return f"file://{dataset(store, rows)}"


def spec(**keys: Any) -> Recommender:
    given = {"by": "given", "validation": 0.2}
    model = {"name": "sequential-rules"}
    evaluation = {"cutoffs": [2, 5], "bootstrap": 200}
    defaults = {"split": given, "model": model, "baselines": BASELINES, "gate": GATE, "evaluation": evaluation}
    return recommender(**{**defaults, **keys})


def train(wanted: Recommender, data: str, store: Store) -> str:
    view = open_view(store.fetch(data), wanted)
    model = make(wanted.model)
    model.fit(view.training, len(view.vocabulary), Fitting())
    with store.publish("trained/test", fingerprint(data, wanted.model_dump(mode="json"))) as draft:
        (draft.path / "model").mkdir()
        model.save(draft.path / "model")
        view.vocabulary.save(draft.path / "vocabulary.json")
        draft.facts.update(dataset=data, model=wanted.model.model_dump(mode="json"), epochs=0, history=[])
    return draft.address


def promote(wanted: Recommender, data: str, verdict: str, store: Store, fitted_until: int) -> str:
    """Package what was judged, and register it."""
    view = open_view(store.fetch(data), wanted)
    model = make(wanted.model)
    model.fit(view.training, len(view.vocabulary), Fitting())
    with store.publish("packages/test", fingerprint(verdict)) as draft:
        write_package(
            draft.path,
            model=model,
            vocabulary=view.vocabulary,
            items=view.items,
            recommender=wanted,
            fitted_until=fitted_until,
            lineage={},
        )
    return register(wanted, draft.address, verdict, store)


def test_a_better_model_passes_and_its_verdict_is_found_again(shop_store: Store) -> None:
    data = log(shop_store)
    trained = train(spec(), data, shop_store)
    verdict = judge(spec(), data, trained, shop_store)
    facts = shop_store.manifest(verdict)["facts"]
    assert facts["passed"]
    assert facts["metrics"]["challenger"]["mrr@5"] == 1.0
    assert facts["predictions"] == facts["segments"]["challenger"]["prefix"]["1"]["predictions"] * 4 == 80
    assert facts["metrics"]["popularity"]["mrr@5"] < 0.6
    lower, upper = facts["intervals"]["popularity"]["mrr@5"]
    assert lower <= facts["metrics"]["popularity"]["mrr@5"] <= upper
    first, second = facts["conditions"]
    assert first["text"].startswith("mrr@5 minus popularity's (lower end) is 0.")
    assert second["note"] == "no champion yet"
    assert describe(facts).startswith("gate passed: mrr@5 minus popularity's")
    rows = json.loads((shop_store.fetch(verdict) / "report.json").read_text())["table"]
    assert {row["model"] for row in rows} == {"challenger", "popularity"}
    assert Registry(default_uri(shop_store)).client.get_run(facts["mlflow_run"]).data.metrics["mrr_at_5"] == 1.0
    assert judge(spec(), data, trained, shop_store) == verdict
    assert len(shop_store.list("verdicts/test")) == 1


def test_a_worse_model_fails_and_the_verdict_says_by_what(shop_store: Store) -> None:
    worse = spec(model={"name": "popularity"}, baselines=[{"name": "sequential-rules"}])
    data = log(shop_store)
    facts = shop_store.manifest(judge(worse, data, train(worse, data, shop_store), shop_store))["facts"]
    assert not facts["passed"]
    assert describe(facts).startswith("gate failed: mrr@5 minus sequential-rules's (lower end) is -")
    assert "no champion" not in describe(facts)


def test_the_champion_is_judged_in_its_own_vocabulary_on_the_same_sessions(shop_store: Store) -> None:
    """The champion learnt on a circle from d to i: of the later one, from a to f, it knows d, e and f only."""
    old, new = log(shop_store, "defghi"), log(shop_store)
    trained = train(spec(), old, shop_store)
    verdict = judge(spec(), old, trained, shop_store)
    assert promote(spec(), old, verdict, shop_store, fitted_until=MONDAY) == "1"
    assert judge(spec(), old, trained, shop_store) == verdict, "not judged against itself"
    facts = shop_store.manifest(judge(spec(), new, train(spec(), new, shop_store), shop_store))["facts"]
    assert facts["champion"]["version"] == "1"
    # It is right where the last known item is d or e and the next one e or f: 2 of 6 places of the circle.
    assert 0.2 < facts["metrics"]["champion"]["mrr@5"] < 0.5
    assert facts["conditions"][1]["number"] > 0.5
    assert facts["metrics"]["champion"]["mrr@5"] < facts["metrics"]["challenger"]["mrr@5"] == 1.0
    (warning,) = facts["warnings"]
    assert "version 1, learnt from events until 2024-06-03T00:00:00+00:00: 1 of 20 test sessions begin" in warning


def test_a_model_of_another_view_is_refused(shop_store: Store) -> None:
    with pytest.raises(IntegrityError, match="trained on another view"):
        judge(spec(), log(shop_store), train(spec(), log(shop_store, "uvwxyz"), shop_store), shop_store)
