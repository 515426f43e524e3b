"""Fits the champion's recipe, which the evaluate step compares a challenger with if the champion's package was trained
on the test's sessions.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from endcap.errors import EndcapError, StorageError
from endcap.evaluation.leakage import Leakage
from endcap.machine import describe_machine
from endcap.models import Model, make
from endcap.models.fit import open_model_view
from endcap.registry import Version, find_registry
from endcap.registry.package import describe_environment, read_info
from endcap.registry.recipe import FAULTS, Recipe, get_recipe_kind
from endcap.spec.settings import FitSettings
from endcap.store import Store
from endcap.training.train import MODEL, VOCABULARY, Progress, fits

if TYPE_CHECKING:
    from endcap.features.view import View
    from endcap.spec.recommender import Recommender
    from endcap.training.distributed.job import Part


def fit_champion(
    recommender: Recommender,
    dataset: str,
    store: Store,
    registry: str | None = None,
    *,
    progress: Progress = lambda line: None,
) -> str | None:
    """Fit the recipe of the recommender's champion if its package was trained on sessions of the test.

    A killed fit continues. A fit that failed is tried again by the next run.

    Parameters
    ----------
    recommender
        The recommender of the challenger.
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
    str or None
        Address of the fitted recipe. None: there is no champion, its package was trained on nothing of the test, or its
        recipe cannot be fitted. In the last case a warning says why, and the reason is kept for the verdict; the
        challenger's training does not fail.
    """
    try:
        existing = find_registry(registry, store)
        version = None if existing is None else existing.find_champion(recommender.name)
    except (EndcapError, OSError) as error:
        progress(
            f"warning: the registry does not say which version is the champion, so its recipe is not fitted: {error}"
        )
        return None
    if version is None:
        return None
    try:
        recipe = Recipe.of(version.package, recommender, store)
        key = recipe.key(dataset)
    except StorageError:
        raise
    except EndcapError as error:  # the evaluate step meets it too
        _warn(version, error, progress)
        return None
    place = get_recipe_kind(recommender.name)
    with store.workspace(place, key, progress) as work:
        address = store.find(place, key)
        if address is not None:
            return address
        try:
            return fit_recipe(recipe, version.version, dataset, store, key, work, progress)
        except (StorageError, MemoryError):
            raise
        except Exception as error:
            # Whatever a model does, of one's own too, must not cost the challenger that is trained already.
            message = str(error) or type(error).__name__
            store.write_document(f"{FAULTS}/{key}", {"package": version.package, "message": message})
            _warn(version, error, progress)
            return None


def fit_version(
    version: Version, recommender: Recommender, dataset: str, store: Store, *, progress: Progress = lambda line: None
) -> str:
    """Return the address of the model of a version that can be judged on a dataset.

    It is the version's package; or if that was trained on sessions of the recommender's test, its recipe, fitted on the
    training part.

    Parameters
    ----------
    version
        The version.
    recommender
        The recommender whose test is asked.
    dataset
        Address of the dataset.
    store
        Where artifacts lie.
    progress
        Takes lines for people.

    Raises
    ------
    UserError
        The package does not tell its recipe. Also what its fit raises.
    """
    view = open_model_view(store.fetch(dataset), FitSettings.of(recommender))
    if not Leakage.of(view, read_info(store.fetch(version.package)).get("fitted_until")).leaked:
        return version.package
    recipe = Recipe.of(version.package, recommender, store)
    place, key = get_recipe_kind(recommender.name), recipe.key(dataset)
    with store.workspace(place, key, progress) as work:
        fitted = store.find(place, key)
        return fitted or fit_recipe(recipe, version.version, dataset, store, key, work, progress) or version.package


def fit_recipe(
    recipe: Recipe, version: str, dataset: str, store: Store, key: str, work: Path, progress: Progress
) -> str | None:
    """Fit a recipe as its own model was fitted before it was judged.

    Parameters
    ----------
    recipe
        The recipe of a version's package.
    version
        The version's number.
    dataset
        Address of the dataset.
    store
        Where artifacts lie.
    key
        Key of the artifact.
    work
        Folder for checkpoints.
    progress
        Takes lines for people.

    Returns
    -------
    str or None
        Address of the artifact; None if the package was trained on nothing of the test.
    """
    started = time.monotonic()
    view = open_model_view(store.fetch(dataset), recipe.settings)
    leakage = Leakage.of(view, read_info(store.fetch(recipe.package)).get("fitted_until"))
    if not leakage.leaked:
        return None
    progress(f"fitting the recipe of version {version}: {leakage}")
    model = fit_model(recipe, view, dataset, store, key, work, progress)
    with store.publish(get_recipe_kind(recipe.settings.name), key) as draft:
        (draft.path / MODEL).mkdir()
        model.save(draft.path / MODEL)
        view.vocabulary.save(draft.path / VOCABULARY)
        draft.facts |= {
            "package": recipe.package,
            "dataset": dataset,
            "model": recipe.model.model_dump(mode="json"),
            "found": dict(recipe.fit_results),
            "seconds": round(time.monotonic() - started, 3),
            "environment": describe_environment(),
            "machine": describe_machine(),
        }
    return draft.address


def fit_model(
    recipe: Recipe, view: View, dataset: str, store: Store, key: str, work: Path, progress: Progress
) -> Model:
    """Fit a recipe on its part of a view. Arguments are as those of `fit_recipe`; the view is of `recipe.settings`."""
    # Without a refit a model that was watched by the validation part was fitted on what lies before it.
    needs_validation = make(recipe.model).needs_validation
    part: Part = "training" if recipe.settings.refit or not needs_validation else "train"
    with fits(recipe.settings, dataset, store, key, view, work, progress) as fit:
        return fit(recipe.model, part, recipe.fit_results).model


def _warn(version: Version, error: Exception, progress: Progress) -> None:
    message = f"the recipe of the champion, version {version.version}, cannot be fitted: {error}"
    progress(f"warning: {message}; conditions against the champion fail where its package has seen the test")
