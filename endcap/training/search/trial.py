"""One trial, in a worker process of Ray: a fit on the training part, which reports each epoch."""

from __future__ import annotations

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from endcap.cpus import measure_core_time
from endcap.features.view import View
from endcap.models.fit import draw_validation, fit_watched, open_model_view
from endcap.spec.model import SingleSpec
from endcap.spec.settings import TrainSettings
from endcap.spec.tunable import Values, change_parameters, list_members
from endcap.store import Store, open_store
from endcap.training.search.checkpoints import workspace
from endcap.training.search.job import Task

Report = Callable[[dict[str, Any]], bool]
"""Takes a row or the outcome; False: the trial is to end."""


def run(task: Task, number: int, values: Values, report: Report) -> None:
    """Fit with these values, and report each epoch and the outcome.

    An error is reported as the state `failed` with its reason: one bad setting does not end the search.

    Parameters
    ----------
    task
        What the trials of the model have in common.
    number
        The trial's number.
    values
        Its setting.
    report
        Takes {"row", "waited"} for each epoch, and at last {"state", "value", "found", …}. waited: share of the epoch
        that the process was without a core; None: not known. It returns False if the trial has to end.
    """
    begun = time.monotonic()
    try:
        outcome = _fit_trial(task, number, values, report)
    except MemoryError:
        outcome = {"state": "failed", "error": "out of memory"}
    except Exception as error:  # any setting may fail in any way, in code of one's own too
        outcome = {"state": "failed", "error": f"{type(error).__name__}: {error}"}
    report({**outcome, "seconds": round(time.monotonic() - begun, 3)})


def _fit_trial(task: Task, number: int, values: Values, report: Report) -> dict[str, Any]:
    store, settings, view = _open_data(task.store, task.dataset, task.settings)
    spec = change_parameters(list_members(settings.model)[task.label], values)
    continues, waits = True, _CoreWaits()

    def observe(row: Mapping[str, float]) -> bool:
        nonlocal continues
        continues = report({"row": {name: float(value) for name, value in row.items()}, "waited": waits.share()})
        return continues

    with workspace(task, store, number, values) as work:
        fitted = fit_watched(
            spec,
            view,
            settings.exclude,
            seed=settings.seed,
            workspace=work,
            observe=observe,
            preprocessing=settings.preprocessing,
        )
    history = [{name: float(value) for name, value in row.items()} for row in fitted.report.history]
    value = _find_value(history, fitted.model, view, settings)
    if value is None or not math.isfinite(value):
        return {"state": "failed", "error": f"its validation next_ndcg@20 is {value}", "history": history}
    settings_found = dict(fitted.report.settings)
    return {"state": "complete" if continues else "pruned", "value": value, "found": settings_found, "history": history}


class _CoreWaits:
    """Measures how long the process was ready to run and had no core."""

    def __init__(self) -> None:
        self._at, self._before = time.monotonic(), measure_core_time()

    def share(self) -> float | None:
        """Return the share of the time since the last call; None: not known."""
        earlier, now, before = time.monotonic(), measure_core_time(), self._before
        seconds, self._at, self._before = earlier - self._at, earlier, now
        if now is None or before is None:
            return None
        ran, waited = (max(0, new - old) / 1e9 for new, old in zip(now, before, strict=True))
        return round(waited / max(seconds, ran + waited, 1e-9), 4)


def _find_value(history: list[dict[str, float]], model: Any, view: View, settings: TrainSettings) -> float | None:
    grades = [row["validation"] for row in history if math.isfinite(row.get("validation", math.nan))]
    if grades:
        return max(grades)
    validation = draw_validation(view, settings.exclude, settings.seed)
    return None if validation is None else validation.measure(model)


@functools.lru_cache(maxsize=1)
def _open_data(store: str, dataset: str, settings: str) -> tuple[Store, TrainSettings, View]:
    """Open the data once in each worker process: it runs one trial after the other."""
    opened, parsed = open_store(store), TrainSettings.model_validate_json(settings)
    return opened, parsed, hide_test_sessions(open_model_view(opened.fetch(dataset), parsed))


def hide_test_sessions(view: View) -> View:
    """Return the view without the test sessions: no trial can see what the winner is judged on."""
    baskets = {part: basket for part, basket in view.baskets.items() if part != "test"}
    return dataclasses.replace(view, test=view.test.take(np.zeros(0, dtype=np.int64)), baskets=baskets)


def find_member(task: Task) -> SingleSpec:
    """Return the model that the task searches."""
    return list_members(TrainSettings.model_validate_json(task.settings).model)[task.label]
