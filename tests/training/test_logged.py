"""A training's run in MLflow: opened by the step, found again by every attempt, whole at the end."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from endcap.evaluation import judge
from endcap.features import build
from endcap.progress import Notice
from endcap.registry import Registry, get_default_uri, register
from endcap.registry.experiments import ensure_experiment
from endcap.registry.training_log import log_missing
from endcap.spec.settings import JudgeSettings
from endcap.store import Store, get_content_key
from endcap.training import refit, train
from tests.features.logs import sessions, shop, snapshot
from tests.training.test_steps import GRU, LOG, TRAINER, make_recommender

EVIDENCE = {"evidence": {"min_sessions": 1, "max_half_width": 100.0}, "conditions": []}
GATE: dict[str, Any] = {"gate": EVIDENCE, "evaluation": {"bootstrap": 100}}
RULES = {"name": "sequential-rules"}


@pytest.fixture
def dataset(store: Store) -> str:
    return build(shop(), snapshot(store, sessions(LOG)), store)


def runs(store: Store, uri: str = "") -> list[Any]:
    registry = Registry(uri or get_default_uri(store))
    return list(registry.client.search_runs([ensure_experiment(registry, "test")]))


def series(store: Store, run: Any, metric: str) -> list[tuple[int, float]]:
    rows = Registry(get_default_uri(store)).client.get_metric_history(run.info.run_id, metric)
    return sorted((row.step, row.value) for row in rows)


def read_series(store: Store, trained: str, name: str) -> list[tuple[int, float]]:
    return [(row["epoch"], row[name]) for row in store.manifest(trained)["facts"]["history"]]


def test_a_training_is_one_run_with_its_epochs_data_and_duration(store: Store, dataset: str) -> None:
    begun = time.time()
    trained = train(make_recommender(GRU), dataset, store)
    ended = time.time()
    assert train(make_recommender(GRU), dataset, store) == trained
    (run,) = runs(store)
    facts, made_of = store.manifest(trained)["facts"], store.manifest(dataset)["facts"]
    assert run.info.status == "FINISHED"
    assert 1000 * begun - 1 <= run.info.start_time < run.info.end_time <= 1000 * ended + 1
    assert run.info.run_name == "test gru4rec 2024-06-03"
    assert run.data.tags["trained"] == get_content_key(trained)
    assert series(store, run, "train_loss") == read_series(store, trained, "loss")
    (validation,) = [name for name in run.data.metrics if name.startswith("validation_")]
    assert series(store, run, validation) == read_series(store, trained, "validation")
    assert [step for step, _ in series(store, run, "final_loss")] == list(range(1, facts["found"]["epochs"] + 1))
    given = {"recommender": "test", "shop": "shop", "seed": "42", "split.by": "time", "split.test": "0.1"}
    sizes = {f"{part}_sessions": str(facts["counts"][part]["sessions"]) for part in ("train", "validation", "training")}
    assert (given | sizes | {"name": "gru4rec", "width": "8"}).items() <= run.data.params.items()
    assert run.data.params["found.epochs"] == str(facts["found"]["epochs"])
    assert run.data.params["validation_from"] < run.data.params["test_from"] < run.data.params["data_until"]
    (entry,) = run.inputs.dataset_inputs
    assert (entry.dataset.name, entry.dataset.digest) == ("datasets/shop", dataset.rsplit("/", 1)[1])
    assert json.loads(entry.dataset.source) == {"uri": dataset}
    assert json.loads(entry.dataset.profile)["sessions"] == made_of["sessions"]


@pytest.mark.slow
def test_a_killed_training_goes_on_in_its_run(store: Store, dataset: str) -> None:
    command = [sys.executable, "-c", TRAINER, make_recommender(GRU).model_dump_json(), dataset, store.root]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert any(line.startswith("epoch 2/") for line in process.stdout or ())
        deadline = time.monotonic() + 120
        while not (killed := runs(store)) or "train_loss" not in killed[0].data.metrics:
            assert time.monotonic() < deadline, "an epoch is not written as it ends"
            time.sleep(0.1)
        process.kill()
    assert killed[0].info.status == "RUNNING"
    trained = train(make_recommender(GRU), dataset, store)
    (run,) = runs(store)
    assert (run.info.run_id, run.info.status) == (killed[0].info.run_id, "FINISHED")
    assert run.info.start_time == killed[0].info.start_time
    assert series(store, run, "train_loss") == read_series(store, trained, "loss")


def test_a_training_that_fails_says_so_and_another_attempt_takes_it_up(store: Store, dataset: str) -> None:
    def cut(line: str) -> None:
        if line.startswith("epoch 2/"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(make_recommender(GRU), dataset, store, progress=cut)
    (ended,) = runs(store)
    assert ended.info.status == "KILLED"
    train(make_recommender(GRU), dataset, store)
    (run,) = runs(store)
    assert (run.info.run_id, run.info.status) == (ended.info.run_id, "FINISHED")


def test_a_registry_that_is_away_ends_no_training_and_gets_it_with_the_verdict(
    store: Store, dataset: str, empty_registry: Path, tmp_path: Path
) -> None:
    file = tmp_path / "mlflow.db"
    spec, told = make_recommender(GRU, **GATE), list[str]()
    trained = train(spec, dataset, store, "postgresql://mlflow@127.0.0.1:9/mlflow", progress=told.append)
    assert [line for line in told if isinstance(line, Notice)]
    shutil.copy(empty_registry, file)
    judge(spec, dataset, trained, store, f"sqlite:///{file}")
    (run,) = runs(store, f"sqlite:///{file}")
    facts = store.manifest(trained)["facts"]
    assert (run.info.status, run.info.run_name) == ("FINISHED", "test gru4rec 2024-06-03")
    assert abs(run.info.end_time - run.info.start_time - 1000 * facts["seconds"]) <= 1
    assert run.data.metrics["train_loss"] == facts["history"][-1]["loss"]
    assert run.data.metrics["test_sessions"] == 2
    assert len(run.inputs.dataset_inputs) == 1


def test_a_verdict_adds_its_figures_and_the_version_and_the_run_name_each_other(store: Store, dataset: str) -> None:
    spec = make_recommender(RULES, **GATE)
    trained = train(spec, dataset, store)
    verdict = judge(spec, dataset, trained, store)
    facts = store.manifest(verdict)["facts"]
    (run,) = runs(store)
    assert facts["mlflow_run"] == run.info.run_id
    assert run.data.tags["gate"] == "passed"
    metrics = facts["metrics"]
    assert run.data.metrics["mrr_at_20"] == metrics["challenger"]["mrr@20"]
    assert run.data.metrics["popularity/mrr_at_20"] == metrics["popularity"]["mrr@20"]
    assert run.data.metrics["test_predictions"] == facts["predictions"]
    number = register(spec, refit(spec, dataset, trained, verdict, store), verdict, store)
    registry = Registry(get_default_uri(store))
    assert registry.client.get_run(run.info.run_id).data.tags["version"] == number
    assert registry.client.get_model_version("test", number).run_id == run.info.run_id
    demanding = {"evidence": {"min_sessions": 100}, "conditions": [{"metric": "mrr@20", "min": 0.0}]}
    # Another verdict on the same model is the same run's.
    other = make_recommender(
        RULES, baselines=[{"name": "recent-popularity"}], gate=demanding, evaluation={"bootstrap": 100}
    )
    again = store.manifest(judge(other, dataset, trained, store))["facts"]
    assert again["mlflow_run"] == run.info.run_id
    (run,) = runs(store)
    assert run.data.tags["gate"] == "undecided"
    assert run.data.tags["verdict"].startswith("undecided: ")
    assert len(series(store, run, "mrr_at_20")) == 1


def test_a_setting_that_a_later_attempt_chose_anew_is_told_beside_the_first(store: Store, dataset: str) -> None:
    train(make_recommender(RULES), dataset, store)
    registry = Registry(get_default_uri(store))
    (run,) = runs(store)
    manifest = store.manifest(store.list("trained/test")[0])
    settings = JudgeSettings.of(make_recommender(RULES))
    again = log_missing(settings, manifest, store, registry)
    again.log_parameters({"steps": 3, "found": {"epochs": 2}})
    (run,) = runs(store)
    assert (run.data.params["steps"], run.data.tags["now.steps"]) == ("10", "3")
    assert run.data.params["found.epochs"] == "2"
