"""The train step: from a dataset to a fitted model that is ready to be judged."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from endcap.evaluation.evaluate import next_item_mrr
from endcap.evaluation.ranks import Competitor
from endcap.features.sessions import Sessions
from endcap.features.view import View, open_view
from endcap.models import FitReport, Fitting, Model, make
from endcap.registry.package import environment
from endcap.spec import Recommender
from endcap.spec.recommender import Exclude
from endcap.store import Store, code_fingerprint, content_key, fingerprint

CODE = (
    "endcap.training",
    "endcap.models",
    "endcap.features.view",
    "endcap.features.sessions",
    "endcap.features.split",
    "endcap.features.declare",
    "endcap.features.vocabulary",
    "endcap.evaluation.evaluate",
    "endcap.evaluation.ranks",
)
MODEL, VOCABULARY = "model", "vocabulary.json"
MAX_VALIDATION_PREFIXES = 20_000
"""Sessions are drawn until they have about so many: enough for a steady MRR, and an epoch does not wait for it."""
Progress = Callable[[str], None]


def kind(recommender: Recommender) -> str:
    """Where a recommender's trained models lie in a store."""
    return f"trained/{recommender.name}"


def train(recommender: Recommender, dataset: str, store: Store, *, progress: Progress = lambda line: None) -> str:
    """Fit the recommender's model on the training part; returns the trained model's address.

    A model that learns in epochs first finds their number on the validation part. With `refit: true` it is then fitted
    anew on the whole training part, validation included, for that many epochs: it has seen what the baselines see.
    A killed training goes on from its last epoch.
    """
    parameters = recommender.model_dump(mode="json", include={"model", "split", "exclude", "refit", "seed"})
    key = fingerprint(content_key(dataset), parameters, code_fingerprint(*CODE))
    with store.workspace(kind(recommender), key, progress) as work:
        return store.find(kind(recommender), key) or _make(recommender, dataset, store, key, work, progress)


def _make(recommender: Recommender, dataset: str, store: Store, key: str, work: Path, progress: Progress) -> str:
    begun = time.monotonic()
    view = open_view(store.fetch(dataset), recommender)
    fitted = _fit(recommender, view, work, progress)
    with store.publish(kind(recommender), key) as draft:
        (draft.path / MODEL).mkdir()
        fitted.model.save(draft.path / MODEL)
        view.vocabulary.save(draft.path / VOCABULARY)
        draft.facts |= {
            "dataset": dataset,
            "model": recommender.model.model_dump(mode="json"),
            "seed": recommender.seed,
            "epochs": fitted.report.epochs,
            "history": [dict(row) for row in fitted.report.history],
            "n_items": len(view.vocabulary),
            "counts": view.counts,
            "seconds": round(time.monotonic() - begun, 3),
            "environment": environment(),
        }
    return draft.address


def fit_anew(
    recommender: Recommender,
    sessions: Sessions,
    n_items: int,
    epochs: int,
    workspace: Path,
    progress: Progress,
) -> Model:
    """A new model of the recommender's spec, fitted on the sessions for a known number of epochs (0: it has none)."""
    model = make(recommender.model)
    workspace.mkdir(exist_ok=True)
    model.fit(
        sessions,
        n_items,
        Fitting(seed=recommender.seed, epochs=epochs or None, workspace=workspace, progress=progress),
    )
    return model


@dataclass(frozen=True)
class _Fitted:
    model: Model
    report: FitReport


def _fit(recommender: Recommender, view: View, work: Path, progress: Progress) -> _Fitted:
    model = make(recommender.model)
    n_items = len(view.vocabulary)
    if not model.needs_validation:
        progress(f"fitting {model.name} on {len(view.training):,} sessions")
        return _Fitted(model, model.fit(view.training, n_items, Fitting(seed=recommender.seed, progress=progress)))
    progress(f"fitting {model.name} on {len(view.train):,} sessions, validating on {len(view.validation):,}")
    search = work / "search"
    search.mkdir(exist_ok=True)
    validate = None
    if len(view.validation):
        validate = _validation(view.validation, recommender.exclude, recommender.seed)
    else:
        progress("warning: no validation sessions, so training runs to model.max_epochs; set split.validation larger")
    report = model.fit(
        view.train,
        n_items,
        Fitting(seed=recommender.seed, validate=validate, workspace=search, progress=progress),
    )
    if not recommender.refit:
        return _Fitted(model, report)
    progress(f"fitting anew on the whole training part, {len(view.training):,} sessions, for {report.epochs} epochs")
    return _Fitted(fit_anew(recommender, view.training, n_items, report.epochs, work / "training", progress), report)


def _validation(sessions: Sessions, exclude: Exclude, seed: int) -> Callable[[Model], float]:
    """MRR@20 on validation sessions, drawn by the seed where there are very many."""
    order = np.random.default_rng(seed).permutation(len(sessions))
    prefixes = np.cumsum(np.maximum(sessions.lengths[order] - 1, 0))
    enough = int(np.searchsorted(prefixes, MAX_VALIDATION_PREFIXES)) + 1
    drawn = sessions.take(np.sort(order[:enough]))
    return lambda model: next_item_mrr(Competitor(model, exclude), drawn)


def facts_of(store: Store, address: str) -> dict[str, Any]:
    """What the step that made an artifact noted of it."""
    facts: dict[str, Any] = store.manifest(address)["facts"]
    return facts
