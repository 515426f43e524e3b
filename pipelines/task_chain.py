"""The tasks of a pipeline in their order: Endcap's steps, and between them the spec's own steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kfp import dsl
from kfp.dsl import PipelineTask

from endcap.spec.pipeline import Pipeline
from endcap.spec.step_order import START, is_enabled, list_custom_steps_after, order_steps
from endcap.steps import REPORT, SQL, STEPS, get_step_title, list_steps
from endcap_components import load_component
from endcap_pipelines.custom import USER_INPUTS, container_task, function_task, sql_task
from endcap_pipelines.kubernetes import configure, step_settings


class TaskChain:
    """Makes the tasks of one pipeline, one after the other.

    Parameters
    ----------
    pipeline
        Its name.
    settings
        The spec's `pipeline`.
    image
        The image of every step that names no other.
    here
        Build for this machine: images, secrets and resources mean nothing, a failed step is not tried again, and
        containers are left out.
    arguments
        The pipeline's own arguments by name. Steps get theirs from these.
    """

    def __init__(
        self, pipeline: str, settings: Pipeline, image: Any, *, here: bool, arguments: Mapping[str, Any]
    ) -> None:
        """image: of every step that names none. arguments: the pipeline's own, by name, out of which steps are given
        what they take."""
        self._pipeline = pipeline
        self._steps = order_steps(pipeline, settings)
        self._settings = settings
        self._image = image
        self._here = here
        self._values = dict(arguments)
        self._user_inputs = {key: arguments[key] for key in USER_INPUTS if key in arguments}
        self._tables: dict[str, Any] = {}
        self._predecessors: list[PipelineTask] = []

    def reported(self) -> dsl.ExitHandler:
        """The context of all steps: the report runs after them, however they end."""
        run = dsl.PIPELINE_JOB_ID_PLACEHOLDER
        of = {name: self._values[name] for name in REPORT.takes if name in self._values}
        task = load_component(REPORT.name)(
            store=self._values["store"], steps=self._steps, pipeline=self._pipeline, run=run, **of
        )
        return dsl.ExitHandler(self._finish(task, REPORT.name), name="steps")

    def add(self, name: str) -> PipelineTask | None:
        """Add one of Endcap's steps after the one before it, then the user's steps that follow it.

        The user's steps that run before all others come before the pipeline's first step. Returns None if the spec
        switches the step off.
        """
        if name == list_steps(self._pipeline)[0].name:
            self._add_user_steps(START, [])
        if not is_enabled(name, self._settings):
            return None
        step = STEPS[name]
        arguments = {key: self._values[key] for key in ("store", *step.takes)} | self._describe_run(name)
        if step.tables:
            arguments["tables"] = dict(self._tables)
        task = self._finish(load_component(name)(**arguments), name).after(*self._predecessors)
        self._predecessors = []
        if step.makes:
            self._values[step.makes] = self._user_inputs[step.makes] = task.outputs[step.output]
        self._add_user_steps(name, [task])
        return task

    def _add_user_steps(self, name: str, before: list[PipelineTask]) -> None:
        for own in list_custom_steps_after(name, self._settings):
            step = step_settings(own, self._settings)
            if step.sql is not None:
                values = {**self._values, **self._user_inputs}
                task = sql_task(own, step, values, self._tables, self._describe_run(own))
                self._tables[own] = task.outputs[SQL.output]
            elif step.function is not None:
                values = {**self._user_inputs, "tables": dict(self._tables)}
                task = function_task(own, step, values, self._describe_run(own))
            elif self._here:
                self._add_user_steps(own, before)
                continue
            else:
                task = container_task(own, step, self._user_inputs)
            task = self._finish(task, own).after(*before)
            self._predecessors.append(task)
            self._add_user_steps(own, [task])

    def _describe_run(self, name: str) -> dict[str, Any]:
        """What KFP knows of the run; on this machine the runner's folder says it."""
        if self._here:
            return {}
        return {
            "run": dsl.PIPELINE_JOB_ID_PLACEHOLDER,
            "created": dsl.PIPELINE_JOB_CREATE_TIME_UTC_PLACEHOLDER,
            "image": self._image_of(name),
        }

    def _image_of(self, name: str) -> Any:
        return step_settings(name, self._settings).image or self._image

    def _finish(self, task: PipelineTask, name: str) -> PipelineTask:
        # KFP's own cache is off: outputs are reused by content, see `endcap.store`.
        task.set_display_name(get_step_title(name)).set_caching_options(False)
        if self._here:
            return task
        settings = step_settings(name, self._settings)
        if name == REPORT.name:  # it waits for no GPU, and speaks when the run's deadline has passed
            settings = settings.model_copy(update={"gpu": None})
            pipeline = self._settings.model_copy(update={"deadline": None})
            return configure(task.set_container_image(self._image_of(name)), settings, pipeline)
        return configure(task.set_container_image(self._image_of(name)), settings, self._settings, name)
