"""Classes of one's own that a spec names by their import path: found, and their parameters checked.

Importing a module runs it. So only what a recommender's list `classes` names comes here, and what is imported is what
is installed where this runs: a package of the registry names a class, it does not carry it.
"""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from pydantic import ValidationError

from endcap.errors import NotFoundError, Problem, ProblemCode, SpecError, UserError
from endcap.spec.base import Strict
from endcap.spec.model import CustomSpec, ModelSpec
from endcap.spec.nodes import Key, Node, parse, spelled
from endcap.spec.preprocessing import PreprocessorSpec
from endcap.spec.side import singled
from endcap.spec.words import problems_of

_Base = TypeVar("_Base")


def own(specs: Iterable[ModelSpec]) -> list[CustomSpec]:
    """The custom models among these and among the members of their blends."""
    models: dict[Key, ModelSpec] = {(number,): spec for number, spec in enumerate(specs)}
    return [spec for spec in singled(models).values() if isinstance(spec, CustomSpec)]


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
                f"{path}: {name} imports {error.name!r}, which is not installed here; install it",
                code="spec.class-not-importable",
                path=path,
                cause="ModuleNotFoundError",
                module=error.name,
            ) from error
        raise NotFoundError(
            f"{path}: there is no module {error.name!r} here. Install the package that has it into this environment "
            "(pip install FOLDER), or put its folder on PYTHONPATH; for the pods of a cluster make an image that has "
            "it: endcap image --code FOLDER",
            code="spec.class-not-installed",
            path=path,
            module=error.name,
        ) from None
    except Exception as error:  # the module's own code may raise anything
        raise UserError(
            f"{path}: importing {name} failed: {type(error).__name__}: {error}; correct it",
            code="spec.class-not-importable",
            path=path,
            cause=type(error).__name__,
            module=name,
        ) from error
    found = getattr(module, attribute, None)
    if not isinstance(found, type):
        classes = [key for key, value in vars(module).items() if isinstance(value, type) and value.__module__ == name]
        raise UserError(
            f"{path}: {name} has no class {attribute!r}; its classes: {', '.join(classes) or 'none'}",
            code="spec.class-unknown",
            path=path,
            found=attribute,
            allowed=classes,
        )
    return found


def path_of(kind: type) -> str:
    """The path by which a spec names a class: where it is defined."""
    return f"{kind.__module__}:{kind.__qualname__}"


def own_class(path: str, base: type[_Base], noun: str, guide: str) -> type[_Base]:
    """The class of a path, which must be a whole subclass of `base` (a model, a preprocessor: the `noun` of messages).

    Raises UserError: not there, no such subclass, or named by another path than its own.
    """
    found = find_class(path)
    if not issubclass(found, base):
        wanted = f"{base.__module__.rpartition('.')[0]}.{base.__name__}"
        raise UserError(
            f"{path} is no {noun}: it must be a subclass of {wanted}, see {guide}",
            code="spec.class-of-another-kind",
            path=path,
            allowed=wanted,
        )
    if inspect.isabstract(found):
        missing = sorted(getattr(found, "__abstractmethods__", ()))
        raise UserError(
            f"{path} is no whole {noun}: it lacks {', '.join(missing)}, see {guide}",
            code="spec.class-incomplete",
            path=path,
            missing=missing,
        )
    if path_of(found) != path:
        raise UserError(
            f"{path} is defined elsewhere: name it {path_of(found)}, here and in the list `classes`",
            code="spec.class-elsewhere",
            path=path,
            defined=path_of(found),
        )
    parameters_class(path, found)
    return found


def parameters_class(path: str, found: type) -> type[Strict]:
    """A model class's `Parameters`. Raises UserError where it has none."""
    parameters = getattr(found, "Parameters", None)
    if not (isinstance(parameters, type) and issubclass(parameters, Strict)):
        raise UserError(
            f"{path} has no class Parameters of its own: give it one that is derived from endcap.spec.base.Strict, "
            "with a field a parameter (none: an empty class)",
            code="spec.class-without-parameters",
            path=path,
        )
    return parameters


def parameters_of(path: str, found: type, given: Mapping[str, Any]) -> Strict:
    """The parameters as the class wants them. Raises SpecError with a problem a wrong key."""
    kind = parameters_class(path, found)
    try:
        return kind.model_validate(dict(given))
    except ValidationError as error:
        document, _ = parse(json.dumps(given), origin=path)
        raise SpecError(_problems(error, document or Node({}, None, 0, path), kind, "parameters")) from None


def check_own(specs: Mapping[Key, ModelSpec | PreprocessorSpec], document: Node) -> tuple[list[Problem], list[str]]:
    """What is wrong with the custom models and the preprocessors of a document, and the classes that are not installed
    here, unchecked.

    A laptop that submits a pipeline need not have what the pipeline's image has.
    """
    problems: list[Problem] = []
    absent: dict[str, None] = {}
    models = {key: spec for key, spec in specs.items() if not isinstance(spec, PreprocessorSpec)}
    steps = {key: spec for key, spec in specs.items() if isinstance(spec, PreprocessorSpec)}
    for key, spec in [*singled(models).items(), *steps.items()]:
        if not isinstance(spec, CustomSpec | PreprocessorSpec):
            continue
        given = document.at((*key, "parameters"))
        try:
            kind = parameters_class(spec.path, find_class(spec.path))
            kind.model_validate(spec.parameters)
        except NotFoundError:
            absent[spec.path] = None
        except ValidationError as error:
            under = given if "parameters" in document.at(key).value else Node({}, given.file, given.line, given.origin)
            problems += _problems(error, under, kind, f"{spelled(key)}.parameters")
        except UserError as error:
            at, why = (*key, "class"), str(error).removeprefix(f"{spec.path}: ")
            noun = "model" if isinstance(spec, CustomSpec) else "preprocessor"
            place, hint = document.at(at).place, f"It has none: {why}."
            code: ProblemCode = "no-model" if isinstance(spec, CustomSpec) else "no-preprocessor"
            problems.append(Problem(place, spelled(at), repr(spec.path), f"a {noun} class", hint, code=code))
    return problems, list(absent)


def _problems(error: ValidationError, document: Node, kind: type[Strict], under: str) -> list[Problem]:
    return [replace(one, key=f"{under}.{one.key}") for one in problems_of(error, document, kind)]
