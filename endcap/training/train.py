"""The train step: from a dataset to a fitted model that is ready to be judged."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from endcap.features.empty_parts import explain_no_validation
from endcap.features.view import View
from endcap.machine import describe_machine
from endcap.models import FitReport, make
from endcap.models.custom import find_own_modules
from endcap.models.device import find_device
from endcap.models.fit import FittedModel, fit_watched, fit_with_settings, get_part, open_model_view
from endcap.registry.package import describe_environment
from endcap.registry.training_log import log_training
from endcap.spec.model import ModelSpec
from endcap.spec.settings import FitSettings, TrainSettings
from endcap.steps import STEPS
from endcap.store import Store, fingerprint, fingerprint_code, get_content_key
from endcap.store.schemas import report_malformed
from endcap.training.distributed import DistributedFitter
from endcap.training.distributed.job import Part
from endcap.training.score_sources import find_train_settings, list_providers
from endcap.training.search import SearchResult, search, settle

if TYPE_CHECKING:
    from endcap.spec.recommender import Recommender

MODEL, VOCABULARY = "model", "vocabulary.json"
TRIED = "tried"
"""Of the step's workspace: where the model is fitted that the validation part watches."""
Progress = Callable[[str], None]
Observe = Callable[[Mapping[str, float], str], bool]
Fit = Callable[[ModelSpec, Part, Mapping[str, Any] | None], FittedModel]
"""Fits a model on a part of the data, as found; with None watched by the validation part."""


def kind(name: str) -> str:
    """Return the folder of a recommender's trained models in a store, by the recommender's name."""
    return STEPS["train"].folder(name)


def train(
    recommender: Recommender,
    dataset: str,
    store: Store,
    registry: str | None = None,
    *,
    progress: Progress = lambda line: None,
) -> str:
    """Fit the recommender's model on the training part.

    A model that learns in epochs first chooses their number on the validation part. With `refit: true` it is then
    fitted again on the whole training part, validation included, for that number of epochs, so that it is trained on
    the same sessions as the baselines. With `search` the model's settings are chosen first, and the trials are logged
    to the registry. Scores of other recommenders come from the recipes of their versions of now. A killed training
    continues after its last epoch, a killed search with its next trial. If
    `training.workers` is more than one, that many processes share the fits, but not the search's.

    Parameters
    ----------
    recommender
        The recommender.
    dataset
        Address of the dataset.
    store
        Where artifacts lie.
    registry
        Address of the registry; None: the store's own.
    progress
        Takes lines for people.

    Returns
    -------
    str
        Address of the trained model.
    """
    settings = find_train_settings(recommender, dataset, store, registry)
    key = make_key(settings, dataset)
    with store.workspace(kind(settings.name), key, progress) as work:
        return store.find(kind(settings.name), key) or _make(settings, dataset, store, key, work, registry, progress)


def make_key(settings: TrainSettings, dataset: str) -> str:
    """Return the key of the model that these settings, on a dataset and with the code of now, are trained to."""
    code = fingerprint_code(STEPS["train"].entry, *find_own_modules(settings.model, *settings.preprocessing))
    return fingerprint(get_content_key(dataset), settings.key(), code)


def _make(
    settings: TrainSettings,
    dataset: str,
    store: Store,
    key: str,
    work: Path,
    registry: str | None,
    progress: Progress,
) -> str:
    begun = time.monotonic()
    view = open_model_view(store.fetch(dataset), settings)
    place = f"{kind(settings.name)}/{key}"
    with log_training(settings, place, dataset, view.counts, store, registry, progress) as run:
        search_ = functools.partial(search, registry_uri=registry, above=run.get_run_id, progress=progress)
        with (
            search_(settings, dataset, store, view, key=key, tried=work / TRIED) as searched,
            fits(settings, dataset, store, key, view, work, progress, run.log_epoch) as fit,
        ):
            if searched.rival is not None:
                progress(f"{searched.spec.name} as the spec has it did not come to its end in that time: it goes on")
            chosen = settle(searched, lambda spec: fit(spec, "train", None))
            run.log_model(chosen.spec)
            learned = _learn(settings, chosen, view, fit, progress)
            with store.publish(kind(settings.name), key) as draft:
                (draft.path / MODEL).mkdir()
                learned.model.save(draft.path / MODEL)
                view.vocabulary.save(draft.path / VOCABULARY)
                draft.facts |= {
                    "dataset": dataset,
                    "model": chosen.spec.model_dump(mode="json"),
                    "seed": settings.seed,
                    "found": dict(learned.report.settings),
                    "history": [dict(row) for row in learned.report.history],
                    "search": chosen.facts or None,
                    "n_items": len(view.vocabulary),
                    "counts": view.counts,
                    "seconds": round(time.monotonic() - begun, 3),
                    "environment": describe_environment(),
                    "machine": describe_machine(),
                    "device": learned.device,
                }
                if providers := list_providers(chosen.spec, store):
                    draft.facts["providers"] = providers
                run.end(draft.facts)
    return draft.address


@contextlib.contextmanager
def fits(
    settings: FitSettings,
    dataset: str,
    store: Store,
    key: str,
    view: View,
    work: Path,
    progress: Progress,
    observe: Observe = lambda row, fit: True,
) -> Iterator[Fit]:
    """Yield the function that fits models on the parts of a view: in this process, or over workers.

    Parameters
    ----------
    settings
        The recommender's settings.
    dataset
        Address of the dataset.
    store
        Where artifacts lie.
    key
        Key of the step, by which workers find a fit again.
    view
        The recommender's view of the dataset.
    work
        Folder for checkpoints.
    progress
        Takes lines for people.
    observe
        Takes each epoch's row and the name of its fit: `train`, or `final` for a fit without validation.
    """
    if settings.workers == 1:
        yield functools.partial(_fit_here, settings, view, work, progress, observe)
        return
    with DistributedFitter(settings, dataset, store, key, work / "workers", progress, observe) as workers:
        yield workers.fit


def _fit_here(
    settings: FitSettings,
    view: View,
    work: Path,
    progress: Progress,
    observe: Observe,
    spec: ModelSpec,
    part: Part,
    settings_found: Mapping[str, Any] | None,
) -> FittedModel:
    seed, steps = settings.seed, settings.preprocessing
    if settings_found is None:
        return fit_watched(
            spec,
            view,
            settings.exclude,
            seed=seed,
            workspace=work / TRIED,
            progress=progress,
            observe=lambda row: observe(row, "train"),
            preprocessing=steps,
        )
    model = fit_with_settings(
        spec,
        get_part(view, "train" if part == "train" else "training"),
        len(view.vocabulary),
        settings_found,
        items=view.items,
        seed=seed,
        workspace=work / "training",
        progress=progress,
        observe=lambda row: observe(row, "final"),
        preprocessing=steps,
    )
    return FittedModel(model, FitReport(settings_found), find_device(model))


def _learn(settings: TrainSettings, searched: SearchResult, view: View, fit: Fit, progress: Progress) -> FittedModel:
    spec = searched.spec
    sizes = {part: view.counts[part]["sessions"] for part in ("train", "training")}
    if not make(spec).needs_validation:
        progress(f"fitting {spec.name} on {sizes['training']:,} sessions")
        return replace(fit(spec, "training", {}), report=FitReport())
    # The judged model of a search that came to its end is the trial's own.
    if searched.fit_settings is not None and (settings.refit or not searched.resumed):
        part: Part = "training" if settings.refit else "train"
        progress(f"fitting {spec.name} as found, on {sizes[part]:,} sessions")
        return replace(
            fit(spec, part, searched.fit_settings), report=FitReport(searched.fit_settings, searched.history)
        )
    progress(f"fitting {spec.name} on {sizes['train']:,} sessions, validating on {len(view.validation):,}")
    if not len(view.validation):
        progress(f"warning: training runs to model.max_epochs: {explain_no_validation(view.counts)}")
    first = fit(spec, "train", None)
    if not settings.refit:
        return first
    settings_found = first.report.settings
    words = f" for {settings_found['epochs']} epochs" if "epochs" in settings_found else ""
    progress(f"fitting again on the whole training part, {sizes['training']:,} sessions{words}")
    return replace(fit(spec, "training", settings_found), report=first.report)


def describe(facts: Mapping[str, Any]) -> str:
    """Describe a trained model in one line: what was fitted, and how a search ended.

    Raises
    ------
    IntegrityError
        The facts are malformed.
    """
    with report_malformed("trained", "the trained model"):
        return _describe(facts)


def _describe(facts: Mapping[str, Any]) -> str:
    epochs = f", {facts['found']['epochs']} epochs" if "epochs" in facts["found"] else ""
    searched = facts.get("search") or {}
    trials = [trial for part in searched.get("members", {"": searched}).values() for trial in part.get("trials", [])]
    counts = ", ".join(f"{searched[state]} {state}" for state in ("cut", "failed") if searched.get(state))
    finish = (searched.get("finish") or {}).get("seconds")
    finished = f", finished in {finish:.0f} s" if finish else ""
    words = f", the best of {len(trials)} trials{f' ({counts})' if counts else ''}{finished}" if trials else ""
    return f"{facts['model']['name']}{words}{epochs}, {facts['n_items']:,} items"


def read_facts(store: Store, address: str) -> dict[str, Any]:
    """Return the facts that the step noted that made an artifact.

    Parameters
    ----------
    store
        Where artifacts lie.
    address
        The artifact's address.
    """
    facts: dict[str, Any] = store.manifest(address)["facts"]
    return facts
