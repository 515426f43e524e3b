"""What a search may try and chooses from, without Ray."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from endcap.errors import DataError
from endcap.features import build
from endcap.features.view import open_view
from endcap.spec import ModelSpec, Recommender
from endcap.spec.search import SearchSpec
from endcap.spec.space import Between, Choice
from endcap.spec.tunable import change_parameters, check_search, list_domains, list_members, list_starts
from endcap.store import Store
from endcap.training import train
from endcap.training.search import is_searched
from endcap.training.search.allocation import allocate_trials
from endcap.training.search.record import ModelTrials, SearchRecord, Trial
from endcap.training.search.sampler import Sampler, compute_importances
from endcap.training.search.search import count_trials_here
from endcap.training.search.trial import hide_test_sessions
from tests.conftest import ROOT
from tests.features.logs import DAY, at_times, recommender, shop, snapshot
from tests.refusals import misspelt, refused
from tests.training.datasets import SPLIT, little_dataset, sleeper

SPACE: dict[str, Between | Choice] = {
    "rate": Between(low=0.001, high=1.0, log=True),
    "size": Between(low=1, high=64, integer=True),
    "kind": Choice(values=["a", [1, 2], None]),
}
BASE: dict[str, Any] = {"rate": 0.1, "size": 8, "kind": "a"}
MODELS: TypeAdapter[ModelSpec] = TypeAdapter(ModelSpec)
BLEND = {
    "name": "blend",
    "members": {"own": {"name": "gru4rec"}, "near": {"name": "vsknn"}, "pop": {"name": "popularity"}},
}


def make_recommender(search: dict[str, Any], model: dict[str, Any] | None = None) -> Recommender:
    return recommender(model=model or {"name": "vsknn"}, split=SPLIT, search=search)


@pytest.mark.parametrize(
    "name", ["recent-popularity", "sequential-rules", "vsknn", "ease", "item-knn", "gru4rec", "sasrec", "neumf"]
)
def test_every_value_of_a_default_space_and_of_the_starts_is_allowed(name: str) -> None:
    spec = MODELS.validate_python({"name": name})
    own = list_domains(spec, SearchSpec())[""]
    assert own
    assert list(check_search(SearchSpec(space=own), spec)) == []
    for start in list_starts("", list_members(spec)[""], SearchSpec()):
        change_parameters(list_members(spec)[""], start)


@pytest.mark.parametrize(
    ("search", "key", "code", "hint"),
    [
        ({"space": {"neighbors": {"values": [1]}}}, ("space", "neighbors"), "unknown-name", "'neighbours'"),
        (
            {"space": {"neighbours": {"low": 0, "high": 10, "integer": True}}},
            ("space", "neighbours", "low"),
            "not-allowed",
            "",
        ),
        ({"space": {"last_events": {"values": [2, "many"]}}}, ("space", "last_events", "values", 1), "not-allowed", ""),
        ({"space": {"neighbours": {"low": 50, "high": 100}}}, ("space", "neighbours"), "not-allowed", "integer: true"),
        ({"fixed": ["width"]}, ("fixed", 0), "unknown-name", ""),
    ],
)
def test_a_space_that_cannot_be_is_refused_before_anything_runs(
    search: dict[str, Any], key: tuple[str | int, ...], code: str, hint: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        make_recommender(search)
    mistakes = [one for detail in caught.value.errors() for one in detail["ctx"]["mistakes"]]
    (mistake,) = [one for one in mistakes if one.at == ("search", *key)]
    assert mistake.code == code
    assert hint in mistake.hint


def test_a_class_of_one_s_own_is_checked_when_the_search_begins(store: Store) -> None:
    with misspelt(("search", "unknown-name")) as caught:
        train(sleeper({"space": {"y": {"values": [1]}}}), little_dataset(store), store)
    (problem,) = caught.value.problems
    assert (problem.found, problem.allowed.rpartition(": ")[2]) == ("'y'", "x, seconds, max_epochs, says_nice, fault")


def test_members_of_a_blend_are_searched_by_their_labels_and_the_slow_ones_last() -> None:
    search = SearchSpec.model_validate({"space": {"near.last_events": {"values": [3]}}, "fixed": ["own.loss"]})
    found = list_domains(MODELS.validate_python(BLEND), search)
    assert set(found) == {"own", "near"}
    assert "loss" not in found["own"]
    assert found["near"]["last_events"].corners() == [3]
    first, second = allocate_trials({label: list_members(MODELS.validate_python(BLEND))[label] for label in found}, 20)
    assert (first.label, first.trials, second.label, second.trials) == ("near", 5, "own", 15)


def test_the_n_th_suggestion_comes_from_the_seed_and_what_is_known() -> None:
    def tried(stop: int, sampler: Sampler, begin: int = 1) -> list[Trial]:
        done = []
        for number in range(begin, stop):
            values = sampler.suggest(number)
            assert values is not None
            done.append(Trial(number, values, "complete", -abs(values["size"] - 20)))
            sampler.end_trial(number, "complete", done[-1].value)
        return done

    def fresh(seed: int = 1) -> Sampler:
        return Sampler(SPACE, BASE, seed, 24)

    whole = tried(25, fresh())
    assert [trial.parameters for trial in tried(25, fresh())] == [trial.parameters for trial in whole]
    assert [trial.parameters for trial in tried(6, fresh(2))] != [trial.parameters for trial in whole[:5]]
    killed = fresh()
    for trial in whole[:12]:
        killed.add_known(trial)
    assert [trial.parameters for trial in tried(25, killed, 13)] == [trial.parameters for trial in whole[12:]]
    assert all(SPACE[name].holds(value) for trial in whole for name, value in trial.parameters.items())
    shares_of = compute_importances(SPACE, BASE, whole)
    assert max(shares_of, key=lambda name: shares_of[name]) == "size"
    assert sum(shares_of.values()) == pytest.approx(1, abs=0.01)
    assert compute_importances(SPACE, BASE, whole[:5]) == {}


def test_no_setting_is_tried_twice_and_a_small_space_ends() -> None:
    sampler = Sampler({"kind": Choice(values=["a", "b", "c"])}, {"kind": "a"}, 1, 20)
    sampler.add_point(1, {"kind": "a"})
    found = [sampler.suggest(number) for number in range(2, 6)]
    assert sorted(one["kind"] for one in found if one) == ["b", "c"]
    assert found[2:] == [None, None]


def test_a_record_is_read_by_the_same_search_only_and_counts_what_was_cut_off(tmp_path: Path) -> None:
    record = SearchRecord(tmp_path, "key", [""])
    trial = Trial(1, {"x": 1})
    for row in ({"epoch": 1, "validation": 0.2}, {"epoch": 2, "validation": 0.3}, {"epoch": 3, "validation": 0.1}):
        trial.add(row)
    record.parts[""].trials = {1: trial, 2: Trial(2, {"x": 2}, "failed", error="no"), 3: Trial(3, {"x": 3})}
    record.save()
    again = SearchRecord(tmp_path, "key", [""]).parts[""]
    assert again.trials == record.parts[""].trials
    assert SearchRecord(tmp_path, "other", [""]).parts[""] == ModelTrials()
    again.end()
    assert [one.state for one in again.trials.values()] == ["cut", "failed", "cut"]
    assert again.best is again.trials[1]
    assert "error" not in again.trials[3].facts(), "for lack of time is no failure"
    assert again.best.outcome() == {"epochs": 2}


@pytest.mark.parametrize(
    ("search", "cores", "gibibytes", "at_once"),
    [
        ({}, 64, 4, 3),
        ({}, 2, 16, 2),
        ({"cpu": 2}, 5, 64, 2),
        ({"cpu": 0.5}, 2, 64, 4),
        ({"trials": 6}, 64, 256, 6),
        ({}, 1, 1, 1),
    ],
    ids=["little-memory", "cores", "two-cores-each", "half-a-core-each", "trials", "least"],
)
def test_so_many_trials_run_at_once_as_memory_and_cores_allow(
    search: dict[str, Any], cores: int, gibibytes: int, at_once: int
) -> None:
    assert count_trials_here(SearchSpec.model_validate(search), cores, gibibytes * 2**30) == at_once


def test_trials_see_nothing_of_the_test(store: Store) -> None:
    spec = make_recommender({"trials": 3})
    view = open_view(store.fetch(little_dataset(store)), spec)
    seen = hide_test_sessions(view)
    assert len(view.test)
    assert not len(seen.test)
    assert len(seen.validation) == len(view.validation)
    baskets = open_view(
        store.fetch(little_dataset(store)),
        recommender(model={"name": "vsknn"}, split=SPLIT, evaluation={"protocol": "basket"}),
    )
    seen = hide_test_sessions(baskets)
    assert len(baskets.predictions("test"))
    assert not len(seen.predictions("test"))
    assert seen.predictions("validation").targets.tolist() == baskets.predictions("validation").targets.tolist()


def test_without_validation_sessions_nothing_is_started(store: Store) -> None:
    spec = recommender(model={"name": "vsknn"}, split={**SPLIT, "validation": 0.0}, search={"trials": 3})
    with refused(DataError, "search.no-validation", recommender=spec.name):
        train(spec, little_dataset(store), store)


def test_validation_sessions_of_one_moment_are_none(store: Store) -> None:
    rows = [*at_times("s1", "a b c"), *at_times("s2", "b c a"), *at_times("s3", "abc", 2 * DAY)]
    data = build(shop(), snapshot(store, [*rows, *at_times("s4", "c a b", 4 * DAY)]), store)
    split = {"by": "time", "test": "2d", "validation": "1d"}
    with refused(DataError, "search.no-validation", one_moment_sessions=1):
        train(recommender(model={"name": "vsknn"}, split=split, search={"trials": 3}), data, store)
    lines: list[str] = []
    model = {"name": "gru4rec", "width": 8, "batch_size": 4, "negatives": 4, "max_epochs": 2}
    trained = train(recommender(model=model, split=split), data, store, progress=lines.append)
    assert store.manifest(trained)["facts"]["found"] == {"epochs": 2}
    assert any("max_epochs" in line and "protocol" in line for line in lines)


ALONE = """
import sys
from endcap.spec import Recommender
from endcap.store import open_store
from endcap.training import train
store = open_store(sys.argv[3])
facts = store.manifest(train(Recommender.model_validate_json(sys.argv[1]), sys.argv[2], store))["facts"]
assert facts["search"] is None and facts["found"] == {"epochs": 3}, facts
assert not {"ray", "optuna"} & sys.modules.keys()
"""


@pytest.mark.slow
def test_one_trial_is_the_model_as_it_is_and_starts_no_ray(store: Store) -> None:
    spec = sleeper({"trials": 1})
    assert not is_searched(spec)
    assert not is_searched(make_recommender({"trials": 9}, {"name": "popularity"}))
    command = [sys.executable, "-c", ALONE, spec.model_dump_json(by_alias=True), little_dataset(store), store.root]
    done = subprocess.run(command, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
