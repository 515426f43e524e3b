"""Finds the recipes of the recommenders whose scores a model takes as features."""

from __future__ import annotations

from typing import TYPE_CHECKING

from endcap.errors import UserError
from endcap.models import make
from endcap.registry import Registry, Version, find_registry
from endcap.registry.package import read_info
from endcap.registry.recipe import Recipe
from endcap.spec.model import ModelSpec, ScoreRecipe, ScoreSource, StackedSpec
from endcap.spec.recommender import list_class_paths
from endcap.spec.settings import TrainSettings
from endcap.spec.side_features import list_feature_names
from endcap.store import Store, get_content_key

if TYPE_CHECKING:
    from endcap.spec.recommender import Recommender


def find_train_settings(recommender: Recommender, dataset: str, store: Store, registry: str | None) -> TrainSettings:
    """Return the settings of the train step. Scores of other recommenders have the recipes of their versions in them.

    So the settings tell all that the model is made of, and their key changes with the recipes.

    Parameters
    ----------
    recommender
        The recommender.
    dataset
        Address of the dataset.
    store
        Where packages lie.
    registry
        Address of the registry; None: the store's own. It is asked only if a recipe is missing.

    Raises
    ------
    UserError
        There is no such version (`training.scores-without-version`), or its scores cannot be features
        (`training.scores-unfit`).
    NotFoundError
        There is no version of that number.
    """
    settings = TrainSettings.of(recommender)
    model = settings.model
    if not isinstance(model, StackedSpec) or all(source.recipe for source in model.scores.values()):
        return settings
    known = find_registry(registry, store)
    scores = {
        label: source if source.recipe else _note_recipe(source, recommender, dataset, store, known)
        for label, source in model.scores.items()
    }
    return settings.model_copy(update={"model": model.model_copy(update={"scores": scores})})


def keep_recipes(settings: TrainSettings, fitted: ModelSpec) -> TrainSettings:
    """Return settings with the recipes that an earlier training noted.

    Parameters
    ----------
    settings
        The settings, as a spec has them.
    fitted
        The model that was fitted by them.
    """
    model = settings.model
    if not isinstance(model, StackedSpec) or not isinstance(fitted, StackedSpec):
        return settings
    return settings.model_copy(update={"model": model.model_copy(update={"scores": fitted.scores})})


def list_providers(model: ModelSpec, store: Store) -> dict[str, str]:
    """Return the addresses of the packages whose recipes a model has in it, by label."""
    if not isinstance(model, StackedSpec):
        return {}
    recipes = {label: source.recipe for label, source in model.scores.items()}
    return {label: f"{store.root}/{recipe.package}" for label, recipe in recipes.items() if recipe is not None}


def _note_recipe(
    source: ScoreSource, recommender: Recommender, dataset: str, store: Store, registry: Registry | None
) -> ScoreSource:
    version = _find_version(source, registry)
    recipe = Recipe.of(version.package, recommender, store)
    _refuse_unfit(recipe, version, recommender, dataset, store)
    noted = ScoreRecipe.model_validate(
        {
            "package": get_content_key(version.package),
            "model": recipe.model.model_dump(mode="json", by_alias=True),
            "seed": recipe.settings.seed,
            "settings": dict(recipe.fit_results),
        }
    )
    return source.model_copy(update={"version": int(version.version), "recipe": noted})


def _find_version(source: ScoreSource, registry: Registry | None) -> Version:
    version = None
    if registry is not None and source.version == "champion":
        version = registry.find_champion(source.recommender)
    elif registry is not None:
        version = registry.get_version(source.recommender, str(source.version))
    if version is not None:
        return version
    raise UserError(
        f"scores of {source.recommender}: the registry has no {source.version} of it"
        f"{'' if registry is not None else ', because there is no registry yet'}; train it first: "
        f"`endcap run` with the spec of {source.recommender}",
        code="training.scores-without-version",
        recommender=source.recommender,
        version=source.version,
    )


def _refuse_unfit(recipe: Recipe, version: Version, recommender: Recommender, dataset: str, store: Store) -> None:
    """Raise UserError if the scores of a recipe cannot be features of this recommender."""
    shops = [_name_shop(dataset), _name_shop(str(read_info(store.fetch(recipe.package)).get("dataset", "")))]
    model = recipe.model
    unlisted = sorted(set(list_class_paths({("model",): model}).values()) - set(recommender.classes))
    names = sorted(list_feature_names({("model",): model}, "features").values())
    if shops[0] != shops[1]:
        reason, present, remedy = "other-shop", f"it is of the shop {shops[1]}", f"name a recommender of {shops[0]}"
    elif isinstance(model, StackedSpec):
        reason, present, remedy = "stacked", "it takes scores itself", "name the recommenders whose scores it takes"
    elif unlisted:
        reason, present = "class-unlisted", f"its model is of the class {unlisted[0]}, which `classes` does not list"
        remedy = f"if you trust it, add it: classes: [{', '.join([*recommender.classes, *unlisted])}]"
    elif recipe.settings.preprocessing:
        reason, present, remedy = "preprocessing", "it has preprocessing", "name a recommender without it"
    elif names:
        reason, present = "event-features", f"its model reads event features: {', '.join(names)}"
        remedy = "name a recommender whose model reads none"
    elif make(model).streams:
        reason, present, remedy = "streams", "its model streams its data", "name a recommender whose model does not"
    else:
        return
    raise UserError(
        f"scores of {version.name} {version.version} cannot be features of {recommender.name}: {present}; {remedy}",
        code="training.scores-unfit",
        recommender=version.name,
        version=version.version,
        reason=reason,
    )


def _name_shop(dataset: str) -> str:
    """Return the shop of a dataset, from its address; empty if it is none."""
    parts = get_content_key(dataset).split("/") if dataset else []
    return parts[1] if len(parts) > 2 else ""
