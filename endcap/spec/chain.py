"""In which order a pipeline's steps run: Endcap's own, and between them those that a spec puts there."""

from __future__ import annotations

from collections.abc import Iterator

from endcap.spec.kubernetes import Pipeline
from endcap.steps import STEPS, before, steps_of


def order(pipeline: str, settings: Pipeline) -> list[str]:
    """Names of the steps that are switched on, each after all that it waits for."""
    steps: list[str] = []
    for step in steps_of(pipeline):
        if enabled(step.name, settings):
            steps.append(step.name)
        steps += _below(step.name, settings)
    return steps


def enabled(name: str, settings: Pipeline) -> bool:
    """Whether a step is switched on."""
    return name not in settings.steps or settings.steps[name].enabled


def follows(name: str, settings: Pipeline) -> str:
    """The step that a step of one's own runs after: where that is switched off, the one before it."""
    after = settings.steps[name].after
    assert after is not None  # the spec's own check
    while not enabled(after, settings):
        after = before(after) if after in STEPS else settings.steps[after].after
        assert after is not None
    return after


def own_after(name: str, settings: Pipeline) -> list[str]:
    """The switched-on steps of one's own that run right after a step, in the order of the spec."""
    return [
        own
        for own, step in settings.steps.items()
        if own not in STEPS and step.enabled and follows(own, settings) == name
    ]


def _below(name: str, settings: Pipeline) -> Iterator[str]:
    for own in own_after(name, settings):
        yield own
        yield from _below(own, settings)
