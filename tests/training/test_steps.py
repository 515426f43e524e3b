"""The steps train and refit, from a dataset to a package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from endcap.errors import UserError
from endcap.features import build
from endcap.features.dataset_files import read_refit_sessions
from endcap.features.sessions import Sessions
from endcap.features.view import open_view
from endcap.features.vocabulary import Vocabulary
from endcap.models import Fitting, load, make
from endcap.registry.package import load_package
from endcap.spec import Recommender
from endcap.store import Store, open_store
from endcap.training import refit, train
from tests.features.logs import recommender, sessions, shop, snapshot
from tests.refusals import refused

# The last two of twenty sessions are the test; only there is an `n`.
LOG = " ".join(["abcab", "xyzxy"] * 9 + ["abcan", "xyzxn"])
GRU = {"name": "gru4rec", "width": 8, "batch_size": 4, "negatives": 4, "max_epochs": 4}
SPLIT = {"by": "time", "test": 0.1, "validation": 0.2}


@pytest.fixture
def dataset(store: Store) -> str:
    return build(shop(), snapshot(store, sessions(LOG)), store)


def make_recommender(model: dict[str, Any], **keys: Any) -> Recommender:
    return recommender(model=model, split=SPLIT, **keys)


def write_verdict(store: Store, *, passed: bool) -> str:
    with store.publish("verdicts/test", f"passed-{passed}") as draft:
        draft.facts["passed"] = passed
    return draft.address


def have_same_scores(one: Any, other: Any, n_items: int) -> bool:
    asked = Sessions.of([[item] for item in range(n_items)])
    return bool(np.array_equal(one.score(asked), other.score(asked)))


def test_a_trained_model_says_what_it_is_made_of(store: Store, dataset: str) -> None:
    address = train(make_recommender({"name": "popularity"}), dataset, store)
    folder, facts = store.fetch(address, verify=True), store.manifest(address)["facts"]
    assert sorted(Vocabulary.load(folder / "vocabulary.json").ids) == ["a", "b", "c", "x", "y", "z"]
    assert load(folder / "model").n_items == facts["n_items"] == 6
    assert facts["dataset"] == dataset
    assert facts["model"] == {"name": "popularity"}
    assert facts["found"] == {}
    assert facts["counts"]["training"] == {"sessions": 18, "events": 90}
    assert facts["counts"]["test"]["unseen_events"] == 2
    assert {"python", "torch", "endcap"} <= facts["environment"].keys()
    assert facts["device"] == "cpu"


def test_what_is_trained_is_found_again(store: Store, dataset: str) -> None:
    spec = make_recommender({"name": "sequential-rules"})
    lines: list[str] = []
    first = train(spec, dataset, store)
    assert train(spec, dataset, store, progress=lines.append) == first
    assert lines == []
    gate_only = make_recommender({"name": "sequential-rules"}, gate=[{"metric": "mrr@20", "min": 0.9}])
    assert train(gate_only, dataset, store) == first
    assert train(make_recommender({"name": "sequential-rules", "steps": 1}), dataset, store) != first


def test_the_epochs_are_found_on_validation_and_used_on_the_whole_training_part(store: Store, dataset: str) -> None:
    spec = make_recommender(GRU)
    address = train(spec, dataset, store)
    facts = store.manifest(address)["facts"]
    grades = [row["validation"] for row in facts["history"]]
    assert facts["found"]["epochs"] == int(np.argmax(grades)) + 1
    view = open_view(store.fetch(dataset), spec)
    expected = make(spec.model)
    expected.fit(view.training, len(view.vocabulary), Fitting(seed=spec.seed, settings=facts["found"]))
    assert have_same_scores(load(store.fetch(address) / "model"), expected, 6)


def test_without_refit_the_model_of_the_best_epoch_stays(store: Store, dataset: str) -> None:
    spec = make_recommender(GRU, refit=False)
    address = train(spec, dataset, store)
    facts = store.manifest(address)["facts"]
    view = open_view(store.fetch(dataset), spec)
    expected = make(spec.model)
    expected.fit(view.train, len(view.vocabulary), Fitting(seed=spec.seed, settings=facts["found"]))
    assert have_same_scores(load(store.fetch(address) / "model"), expected, 6)


def test_an_interrupted_training_leaves_nothing_and_goes_on(store: Store, dataset: str, tmp_path: Path) -> None:
    spec, lines = make_recommender(GRU), []

    def cut(line: str) -> None:
        if line.startswith("epoch 2/"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(spec, dataset, store, progress=cut)
    assert store.list("trained/test") == []
    address = train(spec, dataset, store, progress=lines.append)
    assert "going on after epoch 2" in lines
    assert not list((tmp_path / "store" / ".work").rglob("checkpoint*"))
    other = open_store(str(tmp_path / "other"))
    again = train(spec, build(shop(), snapshot(other, sessions(LOG)), other), other)
    assert have_same_scores(load(store.fetch(address) / "model"), load(other.fetch(again) / "model"), 6)


# Trains, and stands still after epoch 2 until it is given a line.
TRAINER = """
import sys
from endcap.spec import Recommender
from endcap.store import open_store
from endcap.training import train
def tell(line):
    print(line, flush=True)
    if line.startswith("epoch 2/"):
        sys.stdin.readline()
spec = Recommender.model_validate_json(sys.argv[1])
print(train(spec, sys.argv[2], open_store(sys.argv[3]), progress=tell))
"""


@pytest.mark.slow
def test_two_processes_that_train_the_same_get_one_model(store: Store, dataset: str) -> None:
    def start(stdin: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", TRAINER, make_recommender(GRU).model_dump_json(), dataset, store.root]
        return subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE, text=True)

    def reads(process: subprocess.Popen[str], beginning: str) -> bool:
        return any(line.startswith(beginning) for line in process.stdout or ())

    with start(subprocess.PIPE) as first:
        assert reads(first, "epoch 2/")
        with start(subprocess.DEVNULL) as second:
            assert reads(second, "another process does the same work")
            told, _ = first.communicate("go on\n")
            assert second.communicate()[0].split() == [told.split()[-1]] == store.list("trained/test")
    assert (first.returncode, second.returncode) == (0, 0)


def test_no_validation_sessions_is_told_and_trains_all_epochs(store: Store, dataset: str) -> None:
    lines: list[str] = []
    spec = recommender(model=GRU, split={"by": "time", "test": 0.1, "validation": 0.0})
    address = train(spec, dataset, store, progress=lines.append)
    assert any("no validation sessions" in line for line in lines)
    assert store.manifest(address)["facts"]["found"] == {"epochs": 4}


@pytest.mark.parametrize("model", [{"name": "vsknn"}, GRU], ids=["vsknn", "gru4rec"])
def test_the_winner_is_fitted_on_all_data(store: Store, dataset: str, model: dict[str, Any]) -> None:
    spec = make_recommender(model)
    trained = train(spec, dataset, store)
    address = refit(spec, dataset, trained, write_verdict(store, passed=True), store)
    package = load_package(store.fetch(address, verify=True))
    package.check()
    assert sorted(package.vocabulary.ids) == ["a", "b", "c", "n", "x", "y", "z"]
    vocabulary, events = read_refit_sessions(store.fetch(dataset), spec)
    expected = make(spec.model)
    found = store.manifest(trained)["facts"]["found"]
    expected.fit(events, len(vocabulary), Fitting(seed=spec.seed, settings=found))
    assert have_same_scores(package.model, expected, 7)
    assert package.info["dataset"] == dataset
    assert package.info["fitted_until"] == events.times.max()
    assert refit(spec, dataset, trained, write_verdict(store, passed=True), store) == address


@pytest.mark.parametrize(("rule", "gap"), [({"by": "given"}, None), ({"by": "gap", "gap": "10m"}, 600_000)])
def test_a_package_cuts_visits_as_its_dataset_does(store: Store, rule: dict[str, str], gap: int | None) -> None:
    rows = [{**row, "customer": row["session"]} for row in sessions(LOG)]
    made = build(shop(sessions=rule), snapshot(store, rows), store)
    spec = make_recommender({"name": "popularity"})
    package = refit(spec, made, train(spec, made, store), write_verdict(store, passed=True), store)
    assert load_package(store.fetch(package)).session_gap == gap


def test_what_only_serving_changes_is_packed_anew_and_not_fitted(store: Store, dataset: str) -> None:
    spec = make_recommender(GRU)
    trained, passed = train(spec, dataset, store), write_verdict(store, passed=True)
    first = refit(spec, dataset, trained, passed, store)
    lines: list[str] = []
    served = make_recommender(GRU, serving={"k": 3})
    second = refit(served, dataset, trained, passed, store, progress=lines.append)
    assert second != first
    assert lines == []
    assert load_package(store.fetch(second)).recommender.serving.k == 3


def test_with_refit_false_the_judged_model_is_packed(store: Store, dataset: str) -> None:
    spec = make_recommender(GRU, refit=False)
    trained = train(spec, dataset, store)
    package = load_package(store.fetch(refit(spec, dataset, trained, write_verdict(store, passed=True), store)))
    assert have_same_scores(package.model, load(store.fetch(trained) / "model"), 6)
    assert package.info["fitted_until"] == open_view(store.fetch(dataset), spec).train.times.max()


def test_what_did_not_pass_the_gate_is_not_packed(store: Store, dataset: str) -> None:
    spec = make_recommender({"name": "popularity"})
    failed = write_verdict(store, passed=False)
    with refused(UserError, "training.gate-failed", verdict=failed):
        refit(spec, dataset, train(spec, dataset, store), failed, store)
    with store.publish("verdicts/test", "undecided") as draft:
        draft.facts |= {"outcome": "undecided", "passed": False, "evidence": {"lacking": ["sessions"]}}
    with refused(UserError, "training.gate-undecided", lacking=["sessions"]):
        refit(spec, dataset, train(spec, dataset, store), draft.address, store)
    assert store.list("packages/test") == []
