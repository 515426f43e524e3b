"""Tasks of a pipeline in their order: Endcap's own steps, and between them those that the spec puts there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kfp import dsl
from kfp.dsl import PipelineTask

from endcap.spec.chain import enabled, order, own_after
from endcap.spec.kubernetes import Pipeline
from endcap_components.report.component import report

from .kubernetes import configure, step_settings
from .own import container_task, function_task

DISPLAY_NAMES = {
    "ingest": "Ingest",
    "features": "Features",
    "train": "Train",
    "evaluate": "Evaluate and gate",
    "refit": "Refit on all data",
    "register": "Register",
    "deploy": "Deploy",
    "recommend": "Recommend",
    "report": "Report",
}
"""As KFP's pages show them; a step of one's own is shown by its name."""


class Chain:
    """Makes the tasks of one pipeline, one after the other.

    here: for this machine, where images, secrets and resources mean nothing, a failed step is not tried again, and
    containers are left out.
    """

    def __init__(self, pipeline: str, settings: Pipeline, image: Any, *, here: bool, given: dict[str, Any]) -> None:
        """image: of every step that names none. given: what own steps get at any point, by name."""
        self._steps = order(pipeline, settings)
        self._settings = settings
        self._image = image
        self._here = here
        self._given = given
        self._waits_for: list[PipelineTask] = []

    def reported(self) -> dsl.ExitHandler:
        """The context of all steps: however they end, the report is made after them."""
        task = report(store=self._given["store"], steps=self._steps, run=dsl.PIPELINE_JOB_ID_PLACEHOLDER)
        return dsl.ExitHandler(self._settled(task, "report"), name="steps")

    def has(self, name: str) -> bool:
        return enabled(name, self._settings)

    def step(self, name: str, component: Callable[..., PipelineTask], **arguments: Any) -> PipelineTask:
        """A step of Endcap's own, after the one before it and all that were put between."""
        task = self._settled(component(**arguments, **self._about(name)), name).after(*self._waits_for)
        self._waits_for = []
        return task

    def made(self, name: str, task: PipelineTask, **addresses: Any) -> None:
        """Say what a step made, by the names that own steps know it by; those that follow the step are put here.

        To be called also for a step that is switched off, without a task.
        """
        self._given |= addresses
        self._own_after(name, [] if task is None else [task])

    def _own_after(self, name: str, before: list[PipelineTask]) -> None:
        for own in own_after(name, self._settings):
            step = step_settings(own, self._settings)
            if step.function is not None:
                task = function_task(own, step, self._given, self._about(own))
            elif self._here:
                self._own_after(own, before)
                continue
            else:
                task = container_task(own, step, self._given)
            task = self._settled(task, own).after(*before)
            self._waits_for.append(task)
            self._own_after(own, [task])

    def _about(self, name: str) -> dict[str, Any]:
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

    def _settled(self, task: PipelineTask, name: str) -> PipelineTask:
        # KFP's own cache is off: outputs are reused by content, see `endcap.store`.
        task.set_display_name(DISPLAY_NAMES.get(name, name)).set_caching_options(False)
        if self._here:
            return task
        settings = step_settings(name, self._settings)
        if name == "report":  # it waits for no GPU, and speaks when the run's deadline has passed
            settings = settings.model_copy(update={"gpu": None})
            pipeline = self._settings.model_copy(update={"deadline": None})
            return configure(task.set_container_image(self._image_of(name)), settings, pipeline)
        return configure(task.set_container_image(self._image_of(name)), settings, self._settings)
