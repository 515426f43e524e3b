"""A user's own steps as KFP tasks: a function that an image has, a container, or a statement of SQL."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from kfp import dsl
from kfp.dsl import PipelineTask
from kfp.dsl.python_component import PythonComponent

from endcap.errors import UserError
from endcap.spec.pipeline import StepSpec
from endcap.sql import check_sql
from endcap.steps import SQL
from endcap_components.custom import custom
from endcap_components.sql import sql
from endcap_components.user_function import load_function, match_parameters

USER_INPUTS = ("store", "registry", "recommender", "shop")
"""Parameters of the run that a user's step receives, besides the results of earlier steps by their names."""


def function_task(name: str, step: StepSpec, run_values: Mapping[str, Any], about: Mapping[str, Any]) -> PipelineTask:
    """Make a task that calls the step's function with the run's values so far."""
    assert step.function is not None
    _check(step.function, run_values, step.arguments)
    # The component has the step's name, because KFP names the task after it.
    component = PythonComponent(
        component_spec=replace(custom.component_spec, name=name), python_func=custom.python_func
    )
    recommender = {} if "recommender" in run_values else {"recommender": {}}
    return component(
        name=name, function=step.function, arguments=dict(step.arguments), **recommender, **run_values, **about
    )


def sql_task(
    name: str, step: StepSpec, run_values: Mapping[str, Any], tables: Mapping[str, Any], about: Mapping[str, Any]
) -> PipelineTask:
    """Make a task that runs the step's statement.

    Parameters
    ----------
    name, step
        The step.
    run_values
        The run's values so far: documents, parameters and results, of which the step gets its own.
    tables
        Outputs of the steps of SQL before, by the steps' names.
    about
        What KFP knows of the run.

    Raises
    ------
    UserError
        The statement has a mistake, or reads a table that there is not at this point of the run.
    """
    assert step.sql is not None
    taken = {key: run_values[key] for key in ("store", *SQL.takes) if key in run_values}
    check_sql(name, step.sql, [key for key in SQL.inputs if key in taken])
    read = {source.step for source in step.sql.inputs.values()}
    component = PythonComponent(component_spec=replace(sql.component_spec, name=name), python_func=sql.python_func)
    settings = step.sql.model_dump(mode="json", exclude_none=True)
    outputs = {key: output for key, output in tables.items() if key in read}
    return component(name=name, settings=settings, tables=outputs, **taken, **about)


def container_task(name: str, step: StepSpec, run_values: Mapping[str, Any]) -> PipelineTask:
    """Make a task that runs the step's container. The run's values so far are its variables ENDCAP_<NAME>."""
    return _container(name, step, {key: dict if key in ("shop", "recommender") else str for key in run_values})(
        **run_values
    )


def _container(name: str, step: StepSpec, inputs: Mapping[str, type]) -> Any:
    # KFP cannot set an environment variable from a parameter, so `env` sets it when the container starts.
    variables = [f"ENDCAP_{key.upper()}={{{{$.inputs.parameters['{key}']}}}}" for key in inputs]
    arguments = [
        f"--{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in step.arguments.items()
    ]

    def container(*_: Any) -> Any:
        return dsl.ContainerSpec(image=step.image, command=["env", *variables, *step.command], args=arguments)

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [inspect.Parameter(key, kind, annotation=annotation) for key, annotation in inputs.items()]
    container.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    container.__name__ = name.replace("-", "_")
    return dsl.container_component(container)


def _check(function: str, run_values: Mapping[str, Any], arguments: Mapping[str, Any]) -> None:
    """Raise UserError if nothing fills a parameter. A function that only the image has is checked there."""
    before = list(sys.path)
    sys.path.insert(0, str(Path.cwd()))
    try:
        callee = load_function(function)
    except UserError as error:
        if isinstance(error.__cause__, ModuleNotFoundError):
            return
        raise
    finally:
        sys.path[:] = before
    match_parameters(function, callee, run_values.keys(), arguments.keys())
