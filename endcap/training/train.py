"""The train step: from a dataset to a fitted model that is ready to be judged."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from endcap.features.view import View, open_view
from endcap.models import FitReport, make
from endcap.models.custom import own_code
from endcap.models.learn import Learned, fitted, tried
from endcap.registry.package import environment
from endcap.spec import Recommender
from endcap.store import Store, code_fingerprint, content_key, fingerprint

CODE = (
    "endcap.training",
    "endcap.models",
    "endcap.features.view",
    "endcap.features.sessions",
    "endcap.features.split",
    "endcap.features.declare",
    "endcap.features.items",
    "endcap.features.vocabulary",
)
MODEL, VOCABULARY = "model", "vocabulary.json"
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
    parameters["protocol"] = recommender.protocol
    code = code_fingerprint(*CODE, *own_code(recommender.model))
    key = fingerprint(content_key(dataset), parameters, code)
    with store.workspace(kind(recommender), key, progress) as work:
        return store.find(kind(recommender), key) or _make(recommender, dataset, store, key, work, progress)


def _make(recommender: Recommender, dataset: str, store: Store, key: str, work: Path, progress: Progress) -> str:
    begun = time.monotonic()
    view = open_view(store.fetch(dataset), recommender)
    learned = _learn(recommender, view, work, progress)
    with store.publish(kind(recommender), key) as draft:
        (draft.path / MODEL).mkdir()
        learned.model.save(draft.path / MODEL)
        view.vocabulary.save(draft.path / VOCABULARY)
        draft.facts |= {
            "dataset": dataset,
            "model": recommender.model.model_dump(mode="json"),
            "seed": recommender.seed,
            "found": dict(learned.report.found),
            "history": [dict(row) for row in learned.report.history],
            "n_items": len(view.vocabulary),
            "counts": view.counts,
            "seconds": round(time.monotonic() - begun, 3),
            "environment": environment(),
        }
    return draft.address


def _learn(recommender: Recommender, view: View, work: Path, progress: Progress) -> Learned:
    spec, seed, n_items = recommender.model, recommender.seed, len(view.vocabulary)
    given: dict[str, Any] = {"items": view.items, "seed": seed, "progress": progress}
    if not make(spec).needs_validation:
        progress(f"fitting {spec.name} on {len(view.training):,} sessions")
        model = fitted(spec, view.training, n_items, {}, workspace=work / "training", **given)
        return Learned(model, FitReport())
    progress(f"fitting {spec.name} on {len(view.train):,} sessions, validating on {len(view.validation):,}")
    if not len(view.validation):
        progress("warning: no validation sessions, so training runs to model.max_epochs; set split.validation larger")
    first = tried(spec, view, recommender.exclude, seed=seed, workspace=work / "tried", progress=progress)
    if not recommender.refit:
        return first
    found = first.report.found
    told = f" for {found['epochs']} epochs" if "epochs" in found else ""
    progress(f"fitting anew on the whole training part, {len(view.training):,} sessions{told}")
    model = fitted(spec, view.training, n_items, found, workspace=work / "training", **given)
    return Learned(model, first.report)


def facts_of(store: Store, address: str) -> dict[str, Any]:
    """What the step that made an artifact noted of it."""
    facts: dict[str, Any] = store.manifest(address)["facts"]
    return facts
