"""A recommender that takes another one's scores: from the registry to a version that is traced, rebuilt and kept."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from endcap.errors import NotFoundError, SpecError, UserError
from endcap.features.sessions import Sessions
from endcap.lineage import compare_versions, trace_file, trace_version
from endcap.lineage.artifacts import TracedArtifact
from endcap.lineage.descendants import _find_results
from endcap.models import load
from endcap.models.stacked import Stacked
from endcap.origins import Origin
from endcap.registry import Version, open_registry
from endcap.registry.package import load_contents
from endcap.reproduction import reproduce
from endcap.reproduction.original import read_original
from endcap.reproduction.reproduce import _compare_keys
from endcap.retention import plan_retention
from endcap.store import Store, get_content_key
from endcap.training import train
from tests.refusals import refused
from tests.reproduction.versions import load_specs, make_version, open_shop

RELATED = {"name": "sequential-rules", "steps": 3}
SIMILAR = {"name": "gru4rec", "width": 8, "max_epochs": 2, "batch_size": 8}
STACKED: dict[str, Any] = {
    "name": "stacked",
    "scores": {"rules": {"recommender": "related"}, "network": {"recommender": "similar"}},
}


class Shop(NamedTuple):
    """A shop with two champions, a dataset, and a version that takes their scores."""

    folder: Path
    store: Store
    providers: dict[str, Version]
    dataset: str
    version: Version


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, empty_registry: Path) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("scores")
    store = open_shop(folder, empty_registry)
    providers = {
        name: make_version(store, load_specs(folder, name, model=model, seed=seed), register=True)
        for name, model, seed in (("related", RELATED, 7), ("similar", SIMILAR, 8))
    }
    version = make_version(store, load_specs(folder, "home", model=STACKED), register=True)
    return Shop(folder, store, providers, store.list("datasets/toys")[0], version)


def read_trained(made: Shop) -> dict[str, Any]:
    (address,) = made.store.list("trained/home")
    facts: dict[str, Any] = made.store.manifest(address)["facts"]
    return facts


def test_training_notes_the_recipes_of_the_champions(made: Shop) -> None:
    facts = read_trained(made)
    scores = facts["model"]["scores"]
    assert {label: (source["version"], source["recipe"]["seed"]) for label, source in scores.items()} == {
        "rules": (1, 7),
        "network": (1, 8),
    }
    (similar,) = made.store.list("trained/similar")
    assert scores["network"]["recipe"]["settings"] == made.store.manifest(similar)["facts"]["found"]
    assert scores["network"]["recipe"]["settings"]["epochs"] in (1, 2)
    assert facts["providers"] == {
        "rules": made.providers["related"].package,
        "network": made.providers["similar"].package,
    }


def test_the_package_serves_the_features_that_it_learnt(made: Shop) -> None:
    contents = load_contents(made.store.fetch(made.version.package))
    (fitted,) = made.store.list("refitted/home")
    model, served = load(made.store.fetch(fitted) / "model"), contents.model
    assert isinstance(model, Stacked)
    assert isinstance(served, Stacked)
    visits = Sessions.of([contents.vocabulary.indices(list(word)).tolist() for word in ("ab", "x", "abx")])
    np.testing.assert_array_equal(served.compute_features(visits), model.compute_features(visits))
    np.testing.assert_array_equal(served.score(visits), model.score(visits))
    assert np.isfinite(served.score(visits)).any()


def test_the_version_is_rebuilt_bit_for_bit_whoever_is_champion_now(made: Shop) -> None:
    compared = reproduce(made.version, made.store)
    assert all(part.equal for part in compared.compared)
    assert not list(_compare_keys(read_original(made.version, made.store)))


def test_lineage_shows_whose_scores_it_takes(made: Shop) -> None:
    lineage = trace_version(made.version, made.store)
    trained = lineage.find("trained")
    assert trained is not None
    assert {origin.address for origin in trained.origins if origin.role == "providers"} == {
        version.package for version in made.providers.values()
    }
    traced = {artifact.address for artifact in lineage.artifacts}
    assert {version.package for version in made.providers.values()} <= traced
    use = trace_file("2024-03-01.csv", made.store)
    assert use.versions is not None
    assert {name for name, _ in use.versions} == {"home", "related", "similar"}


def test_two_versions_differ_in_whose_scores_they_take(made: Shop) -> None:
    first, second = (trace_version(version, made.store) for version in (made.version, made.providers["related"]))
    package = get_content_key(made.providers["similar"].package)
    settings = [
        (difference.name, difference.first, difference.second)
        for difference in compare_versions(first, second)
        if difference.subject == "settings" and difference.name == "scores of network"
    ]
    assert settings == [("scores of network", package, None)]


def test_a_file_of_the_other_recommender_alone_leads_to_whoever_takes_its_scores() -> None:
    steps = {"trained/home": "packages/related", "packages/related": "snapshots/old", "trained/other": "snapshots/new"}
    artifacts = [
        TracedArtifact(address, "now", {}, (Origin("providers", origin),)) for address, origin in steps.items()
    ]
    results = _find_results(artifacts, ["snapshots/old"])
    assert [artifact.address for artifact in results] == ["trained/home", "packages/related"]


def test_retention_keeps_the_recipes_of_a_version_that_stays(made: Shop) -> None:
    later = datetime.now(UTC) + timedelta(days=60)
    plan = plan_retention(made.store, now=later)
    assert {version.package for version in made.providers.values()} <= plan.kept.keys()


def test_another_champion_makes_another_model_and_a_pinned_version_does_not(made: Shop) -> None:
    model = {"name": "stacked", "scores": {"rules": {"recommender": "moving"}}}
    pinned = {"name": "stacked", "scores": {"rules": {"recommender": "moving", "version": 1}}}
    for steps in (3, 4):
        changed = {"model": {**RELATED, "steps": steps}}
        make_version(made.store, load_specs(made.folder, "moving", **changed), register=True)
    registry = open_registry(None, made.store)
    keys = []
    for champion in ("1", "2"):
        registry.promote("moving", champion)
        specs = [load_specs(made.folder, "over", model=spec).recommender for spec in (model, pinned)]
        keys.append([get_content_key(train(recommender, made.dataset, made.store)) for recommender in specs])
    (first, first_pinned), (second, second_pinned) = keys
    assert first_pinned == second_pinned
    assert first != second


@pytest.mark.parametrize(
    ("source", "code"),
    [
        pytest.param({"recommender": "nobody"}, "training.scores-without-version", id="no champion"),
        pytest.param({"recommender": "related", "version": 9}, "registry.version-not-found", id="no such version"),
        pytest.param({"recommender": "home"}, "training.scores-unfit", id="it takes scores itself"),
    ],
)
def test_scores_that_are_not_to_be_had_are_refused(source: dict[str, Any], code: str, made: Shop) -> None:
    recommender = load_specs(made.folder, "other", model={"name": "stacked", "scores": {"a": source}}).recommender
    kind = NotFoundError if code.startswith("registry") else UserError
    with refused(kind, code):
        train(recommender, made.dataset, made.store)


@pytest.mark.parametrize(
    ("keys", "place"),
    [
        pytest.param({"model": {**STACKED, "scores": {}}}, "model.scores", id="no scores"),
        pytest.param(
            {"model": {"name": "stacked", "scores": {"own": {"recommender": "home"}}}},
            "model.scores.own.recommender",
            id="its own",
        ),
        pytest.param({"model": RELATED, "baselines": [STACKED]}, "baselines.0.name", id="a baseline"),
        pytest.param(
            {"model": STACKED, "search": {"space": {"regularisation": {"low": -1, "high": 2}}}},
            "search.space.regularisation.low",
            id="a search outside its domain",
        ),
    ],
)
def test_what_a_spec_cannot_mean_is_refused(keys: dict[str, Any], place: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        load_specs(tmp_path, "home", **keys)
    assert [problem.key.replace("[", ".").replace("]", "") for problem in caught.value.problems] == [place]
