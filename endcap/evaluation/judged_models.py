"""The models of a verdict, loaded or fitted: the challenger, the champion and the baselines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from endcap.errors import IntegrityError, UserError
from endcap.evaluation.leakage import Leakage
from endcap.evaluation.rule_masks import RuleMask, ShopRules
from endcap.evaluation.scoring import EvaluatedModel, VocabularyTranslation
from endcap.features.dataset_files import read_customer_ids
from endcap.features.view import View
from endcap.features.vocabulary import Vocabulary
from endcap.models import load, make
from endcap.models.custom import find_own_modules
from endcap.models.fit import fit_watched, fit_with_settings
from endcap.registry import Version
from endcap.registry.package import (
    PackageContents,
    is_package,
    load_contents,
    read_info,
    read_model_specs,
    read_recommender,
)
from endcap.registry.recipe import FAULTS, Recipe, get_recipe_kind
from endcap.spec.model import ModelSpec
from endcap.spec.settings import JudgeSettings
from endcap.store import Store, fingerprint_code, get_content_key

if TYPE_CHECKING:
    from endcap.spec.recommender import Exclude, Recommender

Json = dict[str, Any]
Progress = Callable[[str], None]
MODEL, VOCABULARY = "model", "vocabulary.json"
NOT_FITTED = (
    "it was not fitted with the challenger, because this version was not the champion then, or because the train step "
    "did not reach the registry; run the pipeline again, which fits it and repeats no finished step"
)


@dataclass(frozen=True)
class Champion:
    """The version that is the champion.

    `recipe` is the address of its recipe as fitted with the challenger. None: there is none, and `missing` says why.
    """

    version: Version
    recipe: str | None
    missing: str = ""

    @classmethod
    def of(cls, version: Version, recommender: Recommender, dataset: str, store: Store) -> Champion:
        """Find the champion's recipe on the recommender's part of a dataset. Nothing is fitted here."""
        try:
            key = Recipe.of(version.package, recommender, store).key(dataset)
        except UserError as error:
            return cls(version, None, str(error))
        address = store.find(get_recipe_kind(recommender.name), key)
        if address is not None:
            return cls(version, address)
        fault = store.read_document(f"{FAULTS}/{key}")
        return cls(version, None, NOT_FITTED if fault is None else str(fault["message"]))

    def key(self, store: Store) -> list[str]:
        """Return what a verdict's key depends on: the package, the code of a user's own model, and the recipe."""
        try:
            own = find_own_modules(*read_model_specs(store.fetch(self.version.package)))
        except UserError as error:  # a class of its own is gone: it will not be judged
            return [get_content_key(self.version.package), str(error)]
        code = [fingerprint_code(*own)] if own else []
        return [
            get_content_key(self.version.package),
            *code,
            get_content_key(self.recipe) if self.recipe else self.missing,
        ]


@dataclass(frozen=True)
class JudgedChampion:
    """The champion as a verdict judges it.

    `judged` is `package` or `recipe`; None: it is not judged, and `competitor` is None. `reason` says why the package
    was not judged.
    """

    champion: Champion
    competitor: EvaluatedModel | None
    judged: Literal["package", "recipe"] | None
    reason: str | None = None

    def facts(self) -> Json:
        version = self.champion.version
        return {
            "version": version.version,
            "package": version.package,
            "judged": self.judged,
            "reason": self.reason,
            "recipe": self.champion.recipe if self.judged == "recipe" else None,
        }


def load_challenger(
    settings: JudgeSettings, folder: Path, view: View, dataset: Path, shop_rules: ShopRules | None
) -> EvaluatedModel:
    """Load the trained model or the package in a folder. `dataset` is the folder of the view's dataset.

    Raises IntegrityError if a model was trained on another view of the data.
    """
    if is_package(folder):
        return _load_package(load_contents(folder), view, dataset, shop_rules)
    mask = None if shop_rules is None else shop_rules.build_mask(view.vocabulary, view.items)
    return replace(_load_fitted(view, folder, settings.classes, settings.exclude), mask=mask)


def load_champion(
    champion: Champion, view: View, dataset: Path, store: Store, shop_rules: ShopRules | None
) -> JudgedChampion:
    """Load the champion: its package if that has seen nothing of the test, else its recipe.

    A package has its own vocabulary, customers and exclusions; a recipe has the challenger's vocabulary. The champion
    is not judged if its recipe is missing, or if its class cannot be imported here.
    """
    package = champion.version.package
    folder = store.fetch(package, verify=True)
    leakage = Leakage.of(view, read_info(folder).get("fitted_until"))
    try:
        if not leakage.leaked:
            return JudgedChampion(champion, _load_package(load_contents(folder), view, dataset, shop_rules), "package")
        if champion.recipe is None:
            reason = f"{leakage}; its recipe would be judged, but {champion.missing}"
            return JudgedChampion(champion, None, None, reason)
        own = read_recommender(folder)
        competitor = _load_fitted(view, store.fetch(champion.recipe, verify=True), own.classes, own.exclude)
        mask = None if shop_rules is None else shop_rules.build_mask(view.vocabulary, view.items)
        return JudgedChampion(champion, replace(competitor, mask=mask), "recipe", str(leakage))
    except UserError as error:
        return JudgedChampion(champion, None, None, str(error))


def _load_package(package: PackageContents, view: View, dataset: Path, shop_rules: ShopRules | None) -> EvaluatedModel:
    mask = None if shop_rules is None else shop_rules.build_mask(package.vocabulary, package.items)
    return replace(_wrap_package(package, view, dataset), mask=mask)


def _wrap_package(package: PackageContents, view: View, dataset: Path) -> EvaluatedModel:
    translation = VocabularyTranslation.between(view.vocabulary.ids, package.vocabulary.ids)
    customers = None
    if package.customers:
        own = (package.customers.get(customer, -1) for customer in read_customer_ids(dataset).to_pylist())
        customers = np.array([*own, -1], dtype=np.int32)
    return EvaluatedModel(package.model, package.recommender.exclude, translation, package.evaluate, customers)


def _load_fitted(view: View, folder: Path, classes: list[str], exclude: Exclude) -> EvaluatedModel:
    """Load the model in a folder that was fitted on the view's training part. Raises IntegrityError if it was not."""
    vocabulary = Vocabulary.load(folder / VOCABULARY)
    if vocabulary.ids != view.vocabulary.ids:
        raise IntegrityError(
            f"{folder} was trained on another view of the data; train it again on this dataset",
            code="evaluation.other-view",
            path=str(folder),
        )
    return EvaluatedModel(load(folder / MODEL, classes), exclude)


def fit_baseline(
    spec: ModelSpec, settings: JudgeSettings, view: View, mask: RuleMask | None, progress: Progress
) -> EvaluatedModel:
    """Fit a baseline on the view's training part. `mask` is what the shop's rules hide."""
    settings_found: Json = {}
    seed = settings.seed
    if make(spec).needs_validation:
        trial = fit_watched(spec, view, settings.exclude, seed=seed, progress=progress)
        settings_found = dict(trial.report.settings)
    size = len(view.vocabulary)
    model = fit_with_settings(spec, view.training, size, settings_found, items=view.items, seed=seed, progress=progress)
    return EvaluatedModel(model, settings.exclude, mask=mask)
