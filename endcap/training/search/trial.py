"""One trial, in a worker process of Ray: a fit on the training part, told of epoch by epoch."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from endcap.features.view import View
from endcap.models.learn import tried, validation_of, view_of
from endcap.spec.model import SingleSpec
from endcap.spec.settings import TrainSettings
from endcap.spec.tunable import Values, changed, members
from endcap.store import Store, fingerprint, open_store
from endcap.training.search.stage import Task

Report = Callable[[dict[str, Any]], bool]
"""Takes a row or the outcome; False: the trial is to end."""


def run(task: Task, number: int, values: Values, report: Report) -> None:
    """Fit with these values; reports each epoch as {"row"}, and at last {"state", "value", "found", "history", …}.

    What goes wrong is reported as the state `failed` with its reason: one bad setting does not end the search.
    """
    begun = time.monotonic()
    try:
        outcome = _tried(task, number, values, report)
    except MemoryError:
        outcome = {"state": "failed", "error": "out of memory"}
    except Exception as error:  # any setting may fail in any way, in code of one's own too
        outcome = {"state": "failed", "error": f"{type(error).__name__}: {error}"}
    report({**outcome, "seconds": round(time.monotonic() - begun, 3)})


def _tried(task: Task, number: int, values: Values, report: Report) -> dict[str, Any]:
    store, settings, view = _opened(task.store, task.dataset, task.settings)
    spec = changed(members(settings.model)[task.label], values)
    going = True

    def observe(row: Mapping[str, float]) -> bool:
        nonlocal going
        going = report({"row": {name: float(value) for name, value in row.items()}})
        return going

    with _workspace(task, store, settings.name, number, values) as work:
        learned = tried(
            spec,
            view,
            settings.exclude,
            seed=settings.seed,
            workspace=work,
            observe=observe,
            preprocessing=settings.preprocessing,
        )
    history = [{name: float(value) for name, value in row.items()} for row in learned.report.history]
    value = _value(history, learned.model, view, settings)
    if value is None or not math.isfinite(value):
        return {"state": "failed", "error": f"its validation next_ndcg@20 is {value}", "history": history}
    found = dict(learned.report.found)
    return {"state": "complete" if going else "pruned", "value": value, "found": found, "history": history}


def _value(history: list[dict[str, float]], model: Any, view: View, settings: TrainSettings) -> float | None:
    grades = [row["validation"] for row in history if math.isfinite(row.get("validation", math.nan))]
    if grades:
        return max(grades)
    validation = validation_of(view, settings.exclude, settings.seed)
    return None if validation is None else validation.measure(model)


@functools.lru_cache(maxsize=1)
def _opened(store: str, dataset: str, settings: str) -> tuple[Store, TrainSettings, View]:
    """Once a worker process: it runs one trial after the other."""
    opened, parsed = open_store(store), TrainSettings.model_validate_json(settings)
    return opened, parsed, searchable(view_of(opened.fetch(dataset), parsed))


def searchable(view: View) -> View:
    """The view without the test sessions: no trial can look at what the winner is judged on."""
    baskets = {part: one for part, one in view.baskets.items() if part != "test"}
    return dataclasses.replace(view, test=view.test.take(np.zeros(0, dtype=np.int64)), baskets=baskets)


@contextlib.contextmanager
def _workspace(task: Task, store: Store, name: str, number: int, values: Values) -> Iterator[Path]:
    """Where the trial's checkpoints are; gone when the trial ended, there again when it was killed."""
    if task.folder is not None:
        work = Path(task.folder) / f"{number}-{fingerprint(values)}"
        try:
            yield work
        finally:  # which a kill does not come to
            shutil.rmtree(work, ignore_errors=True)
        return
    failure = None
    key = fingerprint(task.dataset, task.settings, task.label, number, values)
    with store.workspace(f"trials/{name}", key) as work:
        try:
            yield work
        except Exception as error:
            failure = error  # nobody goes on from there: the workspace is to be left empty
    if failure is not None:
        raise failure


def member_of(task: Task) -> SingleSpec:
    """The model that the task searches."""
    return members(TrainSettings.model_validate_json(task.settings).model)[task.label]
