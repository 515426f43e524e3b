"""A version's recipe: what its package's model was fitted by, so that it can be fitted again on other sessions.

A champion is fitted on all that there is, so on days that a later test asks about. What can be compared there is its
recipe: the settings that were found, fitted on what the challenger is fitted on. The train step fits it
(`endcap.training.recipes`), as an artifact of its own; evaluate finds it by the package's address.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from endcap.errors import NotFoundError, UserError
from endcap.models.custom import find_own_modules
from endcap.models.sequential_rules import PUBLISHED, SequentialRules
from endcap.registry.package import read_info, read_recommender
from endcap.spec.model import ModelSpec
from endcap.spec.settings import FitSettings
from endcap.spec.training import check_training
from endcap.steps import RECIPE
from endcap.store import Store, fingerprint, fingerprint_code, get_content_key

if TYPE_CHECKING:
    from endcap.spec.recommender import Recommender

Json = dict[str, Any]
FAULTS = "recipe-faults"
"""Documents that say why a recipe could not be fitted, by the key that it would have."""
_OWN = ("classes", "seed", "preprocessing", "exclude", "refit")
"""Settings of a fit that a recipe has of its own; the others say what is trained on, and where."""


def get_recipe_kind(name: str) -> str:
    """Return the kind under which a store keeps the fitted recipes of a recommender's champions."""
    return f"recipes/{name}"


def select_recipe_facts(trained: Mapping[str, Any]) -> Json:
    """Select what a package notes of its recipe from the facts of the trained model."""
    return {"model": trained["model"], "found": trained["found"]}


@dataclass(frozen=True)
class Recipe:
    """How to fit the model of a package on a recommender's training part.

    Attributes
    ----------
    package
        The package's address.
    settings
        The settings of the fit. The split, the prediction task and the workers are the recommender's. All else is the
        package's, with its model as a search left it.
    fit_results
        What the package's fits found out, such as the number of epochs.
    """

    package: str
    settings: FitSettings
    fit_results: Mapping[str, Any]

    @classmethod
    def of(cls, package: str, recommender: Recommender, store: Store) -> Recipe:
        """Read the recipe of a package.

        Parameters
        ----------
        package
            The package's address.
        recommender
            The recommender's spec.
        store
            The store.

        Raises
        ------
        UserError
            Neither the package nor its trained model has the recipe, or the recipe is wrong, for example because it
            names a class that is not listed.
        IntegrityError, NotFoundError
            The package cannot be read.
        """
        folder = store.fetch(package)
        own, facts = read_recommender(folder), read_recipe_facts(package, store)
        document = FitSettings.of(recommender).model_dump(mode="json", by_alias=True)
        of_own = own.model_dump(mode="json", by_alias=True)
        document |= {name: of_own[name] for name in _OWN} | {"model": facts["model"], "baselines": []}
        try:
            settings = FitSettings.model_validate(document)
        except ValidationError as error:
            raise UserError(
                f"this release cannot use the recipe of {package}: {error}; register a new version",
                code="registry.recipe-unfit",
                package=package,
                reason=str(error),
            ) from error
        # Workers share what they can share; how many they are is the step's, not the recipe's.
        if any(check_training(settings.training, settings.model)):
            settings = settings.model_copy(update={"workers": 1})
        return cls(package, settings, facts["found"])

    @property
    def model(self) -> ModelSpec:
        """The model to fit."""
        return self.settings.model

    def key(self, dataset: str) -> str:
        """Return the key of the recipe that is fitted on a dataset's training part.

        Raises UserError if a class is missing.
        """
        own = find_own_modules(self.model, *self.settings.preprocessing)
        made_of = [get_content_key(self.package), get_content_key(dataset)]
        return fingerprint(made_of, self.settings.key(), dict(self.fit_results), fingerprint_code(RECIPE, *own))


def read_recipe_facts(package: str, store: Store) -> Json:
    """Read the model's spec and the results of its fits, from the package or, for an older one, from its trained model.

    Raises
    ------
    UserError
        Neither has them.
    """
    info = read_info(store.fetch(package))
    if recipe := info.get("recipe"):
        return dict(recipe)
    trained = info.get("trained", "")
    try:
        if trained:
            recipe = select_recipe_facts(store.manifest(trained)["facts"])
            return recipe | {"model": _restore_defaults(recipe["model"])}
    except NotFoundError:
        pass
    raise UserError(
        f"{package} does not tell by which settings it was fitted, and the trained model that it was made of, "
        f"{trained or 'which it does not name'}, is not in the store; register a new version, which tells",
        code="registry.no-recipe",
        package=package,
        trained=trained,
    )


def _restore_defaults(model: Json) -> Json:
    """A model as release 0.1.0 fitted it: keys that came later have the values of what it did."""
    if members := model.get("members"):
        return model | {"members": {label: _restore_defaults(member) for label, member in members.items()}}
    return {**PUBLISHED, **model} if model["name"] == SequentialRules.name else model
