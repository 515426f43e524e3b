"""Fits over several workers: in threads, and by Ray Train with real processes, which are killed."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch.distributed as dist
from pydantic import ValidationError
from torch import Tensor

from endcap.devices.check import ON_CPU
from endcap.errors import DataError, TransientError, rebuild_error
from endcap.evaluation.metrics import ItemPopularity
from endcap.evaluation.model_metrics import measure_model
from endcap.evaluation.scoring import EvaluatedModel
from endcap.features import build
from endcap.features.dataset_files import read_refit_sessions
from endcap.features.view import open_view
from endcap.models import Fitting, Model, load, make
from endcap.models.fit import draw_validation, fit_watched
from endcap.neural.gru import GRUNetwork, GRUShape
from endcap.neural.gru_training import GRUSettings, GRUTrainer
from endcap.neural.sequences import Sequences
from endcap.spec import Recommender
from endcap.spec.settings import FitSettings, TrainSettings
from endcap.store import Store
from endcap.training import train
from endcap.training.distributed.job import FitJob
from endcap.training.distributed.worker import work
from endcap.training.search.job import Task
from endcap.training.search.trial import run
from tests.features.logs import recommender, sessions, shop, snapshot
from tests.listening import find_descendants, on_loopback_alone, read_parents
from tests.refusals import mistaken, refused

LOG = " ".join(["abcab", "xyzxy", "acb", "zyx"] * 40)
GRU = {"name": "gru4rec", "width": 8, "batch_size": 8, "negatives": 4, "max_epochs": 40, "patience": 40}
RANGE = {"low": 30, "high": 60, "integer": True}
SPLIT = {"by": "time", "test": 0.1, "validation": 0.2}


def make_recommender(model: dict[str, Any] = GRU, gpu: int = 0) -> Recommender:
    training = {"workers": 2, "max_failures": 1, "gpu": gpu}
    return recommender(model=model, split=SPLIT, training=training, refit=False)


@pytest.fixture
def dataset(store: Store) -> str:
    return build(shop(), snapshot(store, sessions(LOG)), store)


class CountingExchange:
    """One of two workers in threads of one process; gloo adds gradients up. bytes: size of each exchange."""

    world = 2

    def __init__(self, folder: Path, rank: int) -> None:
        self.rank, self.bytes = rank, [0]
        self._group = dist.ProcessGroupGloo(dist.FileStore(str(folder / "group"), self.world), rank, self.world)

    def sum(self, *tensors: Tensor) -> None:
        self.bytes.append(sum(tensor.nbytes for tensor in tensors))
        for tensor in tensors:
            self._group.allreduce([tensor]).wait()


def run_in_threads(folder: Path, run: Callable[[CountingExchange], None]) -> None:
    threads = [threading.Thread(target=lambda rank=rank: run(CountingExchange(folder, rank))) for rank in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def get_arrays(model: Any) -> dict[str, Any]:
    named: dict[str, Any] = model.network.arrays()
    return named


def test_after_each_step_all_workers_have_the_same_weights_and_only_rows_were_exchanged(tmp_path: Path) -> None:
    n_items, width = 5000, 16
    rng = np.random.default_rng(0)
    log = Sequences(rng.integers(n_items, size=2000).astype(np.int32), np.arange(0, 2001, 4))
    settings = GRUSettings(batch=16, negatives=32, dropout_hidden=0.2)
    weights: dict[int, list[str]] = {0: [], 1: []}
    most = []

    def run(exchange: CountingExchange) -> None:
        network = GRUNetwork.draw(GRUShape(n_items, width), np.ones(n_items, dtype=np.bool_), {}, 1)
        trainer = GRUTrainer(network, log, settings, 1, exchange)
        step = trainer.run.step

        def watched(batch: Any) -> None:
            step(batch)
            state = b"".join(values.tobytes() for values in trainer.state().values())
            weights[exchange.rank].append(hashlib.sha256(state).hexdigest())

        trainer.run.step = watched
        trainer.epoch(0)
        most.append(max(exchange.bytes))

    run_in_threads(tmp_path, run)
    assert weights[0] == weights[1]
    assert len(set(weights[0])) == len(weights[0]) > 50
    assert max(most) < n_items * width * 4 / 10


@pytest.mark.parametrize(
    ("model", "found"),
    [
        ({"name": "vsknn"}, "2 workers for vsknn"),
        ({"name": "blend", "members": {"a": GRU, "b": {"name": "sasrec"}}}, "2 workers for sasrec"),
        ({**GRU, "batch_size": 9}, "2 workers for model.batch_size, 9"),
    ],
    ids=["no-steps", "blend", "batch"],
)
def test_a_spec_that_workers_cannot_share_is_refused(model: dict[str, Any], found: str) -> None:
    with mistaken((("training", "workers"), "conflict")) as caught:
        make_recommender(model)
    (detail,) = caught.value.errors()
    assert detail["ctx"]["mistakes"][0].actual == found


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ({}, "3 workers for search.space.batch_size, 32"),
        (
            {"space": {"batch_size": {"low": 30, "high": 60, "integer": True}}},
            "3 workers for search.space.batch_size, 31",
        ),
        ({"space": {"batch_size": {"values": [3, 9]}}}, None),
        ({"fixed": ["batch_size"]}, None),
    ],
)
def test_a_search_finds_no_batch_that_workers_cannot_share(search: dict[str, Any], found: str | None) -> None:
    document = {"model": {**GRU, "batch_size": 9}, "split": SPLIT, "training": {"workers": 3}, "search": search}
    if found is None:
        recommender(**document)
        return
    with pytest.raises(ValidationError) as caught:
        recommender(**document)
    mistakes = [mistake for detail in caught.value.errors() for mistake in detail["ctx"]["mistakes"]]
    assert ("conflict", found) in {(mistake.code, mistake.actual) for mistake in mistakes}


def test_a_worker_reads_by_address_and_reports_errors_that_another_attempt_would_repeat(
    store: Store, dataset: str, tmp_path: Path
) -> None:
    def job(model: dict[str, Any]) -> FitJob:
        document = FitSettings.of(make_recommender(model)).model_dump_json(by_alias=True)
        return FitJob(store.root, dataset, document, "everything", {"epochs": 2}, "key", 1, 1.0, 0, 0)

    events: list[dict[str, Any]] = []
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'alone'}", rank=0, world_size=1)
    try:
        work(job(GRU), events.append)
        with refused(DataError, "features.attribute-unknown", found="colour"):
            work(job({**GRU, "item_features": ["colour"]}), events.append)
    finally:
        dist.destroy_process_group()
    (fitted,) = [event for event in events if event["event"] == "fitted"]
    assert events[-1]["event"] == "error"
    with refused(DataError, "features.attribute-unknown", found="colour"):
        raise rebuild_error(events[-1]["error"])
    vocabulary, refit_sessions = read_refit_sessions(store.fetch(dataset), make_recommender())
    alone = make(make_recommender().model)
    alone.fit(refit_sessions, len(vocabulary), Fitting(seed=make_recommender().seed, settings={"epochs": 2}))
    shared = load(store.fetch(fitted["address"]) / "model")
    for name, values in get_arrays(alone).items():
        np.testing.assert_array_equal(values, get_arrays(shared)[name])


def test_step_trial_worker_and_evaluation_measure_the_same_moments(store: Store, tmp_path: Path) -> None:
    """Two lines at a time have one time."""
    rows = [{**row, "time": row["time"] // 2000 * 2000} for row in sessions(LOG)]
    data = build(shop(), snapshot(store, rows), store)
    document = {"model": {**GRU, "max_epochs": 2}, "split": SPLIT, "refit": False}
    alone = recommender(**document)
    history = store.manifest(train(alone, data, store))["facts"]["history"]
    settings = TrainSettings.of(alone).model_dump_json(by_alias=True)
    trial_events: list[dict[str, Any]] = []
    run(
        Task(store.root, data, settings, "test", "key", "", str(tmp_path)),
        1,
        {},
        lambda row: not trial_events.append(row),
    )
    worker_events: list[dict[str, Any]] = []
    job = FitJob(
        store.root, data, FitSettings.of(alone).model_dump_json(by_alias=True), "train", None, "k", 1, 1.0, 0, 0
    )
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'alone'}", rank=0, world_size=1)
    try:
        work(job, worker_events.append)
    finally:
        dist.destroy_process_group()
    (fitted,) = [event for event in worker_events if event["event"] == "fitted"]
    view = open_view(store.fetch(data), alone)
    evaluation = measure_model(
        EvaluatedModel(load(store.fetch(fitted["address"]) / "model")),
        view.predictions("validation"),
        [20],
        ItemPopularity.of(view.training, len(view.vocabulary)),
    )
    means = dict(
        zip(
            evaluation.names,
            evaluation.sums.sum(axis=0) / evaluation.weights.sum(axis=0)[evaluation.weight_of],
            strict=True,
        )
    )
    assert len(view.predictions("validation")) > len(view.predictions("validation").first)
    grades = [row["validation"] for row in history]
    assert grades == [event["row"]["validation"] for event in trial_events if "row" in event]
    assert grades == [event["row"]["validation"] for event in worker_events if event["event"] == "row"]
    assert grades == [row["validation"] for row in store.manifest(fitted["address"])["facts"]["history"]]
    assert max(grades) == pytest.approx(means["next_ndcg@20"])


class ProgressLog:
    """Keeps the lines of progress, and calls each action in turn when its epoch is reached.

    Parameters
    ----------
    actions
        An epoch's number and what to do from its line on.
    """

    def __init__(self, *actions: tuple[int, Callable[[ProgressLog], None]]) -> None:
        self.lines: list[str] = []
        self._actions = list(actions)

    def __call__(self, line: str) -> None:
        self.lines.append(line)
        epoch = re.match(r"epoch (\d+)/", line)
        if epoch and self._actions and int(epoch[1]) >= self._actions[0][0]:
            self._actions.pop(0)[1](self)

    def find_lines(self, part: str) -> list[str]:
        return [line for line in self.lines if part in line]

    def kill_worker(self, rank: int) -> None:
        """Kill a worker, of those that were started last."""
        pids = re.findall(r"process (\d+)", self.find_lines("workers: process")[-1])
        os.kill(int(pids[rank]), signal.SIGKILL)


def end_ray(log: ProgressLog) -> None:
    """Kill all of Ray but the step's own child process, as where a cluster goes away.

    It reads the processes from /proc once. To run `ps` for each of them takes seconds on a busy machine, within which
    the workers would fit all epochs and publish the model.
    """
    parents = read_parents()
    family = find_descendants(os.getpid(), parents)
    for pid in family - {os.getpid()}:
        if parents[pid] != os.getpid():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@pytest.mark.slow(minutes=3)
@pytest.mark.timeout(600)
def test_killed_workers_and_a_lost_ray_leave_the_same_model(
    store: Store, dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = make_recommender()
    # Each worker may die once; the second death ends the step.
    log = ProgressLog((3, lambda log: log.kill_worker(0)), (12, lambda log: log.kill_worker(1)))
    with refused(TransientError, "training.workers-died", limit=1) as caught:
        train(spec, dataset, store, progress=log)
    assert "worker 1: its process died" in caught.value.fields["reason"]
    assert log.find_lines("worker 0: its process died; starting again from the last epoch, 1 of at most 1 times")
    assert len(log.find_lines("going on after epoch")) == 1

    log = ProgressLog((20, end_ray))
    with refused(TransientError, "search.ray-gone", section="training", address=None) as caught:
        train(spec, dataset, store, progress=log)
    # On a machine that is too busy Ray ends by itself: it does not start within its 30 seconds.
    assert log.find_lines("epoch 20/40"), caught.value.fields
    assert int(log.find_lines("going on after epoch")[0].split()[-1]) >= 12
    assert store.list("trained/test") == []
    # Workers that ended before Ray did would leave the next step nothing to do.
    assert store.list("fits/test") == []

    log = ProgressLog()
    # What a step does that was given a GPU, sees none, and may go on: its workers have none either.
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv(ON_CPU, "1")
    with on_loopback_alone():
        address = train(make_recommender(gpu=1), dataset, store, progress=log)
    assert int(log.find_lines("going on after epoch")[0].split()[-1]) >= 20
    assert len(log.find_lines("epoch 40/40")) == 1

    shared = load(store.fetch(address) / "model")
    undisturbed: dict[int, Model] = {}
    view = open_view(store.fetch(dataset), spec)

    def run(exchange: CountingExchange) -> None:
        model: Any = make(spec.model)
        model.exchange = exchange
        undisturbed[exchange.rank] = model
        validation = draw_validation(view, spec.exclude, spec.seed)
        model.fit(view.train, len(view.vocabulary), Fitting(seed=spec.seed, validation=validation))

    run_in_threads(tmp_path, run)
    alone = fit_watched(spec.model, view, spec.exclude, seed=spec.seed)
    for name, values in get_arrays(shared).items():
        np.testing.assert_array_equal(values, get_arrays(undisturbed[0])[name])
        np.testing.assert_array_equal(values, get_arrays(undisturbed[1])[name])
    facts = store.manifest(address)["facts"]
    assert facts["device"] == "cpu"
    for name in ("epoch", "loss", "validation"):
        values = [[row[name] for row in history] for history in (facts["history"], alone.report.history)]
        np.testing.assert_allclose(*values, rtol=1e-2)
