"""A champion that has seen the test is judged by its recipe, which the train step fits, or not at all."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from endcap.evaluation import describe_verdict, judge
from endcap.evaluation.protocol import EvaluationProtocol
from endcap.evaluation.scoring import EvaluatedModel, VocabularyTranslation
from endcap.features import build
from endcap.features.view import open_view
from endcap.models import Fitting, load, make
from endcap.registry import connection, open_registry, register
from endcap.registry.package import load_contents, write_package
from endcap.registry.recipe import Recipe
from endcap.retries import RetryLimits
from endcap.spec import Recommender
from endcap.spec.model import BlendSpec, SequentialRulesSpec, VSKNNSpec
from endcap.spec.settings import JudgeSettings
from endcap.store import Store, fingerprint
from endcap.training import fit_champion, refit, train
from tests.features.logs import DAY, MONDAY, event, recommender, shop, snapshot

ROOT = Path(__file__).parents[2]
CONDITION = {"metric": "mrr@5", "against": "champion", "compare": "relative", "min": -0.05, "bound": "lower"}
GATE = {"evidence": {"min_sessions": 1, "max_half_width": 10.0}, "conditions": [CONDITION]}


def build_noise(store: Store, *, seed: int = 1, days: int = 10) -> str:
    """The dataset of ten days on which what follows what is chance: nothing is learnt but what was seen."""
    draws = np.random.default_rng(seed)
    letters = [f"i{number}" for number in range(120)]
    rows = [
        event(
            f"s{day}-{number}", letters[draws.integers(120)], DAY * day + 100_000 * number + 1000 * step, f"c{number}"
        )
        for day in range(days)
        for number in range(20)
        for step in range(5)
    ]
    return build(shop(), snapshot(store, rows), store)


def spec(**keys: Any) -> Recommender:
    base = {
        "split": {"by": "time", "test": "2d", "validation": "1d"},
        "model": {"name": "vsknn", "sample": 1000, "neighbours": 50},
        "baselines": [{"name": "popularity"}],
        "evaluation": {"cutoffs": [5], "bootstrap": 200},
        "gate": {**GATE, "conditions": []},
    }
    return recommender(**{**base, **keys})


CHALLENGER = {"model": {"name": "vsknn", "sample": 999, "neighbours": 50}, "gate": GATE}
"""A model that is the champion's equal."""


def publish_champion(wanted: Recommender, data: str, store: Store) -> str:
    """Train, judge, refit on everything and register: the champion's package."""
    trained = train(wanted, data, store)
    verdict = judge(wanted, data, trained, store)
    package = refit(wanted, data, trained, verdict, store)
    version = register(wanted, package, verdict, store)
    open_registry(None, store).promote(wanted.name, version)
    return package


def judged(wanted: Recommender, data: str, store: Store) -> dict[str, Any]:
    """The facts of the verdict on one more training; the champion's recipe is what the train step left."""
    facts: dict[str, Any] = store.manifest(judge(wanted, data, train(wanted, data, store), store))["facts"]
    return facts


def get_reason(facts: dict[str, Any]) -> str:
    """Why the champion was not judged: then its conditions failed, and no figure of it is shown."""
    assert facts["outcome"] == "failed"
    assert "champion" not in facts["metrics"]
    assert facts["champion"]["judged"] is None
    (condition,) = facts["conditions"]
    assert (condition["passed"], condition["number"]) == (False, None)
    told = str(facts["champion"]["reason"])
    assert told in condition["note"]
    assert told in describe_verdict(facts)
    assert any(told in warning for warning in facts["warnings"])
    return told


def test_a_champion_that_learnt_the_test_days_is_judged_by_its_recipe_and_its_equal_passes(shop_store: Store) -> None:
    data = build_noise(shop_store)
    package = publish_champion(spec(), data, shop_store)
    wanted = spec(**CHALLENGER)
    address = fit_champion(wanted, data, shop_store)
    assert address is not None
    facts = judged(wanted, data, shop_store)
    assert facts["champion"]["judged"] == "recipe"
    assert (facts["champion"]["package"], facts["champion"]["recipe"]) == (package, address)
    assert "160 of 160 predicted events are not after that" in facts["champion"]["reason"]
    assert facts["outcome"] == "passed"
    assert facts["conditions"][0]["number"] == pytest.approx(0.0, abs=0.01)
    assert facts["metrics"]["champion"]["mrr@5"] == pytest.approx(facts["metrics"]["challenger"]["mrr@5"], abs=0.001)
    # What the package would have shown: days that it learnt by heart.
    view = open_view(shop_store.fetch(data), wanted)
    examination = EvaluationProtocol(JudgeSettings.of(wanted), view, shop_store.fetch(data))
    contents = load_contents(shop_store.fetch(package))
    translation = VocabularyTranslation.between(view.vocabulary.ids, contents.vocabulary.ids)
    examination.measure("challenger", EvaluatedModel(contents.model, translation=translation))
    by_heart = examination.compare_results().metrics["challenger"]["mrr@5"].value
    assert by_heart > 3 * facts["metrics"]["challenger"]["mrr@5"]
    # It is found again, by the verdict and by one more training.
    assert fit_champion(wanted, data, shop_store) == address
    assert judged(wanted, data, shop_store) == facts


def test_a_champion_that_has_not_seen_the_test_is_judged_as_it_is(shop_store: Store) -> None:
    publish_champion(spec(), build_noise(shop_store, days=7), shop_store)
    later = build_noise(shop_store)
    wanted = spec(**CHALLENGER)
    assert fit_champion(wanted, later, shop_store) is None
    assert not shop_store.list("recipes/test")
    facts = judged(wanted, later, shop_store)
    assert (facts["champion"]["judged"], facts["champion"]["reason"]) == ("package", None)
    assert "champion" in facts["metrics"]


def test_a_recipe_is_fitted_as_found_on_the_challengers_part(shop_store: Store) -> None:
    """The champion's own seed, exclusions and number of epochs; the challenger's split and vocabulary."""
    neural = {"name": "gru4rec", "width": 8, "max_epochs": 3, "batch_size": 8}
    data = build_noise(shop_store)
    publish_champion(spec(model=neural, seed=3, exclude="seen"), data, shop_store)
    wanted = spec(**{**CHALLENGER, "split": {"by": "time", "test": "3d", "validation": "2d"}})
    address = fit_champion(wanted, data, shop_store)
    assert address is not None
    made, champion = shop_store.manifest(address)["facts"], shop_store.list("trained/test")[0]
    assert made["found"] == shop_store.manifest(champion)["facts"]["found"]
    assert (made["model"]["width"], made["found"]["epochs"] <= 3) == (8, True)
    view = open_view(shop_store.fetch(data), wanted)
    assert load(shop_store.fetch(address) / "model").n_items == len(view.vocabulary)
    assert judged(wanted, data, shop_store)["champion"]["judged"] == "recipe"


def test_leave_one_out_always_judges_a_champion_by_its_recipe(shop_store: Store) -> None:
    by_last = {"split": {"by": "leave-one-out"}}
    data = build_noise(shop_store)
    publish_champion(spec(**by_last), data, shop_store)
    wanted = spec(**CHALLENGER, **by_last)
    fit_champion(wanted, data, shop_store)
    facts = judged(wanted, data, shop_store)
    assert facts["champion"]["judged"] == "recipe"
    assert "200 of 200 predicted events" in facts["champion"]["reason"]


def test_a_champion_that_changes_between_train_and_evaluate_is_not_judged_until_the_next_run(shop_store: Store) -> None:
    data, wanted = build_noise(shop_store), spec(**CHALLENGER)
    publish_champion(spec(), data, shop_store)
    fit_champion(wanted, data, shop_store)
    trained = train(wanted, data, shop_store)
    publish_champion(spec(model={"name": "sequential-rules"}), data, shop_store)
    facts = shop_store.manifest(judge(wanted, data, trained, shop_store))["facts"]
    assert facts["champion"]["version"] == "2"
    assert "run the pipeline again" in get_reason(facts)
    assert fit_champion(wanted, data, shop_store) is not None
    assert train(wanted, data, shop_store) == trained
    assert judged(wanted, data, shop_store)["champion"]["judged"] == "recipe"


def test_a_package_that_tells_no_recipe_has_that_of_its_training_while_the_store_has_it(shop_store: Store) -> None:
    data, wanted = build_noise(shop_store), spec(**CHALLENGER)
    trained = train(spec(seed=1), data, shop_store)
    published(shop_store, data, None, trained=trained)
    assert fit_champion(wanted, data, shop_store) is not None
    assert judged(wanted, data, shop_store)["champion"]["judged"] == "recipe"
    shutil.rmtree(shop_store.fetch(trained))
    said: list[str] = []
    assert fit_champion(wanted, data, shop_store, progress=said.append) is None
    assert "warning: the recipe of the champion, version 1, cannot be fitted" in said[-1]
    assert "register a new version" in get_reason(judged(wanted, data, shop_store))


def test_the_recipe_of_an_older_training_means_what_it_did(shop_store: Store) -> None:
    """Release 0.1.0 knew the published rules alone, and no keys to say so."""
    rules = {"name": "sequential-rules", "steps": 5}
    with shop_store.publish("trained/test", "old") as draft:
        blend = {"name": "blend", "members": {"rules": rules, "knn": {"name": "vsknn"}}}
        draft.facts |= {"model": blend, "found": {}}
    data = build_noise(shop_store)
    published(shop_store, data, None, trained=draft.address)
    (package,) = shop_store.list("packages/test")
    model = Recipe.of(package, spec(**CHALLENGER), shop_store).model
    assert isinstance(model, BlendSpec)
    assert model.members["rules"] == SequentialRulesSpec(steps=5, last_events=1, decay=1.0, norm="none")
    assert model.members["knn"] == VSKNNSpec()


def published(store: Store, data: str, recipe: dict[str, Any] | None, *, trained: str = "", **keys: Any) -> None:
    """A champion of this recipe; what is in its package is a popularity model, which has seen everything."""
    wanted = spec(model={"name": "popularity"})
    view = open_view(store.fetch(data), wanted)
    model = make(wanted.model)
    model.fit(view.training, len(view.vocabulary), Fitting())
    verdict = judge(wanted, data, train(wanted, data, store), store)
    with store.publish("packages/test", fingerprint(recipe, keys)) as draft:
        write_package(
            draft.path,
            model=model,
            vocabulary=view.vocabulary,
            items=view.items,
            recommender=wanted.model_copy(update=keys),
            fitted_until=MONDAY + 30 * DAY,
            recipe=None if recipe is None else {"found": {}, **recipe},
            lineage={"trained": trained},
        )
    register(wanted, draft.address, verdict, store)


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ({"name": "gru4rec", "features": ["nope"]}, "nope"),
        ({"name": "custom", "class": "gone_module:Own", "parameters": {}}, "gone_module"),
        ({"name": "custom", "class": "tests.training.stand_ins:Sleeper", "parameters": {}}, "classes"),
        ({"name": "a model of a later release"}, "this release cannot use"),
    ],
    ids=["a feature that the dataset lacks", "a class that is gone", "a class that is not listed", "an unknown model"],
)
def test_what_cannot_be_fitted_fails_its_conditions_with_the_reason(
    shop_store: Store, model: dict[str, Any], told: str
) -> None:
    data, wanted = build_noise(shop_store), spec(**CHALLENGER)
    classes = ["gone_module:Own"] if model.get("class") == "gone_module:Own" else []
    published(shop_store, data, {"model": model}, classes=classes)
    said: list[str] = []
    assert fit_champion(wanted, data, shop_store, progress=said.append) is None
    assert any(line.startswith("warning: ") and told in line for line in said)
    assert told in get_reason(judged(wanted, data, shop_store))


def test_a_registry_that_is_away_costs_the_challenger_nothing(
    shop_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, wanted = build_noise(shop_store), spec(**CHALLENGER)
    publish_champion(spec(), data, shop_store)
    said: list[str] = []
    monkeypatch.setattr(connection, "PATIENCE", RetryLimits(total=0.1))
    away = "postgresql://mlflow@127.0.0.1:9/mlflow"
    assert fit_champion(wanted, data, shop_store, away, progress=said.append) is None
    assert said[-1].startswith("warning: the registry does not say")
    assert "run the pipeline again" in get_reason(judged(wanted, data, shop_store))


def test_a_recipe_that_diverges_is_told_and_tried_again(shop_store: Store) -> None:
    data, wanted = build_noise(shop_store), spec(**CHALLENGER)
    wild = {"name": "gru4rec", "width": 8, "batch_size": 8, "learning_rate": 1e30}
    published(shop_store, data, {"model": wild, "found": {"epochs": 2}})
    for _ in range(2):
        said: list[str] = []
        assert fit_champion(wanted, data, shop_store, progress=said.append) is None
        assert said[-1].startswith("warning: the recipe of the champion, version 1, cannot be fitted")
    assert "learning_rate" in get_reason(judged(wanted, data, shop_store))


@pytest.mark.slow
def test_a_champion_whose_class_is_gone_is_not_judged_whatever_it_has_seen(
    shop_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lost_markov.py").write_text((ROOT / "docs" / "examples" / "markov" / "markov.py").read_text())
    own = {"model": {"name": "custom", "class": "lost_markov:Markov"}, "classes": ["lost_markov:Markov"]}
    early, late, wanted = build_noise(shop_store, days=7), build_noise(shop_store), spec(**CHALLENGER)
    with monkeypatch.context() as installed:
        installed.syspath_prepend(str(tmp_path))
        publish_champion(spec(**own), early, shop_store)
        fit_champion(wanted, early, shop_store)
        assert judged(wanted, early, shop_store)["champion"]["judged"] == "recipe"
        assert judged(wanted, late, shop_store)["champion"]["judged"] == "package"
    sys.modules.pop("lost_markov")
    for data in (early, late):
        assert fit_champion(wanted, data, shop_store) is None
        assert "lost_markov" in get_reason(judged(wanted, data, shop_store))
