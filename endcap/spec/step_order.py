"""In which order a pipeline's steps run: Endcap's own, and between them those that a spec puts there."""

from __future__ import annotations

from collections.abc import Iterator

from endcap.spec.pipeline import Pipeline
from endcap.steps import STEPS, get_previous_step, list_steps


def order_steps(pipeline: str, settings: Pipeline) -> list[str]:
    """Names of the steps that are switched on, each after all that it waits for."""
    steps: list[str] = []
    for step in list_steps(pipeline):
        if is_enabled(step.name, settings):
            steps.append(step.name)
        steps += _walk_custom_steps(step.name, settings)
    return steps


def is_enabled(name: str, settings: Pipeline) -> bool:
    """Whether a step is switched on."""
    return name not in settings.steps or settings.steps[name].enabled


def find_predecessor(name: str, settings: Pipeline) -> str:
    """The step that a step of one's own runs after: where that is switched off, the one before it."""
    after = settings.steps[name].after
    assert after is not None  # the spec's own check
    while not is_enabled(after, settings):
        after = get_previous_step(after) if after in STEPS else settings.steps[after].after
        assert after is not None
    return after


def list_custom_steps_after(name: str, settings: Pipeline) -> list[str]:
    """The switched-on steps of one's own that run right after a step, in the order of the spec."""
    return [
        own
        for own, step in settings.steps.items()
        if own not in STEPS and step.enabled and find_predecessor(own, settings) == name
    ]


def _walk_custom_steps(name: str, settings: Pipeline) -> Iterator[str]:
    for own in list_custom_steps_after(name, settings):
        yield own
        yield from _walk_custom_steps(own, settings)
