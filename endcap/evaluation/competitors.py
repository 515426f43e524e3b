"""The models of a verdict, made ready to be ranked: the challenger, the champion, the baselines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from endcap.errors import IntegrityError
from endcap.evaluation.ranks import Competitor, Translation
from endcap.features.view import View, customer_ids
from endcap.features.vocabulary import Vocabulary
from endcap.models import load, make
from endcap.models.learn import fitted, tried
from endcap.registry import Version
from endcap.registry.package import Contents
from endcap.spec.model import ModelSpec
from endcap.spec.settings import JudgeSettings

Json = dict[str, Any]
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Champion:
    """The version that is the champion, and its package."""

    version: Version
    package: Contents


def challenger_of(settings: JudgeSettings, folder: Path, view: View) -> Competitor:
    """The trained model in a folder. Raises IntegrityError where it was trained on another view of the data."""
    vocabulary = Vocabulary.load(folder / "vocabulary.json")
    if vocabulary.ids != view.vocabulary.ids:
        raise IntegrityError(
            f"{folder} was trained on another view of the data; train it again on this dataset",
            code="evaluation.other-view",
            path=str(folder),
        )
    return Competitor(load(folder / "model", settings.classes), settings.exclude)


def champion_of(package: Contents, view: View, dataset: Path) -> Competitor:
    """The model of a package, with its own vocabulary, customers and exclusions."""
    translation = Translation.between(view.vocabulary.ids, package.vocabulary.ids)
    customers = None
    if package.customers:
        own = (package.customers.get(customer, -1) for customer in customer_ids(dataset).to_pylist())
        customers = np.array([*own, -1], dtype=np.int32)
    return Competitor(package.model, package.recommender.exclude, translation, package.evaluate, customers)


def baseline_of(spec: ModelSpec, settings: JudgeSettings, view: View, progress: Progress) -> Competitor:
    """A baseline, fitted on the view's training part."""
    found: Json = {}
    seed = settings.seed
    if make(spec).needs_validation:
        first = tried(spec, view, settings.exclude, seed=seed, progress=progress)
        found = dict(first.report.found)
    size = len(view.vocabulary)
    model = fitted(spec, view.training, size, found, items=view.items, seed=seed, progress=progress)
    return Competitor(model, settings.exclude)
