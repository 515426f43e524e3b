"""Side information: the event features and item attributes that models of a spec name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from endcap.spec.base import select_known
from endcap.spec.model import BlendSpec, CustomSpec, ModelSpec, ScoreRecipe, ScoreSource, StackedSpec
from endcap.spec.yaml_tree import Key


def expand_blends(models: Mapping[Key, ModelSpec]) -> dict[Key, ModelSpec]:
    """Return the models by their keys, and after each the models in it: members of a blend, recipes whose scores it
    takes."""
    single = dict(models)
    for key, model in models.items():
        if isinstance(model, BlendSpec):
            single |= {(*key, "members", label): member for label, member in select_known(model.members).items()}
        elif isinstance(model, StackedSpec):
            single |= expand_blends(
                {
                    (*key, "scores", label, "recipe", "model"): source.recipe.model
                    for label, source in select_known(model.scores).items()
                    if isinstance(source, ScoreSource) and isinstance(source.recipe, ScoreRecipe)
                }
            )
    return single


def list_feature_names(models: Mapping[Key, ModelSpec], field: Literal["features", "item_features"]) -> dict[Key, str]:
    """List the names in the lists `features` or `item_features` of models and members of blends, by their keys.

    A custom model's parameter with this name counts too.
    """
    names_by_key: dict[Key, str] = {}
    for key, spec in expand_blends(models).items():
        if isinstance(spec, CustomSpec):
            under, names = (*key, "parameters", field), spec.parameters.get(field)
        else:
            under, names = (*key, field), getattr(spec, field, None)
        if isinstance(names, list):
            names_by_key |= {(*under, number): str(name) for number, name in select_known(names).items()}
    return names_by_key
