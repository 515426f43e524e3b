"""Classes of one's own that a spec names by their import path: found, and their parameters checked.

Importing a module runs it. So only what a recommender's list `classes` names comes here, and what is imported is what
is installed where this runs: a package of the registry names a class, it does not carry it.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from endcap.errors import NotFoundError, Problem, SpecError, UserError
from endcap.spec.base import Strict
from endcap.spec.model import BlendSpec, CustomSpec, ModelSpec
from endcap.spec.nodes import Node, parse
from endcap.spec.words import problems_of


def own(specs: Iterable[ModelSpec]) -> Iterator[CustomSpec]:
    """The custom models among these and among the members of their blends."""
    for spec in specs:
        if isinstance(spec, BlendSpec):
            yield from own(spec.members.values())
        elif isinstance(spec, CustomSpec):
            yield spec


def find_class(path: str) -> type:
    """The class of a path such as ``acme.markov:Markov``.

    Raises NotFoundError where its module is not installed here, UserError where that cannot be imported or has no such
    class.
    """
    name, _, attribute = path.partition(":")
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise UserError(
                f"{path}: {name} imports {error.name!r}, which is not installed here; install it"
            ) from error
        raise NotFoundError(
            f"{path}: there is no module {error.name!r} here. Install the package that has it into this environment "
            "(pip install FOLDER), or put its folder on PYTHONPATH; for the pods of a cluster make an image that has "
            "it: endcap image --code FOLDER"
        ) from None
    except Exception as error:  # the module's own code may raise anything
        raise UserError(f"{path}: importing {name} failed: {type(error).__name__}: {error}; correct it") from error
    found = getattr(module, attribute, None)
    if not isinstance(found, type):
        classes = [key for key, value in vars(module).items() if isinstance(value, type) and value.__module__ == name]
        raise UserError(f"{path}: {name} has no class {attribute!r}; its classes: {', '.join(classes) or 'none'}")
    return found


def parameters_class(path: str, found: type) -> type[Strict]:
    """A model class's `Parameters`. Raises UserError where it has none."""
    parameters = getattr(found, "Parameters", None)
    if not (isinstance(parameters, type) and issubclass(parameters, Strict)):
        raise UserError(
            f"{path} has no class Parameters of its own: give it one that is derived from endcap.spec.base.Strict, "
            "with a field a parameter (none: an empty class)"
        )
    return parameters


def parameters_of(path: str, found: type, given: Mapping[str, Any]) -> Strict:
    """The parameters as the class wants them. Raises SpecError with a problem a wrong key."""
    kind = parameters_class(path, found)
    try:
        return kind.model_validate(dict(given))
    except ValidationError as error:
        document, _ = parse(json.dumps(given), origin=path)
        raise SpecError(parameter_problems(error, document or Node({}, None, 0, path), kind, "parameters")) from None


def parameter_problems(error: ValidationError, document: Node, kind: type[Strict], under: str) -> list[Problem]:
    """What is wrong with parameters, at their keys below `under`."""
    return [replace(one, key=f"{under}.{one.key}") for one in problems_of(error, document, kind)]
