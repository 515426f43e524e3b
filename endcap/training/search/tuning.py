"""One model's search as Ray Tune runs it. Only processes with Ray import this module: it takes three seconds."""

from __future__ import annotations

import dataclasses
import sys
import time
from typing import Any

import ray
from ray import tune
from ray.tune.search import Searcher
from ray.tune.stopper import Stopper

from endcap.ray_driver import Emit
from endcap.ray_driver.failures import describe_loss
from endcap.ray_driver.gpus import hide_gpus_unless
from endcap.spec.search import SearchSpec
from endcap.spec.settings import TrainSettings
from endcap.spec.tunable import dump_parameters
from endcap.training.search.job import SearchJob, Task
from endcap.training.search.trial import find_member, run
from endcap.training.search.trial_queue import TrialQueue

JOB = SearchJob
_NO_END = 10**6
_REDUCTION = 3
"""ASHA lets the best third of those that reached a rung go on."""
_MANY_EPOCHS = 100
"""Of a model that does not say how many at most."""
_DIED_AGAIN = 1
"""A trial whose worker died is begun again so often, from its checkpoint: another node, or more memory, may do."""


def drive(job: SearchJob, storage: str | None, emit: Emit) -> None:
    """Run a job. Ray is connected.

    Parameters
    ----------
    job
        The search of the model.
    storage
        Folder for Tune's own files; None: the cluster has its own.
    emit
        Takes the events of its `TrialQueue`.
    """
    search = TrainSettings.model_validate_json(job.task.settings).search or SearchSpec()
    queue = TrialQueue(job, emit)
    searcher = _Searcher(job.task, search, queue)
    trainable = tune.with_resources(_trainable, {"cpu": search.cpu, "gpu": search.gpu})
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=_make_scheduler(search, job, queue),
            # The queue says when there is nothing left.
            num_samples=_NO_END,
            max_concurrent_trials=job.concurrency,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name=f"search-{time.time_ns()}",
            storage_path=storage,
            stop=_Ending(queue),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=_DIED_AGAIN),
            callbacks=[_Watch(searcher, queue)],
        ),
    )
    tuner.fit()


def _trainable(config: dict[str, Any]) -> None:
    """Run a trial in a worker: `trial.run`, with its reports handed to Tune."""
    hide_gpus_unless(config["gpu"])
    best: float | None = None
    stopped = False

    def report(what: dict[str, Any]) -> bool:
        nonlocal best, stopped
        if stopped:
            return False
        row = what.get("row", {})
        grade = row.get("validation")
        best = grade if best is None or (grade is not None and grade > best) else best
        measure = {} if "row" not in what or best is None else {"epoch": int(row["epoch"]), "best": best}
        try:
            tune.report({"what": what, **measure})
        except SystemExit:  # how Tune stops a trial: the fit ends after this epoch, in order
            stopped = True
        return not stopped

    run(Task(**config["task"]), config["number"], config["values"], report)
    if stopped:
        sys.exit(0)


class _Unkept:
    """Left out of what Tune keeps to continue: the step has a record of its own."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _Searcher(_Unkept, Searcher):
    """The queue for Tune; and the one place that gets every trial's events."""

    def __init__(self, task: Task, search: SearchSpec, queue: TrialQueue) -> None:
        super().__init__(metric="best", mode="max")
        self._queue = queue
        self._task, self._gpu = dataclasses.asdict(task), search.gpu
        self._numbers: dict[str, int] = {}

    def suggest(self, trial_id: str) -> Any:
        choice = self._queue.next()
        if choice == "wait":
            return None
        if choice == "done":
            return str(Searcher.FINISHED)
        number, values = choice
        self._numbers[trial_id] = number
        return {"number": number, "values": values, "task": self._task, "gpu": self._gpu}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        what = unflatten(result).get("what", {})
        number = self._numbers[trial_id]
        if "row" in what:
            self._queue.add_epoch(number, what, result.get("epoch"), result.get("best"))
        elif "state" in what:
            self._queue.end_trial(number, what)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        if result:
            self.on_trial_result(trial_id, result)
        # Of one whose worker died `died` is called as well, which knows why.
        if not error:
            self._queue.end_trial(self._numbers[trial_id], {"state": "pruned"})

    def fail_trial(self, trial_id: str, reason: str) -> None:
        """Note that the worker of a trial died, and that the trial is not tried again."""
        self._queue.end_trial(self._numbers[trial_id], {"state": "failed", "error": reason})

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: see `_Unkept`."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing."""


def unflatten(result: dict[str, Any]) -> dict[str, Any]:
    """Return a result whose nested keys Tune joined by slashes as nested dicts."""
    what: dict[str, Any] = {}
    for key, value in result.items():
        if key.startswith("what/"):
            at = what
            *path, last = key.split("/")[1:]
            for part in path:
                at = at.setdefault(part, {})
            at[last] = value
    return {**result, "what": what} if what else result


class _Ending(_Unkept, Stopper):
    """Ends the job when nothing may run any more."""

    def __init__(self, queue: TrialQueue) -> None:
        self._queue = queue

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._queue.over


class _Watch(_Unkept, tune.Callback):
    """Reports why a worker died, and ends trials in the middle of an epoch that may not run any more."""

    def __init__(self, searcher: _Searcher, queue: TrialQueue) -> None:
        self._searcher, self._queue = searcher, queue
        self._running: list[Any] = []

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._running.append(trial)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._searcher.fail_trial(trial.trial_id, _explain_death(trial))

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self._queue.check_time()
        for trial in [running for running in self._running if self._queue.was_cut(running.config["number"])]:
            self._running.remove(trial)
            actor = trial.temporary_state.ray_actor
            if actor is not None and not trial.is_finished():
                # Tune would wait for it, and try it again.
                trial.max_failures = 0
                ray.kill(actor)


def _explain_death(trial: Any) -> str:
    # `get_error` is the text of all its failures, and of any death that speaks of memory.
    reason = describe_loss(trial.get_pickled_error() or trial.get_error())
    return (
        f"{reason}; fewer trials at once (search.concurrency) leave each more" if "out of memory" in reason else reason
    )


class _Halving(_Unkept, tune.schedulers.ASHAScheduler):
    """ASHA (Li et al., 2020) that lets the trials that the queue spares run to their end, as rivals to all others.

    They are settings known to be good for one kind of shop or another. Some rise late, and at an early epoch two of
    them say little about each other. If time is short they are stopped like others.
    """

    def __init__(self, queue: TrialQueue, **settings: Any) -> None:
        super().__init__(**settings)
        self._queue = queue

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> Any:
        decision = super().on_trial_result(tune_controller, trial, result)
        return self.CONTINUE if self._queue.is_spared(trial.config["number"]) else decision


def _make_scheduler(search: SearchSpec, job: SearchJob, queue: TrialQueue) -> Any:
    """Return who decides which trials stop early; a model without epochs reports nothing before its end, and is left
    alone.
    """
    if search.scheduler == "none":
        return None
    task = job.task
    domain = search.space.get(f"{task.label}.max_epochs" if task.label else "max_epochs")
    most = max(
        [dump_parameters(find_member(task)).get("max_epochs", _MANY_EPOCHS), *(domain.corners() if domain else [])]
    )
    # One more than any trial runs: at its limit ASHA would end a trial before it can tell what it found.
    return _Halving(
        queue,
        time_attr="epoch",
        metric="best",
        mode="max",
        grace_period=min(search.min_epochs, most),
        reduction_factor=_REDUCTION,
        max_t=most + 1,
    )
