"""Models of one's own: a class outside Endcap, named by its import path in a recommender's spec."""

from __future__ import annotations

import inspect
from typing import Any

from endcap.errors import UserError
from endcap.models.base import Model
from endcap.spec.custom import find_class, own, parameters_class, parameters_of
from endcap.spec.model import CustomSpec, ModelSpec
from endcap.store.code import installed

NAME = "custom"


def path_of(kind: type) -> str:
    """The path by which a spec names a class: where it is defined."""
    return f"{kind.__module__}:{kind.__qualname__}"


def model_class(path: str) -> type[Model]:
    """The model class of a path. Raises UserError: not there, no model, or named by another path than its own."""
    found = find_class(path)
    if not issubclass(found, Model):
        raise UserError(
            f"{path} is no model: it must be a subclass of endcap.models.Model, see docs/own-model.md",
            code="models.class-not-a-model",
            path=path,
        )
    if inspect.isabstract(found):
        missing = sorted(found.__abstractmethods__)
        raise UserError(
            f"{path} is no whole model: it lacks {', '.join(missing)}, see docs/own-model.md",
            code="models.class-incomplete",
            path=path,
            missing=missing,
        )
    if path_of(found) != path:
        raise UserError(
            f"{path} is defined elsewhere: name it {path_of(found)}, here and in the list `classes`",
            code="models.class-elsewhere",
            path=path,
            defined=path_of(found),
        )
    parameters_class(path, found)
    return found


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


def own_code(*specs: ModelSpec) -> list[str]:
    """The modules that hold the model classes of one's own among these, for fingerprints.

    Raises UserError where one is not installed here.
    """
    return sorted({_home(spec.path) for spec in own(specs)})


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
