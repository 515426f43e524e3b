"""Import the user's own classes that a spec names, and check their parameters.

To import a module is to run it. So Endcap imports only classes that a recommender's list `classes` names. The classes
must be installed where they are imported: a package in the registry has a class's name, not its code.
"""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from pydantic import ValidationError

from endcap.errors import NotFoundError, Problem, ProblemCode, SpecError, UserError
from endcap.spec.base import UNKNOWN, Strict, select_known
from endcap.spec.model import CustomSpec, ModelSpec
from endcap.spec.preprocessing import PreprocessorSpec
from endcap.spec.problems import Finding, list_problems, move_below, validate_document
from endcap.spec.side_features import expand_blends
from endcap.spec.yaml_tree import Key, YamlNode, format_key, parse_yaml

_Base = TypeVar("_Base")


def list_custom_models(specs: Iterable[ModelSpec]) -> list[CustomSpec]:
    """List the custom models among these models and among the members of blends."""
    models: dict[Key, ModelSpec] = {(number,): spec for number, spec in enumerate(specs)}
    return [spec for spec in expand_blends(models).values() if isinstance(spec, CustomSpec)]


def find_class(path: str) -> type:
    """Import a class.

    Parameters
    ----------
    path
        The import path, such as ``acme.markov:Markov``.

    Returns
    -------
    type
        The class.

    Raises
    ------
    NotFoundError
        Its module is not installed here.
    UserError
        The module cannot be imported, or has no such class.
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
    target = getattr(module, attribute, None)
    if not isinstance(target, type):
        classes = [key for key, value in vars(module).items() if isinstance(value, type) and value.__module__ == name]
        raise UserError(
            f"{path}: {name} has no class {attribute!r}; its classes: {', '.join(classes) or 'none'}",
            code="spec.class-unknown",
            path=path,
            found=attribute,
            allowed=classes,
        )
    return target


def get_class_path(kind: type) -> str:
    """Return the import path of a class, which specs use."""
    return f"{kind.__module__}:{kind.__qualname__}"


def load_custom_class(path: str, base: type[_Base], noun: str, guide: str) -> type[_Base]:
    """Import a class, and check that it can be used.

    Parameters
    ----------
    path
        The import path.
    base
        The base class that it must have.
    noun
        What it is in messages: a model or a preprocessor.
    guide
        The page that messages name.

    Returns
    -------
    type
        The class.

    Raises
    ------
    UserError
        The class does not exist, has another base class or abstract methods, or is defined at another path.
    """
    cls = find_class(path)
    if not issubclass(cls, base):
        base_path = f"{base.__module__.rpartition('.')[0]}.{base.__name__}"
        raise UserError(
            f"{path} is no {noun}: it must be a subclass of {base_path}, see {guide}",
            code="spec.class-of-another-kind",
            path=path,
            allowed=base_path,
        )
    if inspect.isabstract(cls):
        missing = sorted(getattr(cls, "__abstractmethods__", ()))
        raise UserError(
            f"{path} is no whole {noun}: it lacks {', '.join(missing)}, see {guide}",
            code="spec.class-incomplete",
            path=path,
            missing=missing,
        )
    if get_class_path(cls) != path:
        raise UserError(
            f"{path} is defined elsewhere: name it {get_class_path(cls)}, here and in the list `classes`",
            code="spec.class-elsewhere",
            path=path,
            defined=get_class_path(cls),
        )
    get_parameters_class(path, cls)
    return cls


def get_parameters_class(path: str, cls: type) -> type[Strict]:
    """Return the class `Parameters` of a model or preprocessor. Raises UserError if it has none."""
    parameters = getattr(cls, "Parameters", None)
    if not (isinstance(parameters, type) and issubclass(parameters, Strict)):
        raise UserError(
            f"{path} has no class Parameters of its own: give it one that is derived from endcap.spec.base.Strict, "
            "with a field a parameter (none: an empty class)",
            code="spec.class-without-parameters",
            path=path,
        )
    return parameters


def parse_parameters(path: str, cls: type, values: Mapping[str, Any]) -> Strict:
    """Validate parameters by a class's `Parameters`. Raises SpecError with a problem for each wrong key."""
    kind = get_parameters_class(path, cls)
    try:
        return kind.model_validate(dict(values))
    except ValidationError:
        document, _ = parse_yaml(json.dumps(values), origin=path)
        problems = list_problems(document or YamlNode({}, None, 0, path), kind)
        raise SpecError([replace(problem, key=f"parameters.{problem.key}") for problem in problems]) from None


def check_custom_classes(
    specs: Mapping[Key, ModelSpec | PreprocessorSpec], classes: Sequence[str], document: YamlNode
) -> tuple[list[Finding], list[str]]:
    """Check the custom models and preprocessors of a document.

    Parameters
    ----------
    specs
        The specs of models and preprocessors, by their keys.
    classes
        The recommender's list `classes`. Other classes are not imported.
    document
        The document, for the places of mistakes.

    Returns
    -------
    tuple
        The problems, and the classes that are not installed here. These are not checked: a laptop that submits a
        pipeline may lack the classes of the pipeline's image.
    """
    findings: list[Finding] = []
    absent: dict[str, None] = {}
    listed = select_known(classes).values()
    models = {key: spec for key, spec in specs.items() if not isinstance(spec, PreprocessorSpec)}
    steps = {key: spec for key, spec in specs.items() if isinstance(spec, PreprocessorSpec)}
    for key, spec in [*expand_blends(models).items(), *steps.items()]:
        if not isinstance(spec, CustomSpec | PreprocessorSpec) or spec.path is UNKNOWN or spec.path not in listed:
            continue
        under = (*key, "parameters")
        parameters = document.at(under)
        try:
            kind = get_parameters_class(spec.path, find_class(spec.path))
            if "parameters" not in document.at(key).value:
                parameters = YamlNode({}, parameters.file, parameters.line, parameters.origin)
            if spec.parameters is not UNKNOWN:
                findings += [move_below(finding, under) for finding in validate_document(parameters, kind)[1]]
        except NotFoundError:
            absent[spec.path] = None
        except UserError as error:
            at, why = (*key, "class"), str(error).removeprefix(f"{spec.path}: ")
            noun = "model" if isinstance(spec, CustomSpec) else "preprocessor"
            place, hint = document.at(at).place, f"It has none: {why}."
            code: ProblemCode = "no-model" if isinstance(spec, CustomSpec) else "no-preprocessor"
            problem = Problem(place, format_key(at), repr(spec.path), f"a {noun} class", hint, code=code)
            findings.append((at, problem))
    return findings, list(absent)
