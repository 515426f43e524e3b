"""Models of one's own: a class outside Endcap, named by its import path in a recommender's spec."""

from __future__ import annotations

from typing import Any

from endcap.errors import UserError
from endcap.models.base import Model
from endcap.spec.custom import find_class, own, own_class, parameters_of, path_of
from endcap.spec.model import CustomSpec, ModelSpec
from endcap.spec.preprocessing import PreprocessorSpec
from endcap.store.code import installed

NAME = "custom"


def model_class(path: str) -> type[Model]:
    """The model class of a path. Raises UserError: not there, no model, or named by another path than its own."""
    return own_class(path, Model, "model", "docs/own-model.md")  # type: ignore[type-abstract]


def make_own(spec: CustomSpec) -> Model:
    """A model of the class with these parameters. Raises UserError, SpecError."""
    found = model_class(spec.path)
    return found(parameters_of(spec.path, found, spec.parameters))


def description(model: Any) -> dict[str, Any]:
    """What a model of one's own writes into its `model.json`, for `endcap.models.files.write`.

    The model has `parameters` and `n_items`. `load` finds the class again by this.
    """
    return {
        "name": NAME,
        "class": path_of(type(model)),
        "parameters": model.parameters.model_dump(mode="json"),
        "n_items": model.n_items,
    }


def own_code(*specs: ModelSpec | PreprocessorSpec) -> list[str]:
    """The modules that hold the classes of one's own among these, for fingerprints.

    Raises UserError where one is not installed here.
    """
    steps = [spec.path for spec in specs if isinstance(spec, PreprocessorSpec)]
    models = [spec.path for spec in own(spec for spec in specs if not isinstance(spec, PreprocessorSpec))]
    return sorted({_home(path) for path in [*models, *steps]})


def _home(path: str) -> str:
    find_class(path)
    module = path.partition(":")[0]
    if installed(module) is not None:
        return module
    raise UserError(
        f"{path}: its module has no source file here, so that a change of it could not be seen",
        code="models.class-without-source",
        path=path,
    )
