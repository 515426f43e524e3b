"""Preprocessing of one's own, from a dataset to rankings: the same in every step, and judged honestly."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch.distributed as dist

from endcap.batch import ListRequest, recommend
from endcap.errors import NotFoundError
from endcap.evaluation import judge
from endcap.events import ingest
from endcap.features import build
from endcap.features.dataset_files import read_customer_ids, read_refit_sessions
from endcap.features.sessions import Sessions
from endcap.features.split import slice_sessions, where
from endcap.features.view import View, open_view
from endcap.models import Model, mask_excluded, top
from endcap.models import load as load_model
from endcap.models.fit import draw_validation
from endcap.registry import open_registry, register
from endcap.registry.package import load_package
from endcap.spec.load import load
from endcap.spec.settings import FitSettings, TrainSettings, ViewSettings
from endcap.store import Store
from endcap.training import fit_champion, refit, train
from endcap.training.distributed.job import FitJob
from endcap.training.distributed.worker import work
from endcap.training.search.job import Task
from endcap.training.search.trial import run
from tests.batch.given import rows
from tests.preprocessing.given import dataset, its_shop, request, spec
from tests.training.test_own_model import SMALL

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs" / "examples" / "cleaning"
K = 20


def prefixes(test: Sessions) -> Iterator[tuple[Sessions, int]]:
    """Each proper prefix of each session, one by one, and the item that came next."""
    for row in range(len(test)):
        alone = slice_sessions(test, row, row + 1)
        for end in range(1, int(alone.lengths[0])):
            yield where(alone, np.arange(len(alone.items)) < end), int(alone.items[end])


def mrr(model: Model, view: View) -> float:
    """MRR@20 in the plainest way: a prefix at a time, what came next as it was."""
    ranks = []
    for prefix, target in prefixes(view.test):
        scores = model.score(prefix)
        mask_excluded(scores, prefix, "seen")
        listed = top(scores, K).items[0].tolist()
        ranks.append(1 / (listed.index(target) + 1) if target in listed else 0.0)
    return float(np.mean(ranks))


def test_all_steps_prepare_alike_and_evaluation_asks_for_what_really_came_next(shop_store: Store) -> None:
    store, recommender = shop_store, spec()
    data = dataset(store)
    trained = train(recommender, data, store)
    verdict = judge(recommender, data, trained, store)
    facts = store.manifest(verdict)["facts"]
    view = open_view(store.fetch(data), recommender)
    # No prediction is lost to what a step drops, and each is of the session as it was.
    assert facts["predictions"] == (view.test.lengths - 1).sum()
    model = load_model(store.fetch(trained) / "model", recommender.classes)
    assert facts["metrics"]["challenger"]["mrr@20"] == pytest.approx(mrr(model, view))
    # Baselines are not behind the steps.
    plain = store.manifest(judge(spec(preprocessing=[]), data, trained, store))["facts"]
    assert facts["metrics"]["popularity"]["mrr@20"] == plain["metrics"]["popularity"]["mrr@20"]

    address = refit(recommender, data, trained, verdict, store)
    folder = store.fetch(address)
    assert {file.suffix for file in folder.rglob("*") if file.is_file()} == {".json", ".parquet", ".safetensors"}
    package = load_package(folder)
    package.check()
    # Offline equals online: the dataset's own features and types, and those of requests.
    _, log = read_refit_sessions(store.fetch(data), recommender)
    ids = read_customer_ids(store.fetch(data)).to_pylist()
    drawn = [slice_sessions(log, row, row + 1) for row in range(0, len(log), 2)]
    for alone in drawn:
        offline = package.model.recommend(alone, K, exclude="seen")
        (answer,) = package.ranker.rank([package.ranker.parse(request(package, alone, ids))])
        scored = [item for item, score in zip(answer.ids, answer.scores, strict=True) if score is not None]
        assert scored == [package.vocabulary.ids[item] for item in offline.items[0] if item >= 0]
    # A list made ahead is the ranking of the customer's recent events.
    version = register(recommender, address, verdict, store)
    bare = its_shop().model_copy(update={"items": None})  # whose file is not there
    (made,) = recommend(recommender, bare, store, request=ListRequest(dataset=data))
    lists = rows(store, made.address)
    assert len(lists) == len(ids)
    seen = 0
    for who, customer in enumerate(ids):
        events = np.flatnonzero(log.customers[log.session_of_event] == who)
        if len(set(log.session_of_event[events])) != 1:
            continue
        row = int(log.session_of_event[events[0]])
        alone = slice_sessions(log, row, row + 1)
        asked = {**request(package, alone, ids), "k": 6}
        (answer,) = package.ranker.rank([package.ranker.parse(asked)])
        assert lists[customer]["items"] == answer.ids
        seen += 1
    assert seen > 20
    # The champion has seen the test; its recipe is judged, with its own preprocessing.
    assert open_registry(None, store).find_champion("test").version == version  # type: ignore[union-attr]
    other = spec(preprocessing=[], classes=[])
    trained = train(other, data, store)
    assert fit_champion(other, data, store)
    again = store.manifest(judge(other, data, trained, store))["facts"]
    assert again["metrics"]["champion"]["mrr@20"] == pytest.approx(facts["metrics"]["challenger"]["mrr@20"])
    assert again["metrics"]["champion"]["mrr@20"] != pytest.approx(again["metrics"]["challenger"]["mrr@20"])


def test_trials_and_workers_prepare_as_the_step_does(shop_store: Store, tmp_path: Path) -> None:
    store = shop_store
    recommender = spec({"name": "gru4rec", "width": 8, "batch_size": 8, "negatives": 4, "max_epochs": 2})
    data = dataset(store)
    address = train(recommender, data, store)
    facts = store.manifest(address)["facts"]
    told: list[dict[str, Any]] = []
    document = TrainSettings.of(recommender).model_dump_json(by_alias=True)
    task = Task(store.root, data, document, recommender.name, "key", "", str(tmp_path))
    run(task, 1, {}, lambda row: not told.append(row))
    best = max(row["validation"] for row in facts["history"])
    assert (told[-1]["state"], told[-1]["value"]) == ("complete", pytest.approx(best))
    # One worker fits what the step fits.
    fit = FitSettings.of(recommender).model_dump_json(by_alias=True)
    job = FitJob(store.root, data, fit, "training", facts["found"], "key", 1, 1.0, 0, 0)
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'alone'}", rank=0, world_size=1)
    try:
        work(job, told.append)
    finally:
        dist.destroy_process_group()
    (fitted,) = [event for event in told if event.get("event") == "fitted"]
    models = [load_model(store.fetch(one) / "model", recommender.classes) for one in (address, fitted["address"])]
    asked = draw_validation(open_view(store.fetch(data), ViewSettings.of(recommender)), "none", 1)
    assert asked is not None
    np.testing.assert_allclose(*(model.score(asked.asked) for model in models), rtol=1e-4, atol=1e-5)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The example under a name of its own: pytest has the example itself on the path. Gives its spec."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "my_cleaning.py").write_text((EXAMPLE / "cleaning.py").read_text())
    text = (EXAMPLE / "cleaning.yaml").read_text().replace("cleaning:DropCommon", "my_cleaning:DropCommon")
    (tmp_path / "own.yaml").write_text(text.replace("../../..", str(ROOT)))
    monkeypatch.syspath_prepend(str(tmp_path / "code"))
    yield tmp_path / "own.yaml"
    sys.modules.pop("my_cleaning", None)


def test_the_example_is_trained_judged_and_packed(
    installed: Path, shop_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = shop_store
    loaded = load(installed, sets=[*SMALL, "gate=[]", "preprocessing[0].parameters.share=0.02"])
    recommender, lines = loaded.recommender, list[str]()
    data = build(loaded.shop, ingest(loaded.shop, store), store)
    trained = train(recommender, data, store, progress=lines.append)
    assert any(line.startswith("preprocessing: my_cleaning:DropCommon leaves ") for line in lines)
    verdict = judge(recommender, data, trained, store)
    folder = store.fetch(refit(recommender, data, trained, verdict, store))
    package = load_package(folder)
    package.check()
    # The example says something of the model, though nothing is left of the most popular items.
    assert any(item["score"] for item in package.example["answer"]["items"])
    (answer,) = package.ranker.rank([package.ranker.parse({"items": [package.vocabulary.ids[0]], "k": 5})])
    # The most popular item is hidden from the model, so the most popular items are the answer.
    assert (len(answer.ids), set(answer.scores)) == (5, {None})
    # Its code counts, and so do its parameters.
    assert train(recommender, data, store) == trained
    changed = load(installed, sets=[*SMALL, "gate=[]", "preprocessing[0].parameters.share=0.5"])
    assert train(changed.recommender, data, store) != trained
    monkeypatch.undo()
    sys.modules.pop("my_cleaning", None)
    with pytest.raises(NotFoundError):
        load_package(folder)
