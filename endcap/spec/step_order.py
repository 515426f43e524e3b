"""The order of a pipeline's steps: Endcap's own, and between them the custom steps of a spec."""

from __future__ import annotations

from collections.abc import Iterator

from endcap.spec.pipeline import Pipeline
from endcap.steps import STEPS, get_previous_step, list_steps

START = ""
"""Stands for the beginning of a pipeline, after which the steps run that a spec puts before ingest."""


def order_steps(pipeline: str, settings: Pipeline) -> list[str]:
    """Return the names of the enabled steps. Each step comes after all steps that it waits for."""
    steps = list(_walk_custom_steps(START, settings))
    for step in list_steps(pipeline):
        if is_enabled(step.name, settings):
            steps.append(step.name)
        steps += _walk_custom_steps(step.name, settings)
    return steps


def is_enabled(name: str, settings: Pipeline) -> bool:
    """Return whether a step is enabled."""
    return name not in settings.steps or settings.steps[name].enabled


def find_predecessor(name: str, settings: Pipeline) -> str:
    """Return the step after which a custom step runs, or START. If that step is disabled, it is the one before it."""
    step = settings.steps[name]
    while step.before is None:
        after = step.after
        assert after is not None  # the spec's own check
        while after in STEPS and not is_enabled(after, settings):
            after = get_previous_step(after)
        if is_enabled(after, settings):
            return after
        step = settings.steps[after]
    return START


def list_custom_steps_after(name: str, settings: Pipeline) -> list[str]:
    """List the enabled custom steps that run right after a step, or START, in the order of the spec."""
    return [
        own
        for own, step in settings.steps.items()
        if own not in STEPS and step.enabled and find_predecessor(own, settings) == name
    ]


def _walk_custom_steps(name: str, settings: Pipeline) -> Iterator[str]:
    for own in list_custom_steps_after(name, settings):
        yield own
        yield from _walk_custom_steps(own, settings)
