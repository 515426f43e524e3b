"""Import a user's own function and call it with the arguments that its parameters name."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any

from endcap.errors import UserError


def call_function(function: str, run_values: Mapping[str, Any], arguments: Mapping[str, Any]) -> Any:
    """Call a function with the values that its parameters name, and with all `arguments`.

    Parameters
    ----------
    function
        `path.of.module:name`.
    run_values
        What the run offers, by name. The function gets those that it has parameters for.
    arguments
        The spec's arguments for the function.

    Returns
    -------
    Any
        The function's result.

    Raises
    ------
    UserError
        The function cannot be imported, or has parameters that nothing fills.
    """
    callee = load_function(function)
    names = match_parameters(function, callee, run_values.keys(), arguments.keys())
    return callee(**{name: run_values[name] for name in names}, **arguments)


def load_function(function: str) -> Callable[..., Any]:
    """Import a function by `path.of.module:name`. Raises UserError if that fails."""
    module, _, name = function.partition(":")
    try:
        callee = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        raise UserError(
            f"{function}: there is no module {error.name!r}. In a cluster the image must have it "
            "(pipeline.steps.<step>.image), on a laptop the current folder or the Python environment",
            code="step.no-module",
            function=function,
            module=error.name,
        ) from error
    except AttributeError:
        raise UserError(
            f"{function}: the module {module} has no {name!r}", code="step.no-function", function=function
        ) from None
    if not callable(callee):
        raise UserError(f"{function} is not a function", code="step.no-function", function=function)
    return callee  # type: ignore[no-any-return]


def match_parameters(
    function: str, callee: Callable[..., Any], run_values: Collection[str], arguments: Collection[str]
) -> list[str]:
    """Choose the names of `run_values` that a function has parameters for.

    Parameters
    ----------
    function
        `path.of.module:name`, for messages.
    callee
        The function itself.
    run_values, arguments
        Names of what the run offers, and of the spec's arguments.

    Returns
    -------
    list of str
        In the order of `run_values`. A name that `arguments` has too is left out.

    Raises
    ------
    UserError
        Nothing fills a parameter (`step.unfilled-parameters`), or the function has no parameter of an argument's name
        (`step.unknown-arguments`).
    """
    parameters = inspect.signature(callee).parameters.values()
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    named = [
        parameter
        for parameter in parameters
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    ]
    names = {parameter.name for parameter in named}
    filled = {*run_values, *arguments}
    unfilled = sorted(
        parameter.name for parameter in named if parameter.default is parameter.empty and parameter.name not in filled
    )
    if unfilled:
        raise UserError(
            f"{function} has parameters that nothing fills: {', '.join(unfilled)}. At this point the run offers "
            f"{', '.join(run_values)}, and the spec's arguments are {', '.join(arguments) or 'none'}",
            code="step.unfilled-parameters",
            function=function,
            parameters=unfilled,
            given=[*run_values, *arguments],
        )
    surplus = sorted(set(arguments) - names)
    if surplus and not takes_all:
        raise UserError(
            f"{function} has no parameter {', '.join(surplus)}. Remove it from the spec's arguments, or add it to the "
            "function",
            code="step.unknown-arguments",
            function=function,
            arguments=surplus,
        )
    return [name for name in run_values if (takes_all or name in names) and name not in arguments]
