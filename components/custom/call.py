"""How a function of the user's is found and called: with what it asks for by name, and nothing else."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any

from endcap.errors import UserError


def call(function: str, given: Mapping[str, Any], arguments: Mapping[str, Any]) -> Any:
    """Call `path.of.module:name` with those of `given` that it has parameters for, and with all `arguments`.

    Raises UserError where it cannot be imported, or wants what is not there.
    """
    found = load(function)
    wanted = parameters(function, found, given.keys(), arguments.keys())
    return found(**{name: given[name] for name in wanted}, **arguments)


def load(function: str) -> Callable[..., Any]:
    """The function of an import path. Raises UserError."""
    module, _, name = function.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        raise UserError(
            f"{function}: no module {error.name!r} here; the image must have it (pipeline.steps.<step>.image), and on "
            "a laptop the current folder or the environment",
            code="step.no-module",
            function=function,
            module=error.name,
        ) from error
    except AttributeError:
        raise UserError(
            f"{function}: the module {module} has no {name!r}", code="step.no-function", function=function
        ) from None
    if not callable(found):
        raise UserError(f"{function} is not a function", code="step.no-function", function=function)
    return found  # type: ignore[no-any-return]


def parameters(
    function: str, found: Callable[..., Any], given: Collection[str], arguments: Collection[str]
) -> list[str]:
    """Which of what is `given` the function asks for. Raises UserError naming each parameter that nothing fills."""
    known = inspect.signature(found).parameters.values()
    takes_all = any(one.kind is one.VAR_KEYWORD for one in known)
    named = [one for one in known if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)]
    names = {one.name for one in named}
    unknown = sorted(one.name for one in named if one.default is one.empty and one.name not in {*given, *arguments})
    if unknown:
        raise UserError(
            f"{function} asks for {', '.join(unknown)}; at this point of the run there are {', '.join(given)}, "
            f"and of its own arguments {', '.join(arguments) or 'none'}",
            code="step.unfilled-parameters",
            function=function,
            parameters=unknown,
            given=[*given, *arguments],
        )
    surplus = sorted(set(arguments) - names)
    if surplus and not takes_all:
        raise UserError(
            f"{function} has no parameter {', '.join(surplus)}, which the spec's arguments name",
            code="step.unknown-arguments",
            function=function,
            arguments=surplus,
        )
    return [name for name in given if (takes_all or name in names) and name not in arguments]
