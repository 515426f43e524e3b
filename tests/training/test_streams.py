"""A model that streams what it learns from, in every step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from endcap.errors import UserError
from endcap.evaluation import judge
from endcap.features.dataset_files import read_refit_sessions
from endcap.features.sessions import Sessions
from endcap.features.view import open_view
from endcap.models import load
from endcap.registry.package import load_package
from endcap.spec import Recommender
from endcap.spec.settings import TrainSettings
from endcap.store import Store
from endcap.training import refit, train
from endcap.training.search.job import Task
from endcap.training.search.trial import run
from tests.features.logs import recommender
from tests.preprocessing.stand_ins import step
from tests.training.datasets import SPLIT, little_dataset
from tests.training.stand_ins import STREAMED


def make_recommender(**keys: Any) -> Recommender:
    model = {"name": "custom", "class": STREAMED, "parameters": {}}
    return recommender(**{"model": model, "classes": [STREAMED], "split": SPLIT, "gate": [], **keys})


def count_items(sessions: Sessions, n_items: int) -> list[int]:
    """Twice the sessions that each item is in: two passes were made."""
    pairs = np.unique(sessions.session_of_event * n_items + sessions.items)
    counted: list[int] = (2 * np.bincount(pairs % n_items, minlength=n_items)).tolist()
    return counted


@pytest.mark.parametrize("anew", [True, False])
def test_it_is_fitted_on_streams_judged_and_packed(shop_store: Store, anew: bool) -> None:
    store, spec = shop_store, make_recommender(refit=anew)
    data = little_dataset(store)
    view = open_view(store.fetch(data), spec)
    lines: list[str] = []
    trained = train(spec, data, store, progress=lines.append)
    facts = store.manifest(trained)["facts"]
    assert facts["counts"] == view.counts
    assert [row["epoch"] for row in facts["history"]] == [1, 2]
    assert f"fitting custom on {len(view.train)} sessions, validating on {len(view.validation)}" in lines
    model: Any = load(store.fetch(trained) / "model", [STREAMED])
    seen = view.training if anew else view.train
    assert model.counts.tolist() == count_items(seen, len(view.vocabulary))
    verdict = judge(spec, data, trained, store)
    package = load_package(store.fetch(refit(spec, data, trained, verdict, store)))
    package.check()
    if anew:
        vocabulary, seen = read_refit_sessions(store.fetch(data), spec)
        assert package.vocabulary.ids == vocabulary.ids
    own: Any = package.model
    assert own.counts.tolist() == count_items(seen, len(package.vocabulary))
    assert package.info["fitted_until"] == seen.times.max()


def test_trials_stream_too(store: Store, tmp_path: Path) -> None:
    data, told = little_dataset(store), list[dict[str, Any]]()
    settings = TrainSettings.of(make_recommender()).model_dump_json(by_alias=True)
    task = Task(store.root, data, settings, "test", "key", "", str(tmp_path))
    run(task, 1, {}, lambda row: not told.append(row))
    assert told[-1]["state"] == "complete", told


def test_it_takes_no_preprocessing(store: Store) -> None:
    steps = [step("DropGlances")]
    spec = make_recommender(preprocessing=steps, classes=[STREAMED, steps[0]["class"]])
    with pytest.raises(UserError) as error:
        train(spec, little_dataset(store), store)
    assert error.value.code == "models.streamed-behind-preprocessing"
