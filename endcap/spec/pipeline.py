"""How the pipelines and their steps run on Kubeflow Pipelines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from endcap.spec.base import (
    UNKNOWN,
    Allowed,
    Duration,
    Mistake,
    Name,
    Strict,
    check,
    collect_mistakes,
    prefix_keys,
    select_known,
)
from endcap.spec.pod import Pod, Quantity
from endcap.steps import REPORT, STEPS

FunctionPath = Annotated[
    str,
    Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$"),
    Allowed("an import path and a function's name, such as my_shop.checks:prices"),
]


class StepRetries(Strict):
    """A failed pod is tried again, after a wait that grows."""

    count: Annotated[int, Field(ge=0, le=20)] = 2
    backoff: Duration = Field(default="30s", validate_default=True)
    """Before the first retry."""
    factor: Annotated[float, Field(ge=1.0)] = 2.0
    max_backoff: Duration = Field(default="10m", validate_default=True)
    """Longest wait."""


class SecretKey(Strict):
    """A key of a Secret as an environment variable."""

    secret: Name
    key: str
    env: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


class StepSpec(Pod):
    """How a step runs in a cluster; with `after`, a step of your own."""

    enabled: bool = True
    """False switches it off: `register` or `deploy` (and with `register` also `deploy`), or a step of your own."""
    sharedMemory: Quantity | None = None
    """Size of /dev/shm, which data loaders and collectives need."""
    secrets: list[SecretKey] = []
    retries: StepRetries = StepRetries()
    """Left out: as these defaults say, and none for `deploy`, which waits and asks again itself."""
    deadline: Duration | None = None
    """The step is ended when it has run so long."""
    after: str | None = None
    """A step of your own runs after this one, and before those that follow it."""
    function: FunctionPath | None = None
    """What it runs: a function that the image can import, called with the run's addresses by name."""
    image: str | None = None
    """What it runs: a container, given the run's addresses as environment variables. With `function`: the image that
    has it. For a built-in step: another image than the run's."""
    command: list[str] = []
    """Of a container: KFP does not start the image's own. The image needs the program `env`."""
    arguments: dict[str, str | int | float | bool] = {}
    """Given to a function by name, to a container as `--name=value`."""


class Pipeline(Strict):
    """How the pipelines run on Kubeflow Pipelines."""

    image: str | None = None
    """Of every step; left out: the image of this release of Endcap."""
    deadline: Duration | None = None
    """Of a whole run: no step starts later, and each is ended then."""
    secret: Name = "endcap-store"  # noqa: S105 - a Secret's name
    """The Secret with the store's keys, given to every step as environment variables; absent on KFP: none is set."""
    defaults: Pod = Pod()
    """Of every step that does not say otherwise."""
    steps: dict[Name, StepSpec] = {}

    @check
    def _steps_can_be_chained(self) -> Iterator[Mistake]:
        built_in, own = (_check_built_in, _check_switch), (_check_place, _check_work)
        parts = (
            part(name, step, self.steps)
            for name, step in select_known(self.steps).items()
            for part in (built_in if name in STEPS else own)
        )
        return prefix_keys(("steps",), collect_mistakes(parts))

    @check
    def _pods_have_the_default_runtime(self) -> Iterator[Mistake]:
        pods: dict[tuple[str, ...], Pod] = {("defaults",): self.defaults}
        pods |= {("steps", name): step for name, step in select_known(self.steps).items()}
        for key, pod in pods.items():
            if pod.runtimeClassName is not None and pod.runtimeClassName is not UNKNOWN:
                hint = "KFP's packages have no place for a RuntimeClass."
                allowed = "nothing here: make the runtime the default of the nodes' container engine"
                at = (*key, "runtimeClassName")
                yield Mistake(at, repr(pod.runtimeClassName), allowed, hint, code="not-allowed")


def _check_place(name: str, step: StepSpec, steps: dict[str, StepSpec]) -> Iterator[Mistake]:
    if name == REPORT.name:
        allowed = "another name: the run's report has this one"
        yield Mistake((name,), "a step of this name", allowed, code="duplicate")
    names = [*STEPS, *(other for other in steps if other not in STEPS and other != name)]
    if step.after is None:
        hint = f"A step of your own says which step it runs after. Endcap's own are {', '.join(STEPS)}."
        yield Mistake((name, "after"), "nothing", ", ".join(names), hint, code="missing")
    elif step.after not in names:
        yield Mistake((name, "after"), repr(step.after), ", ".join(names), code="unknown-name")
    elif _is_in_circle(name, steps):
        allowed = "a step that does not come after this one"
        yield Mistake((name, "after"), f"{step.after!r}, a circle", allowed, code="circle")


def _check_work(name: str, step: StepSpec, steps: dict[str, StepSpec]) -> Iterator[Mistake]:
    if step.function is None and step.image is None:
        allowed = "at least one of image and function"
        yield Mistake((name,), "neither image nor function", allowed, code="missing")
    if step.function is None and step.image is not None and not step.command:
        hint = "KFP starts what the spec names, not the image's own entry point."
        allowed = "the command that it runs, as a list"
        yield Mistake((name, "command"), "none for a container", allowed, hint, code="missing")
    if step.function is not None and step.command:
        yield Mistake((name, "command"), "a command beside a function", "one of the two", code="conflict")


def _check_built_in(name: str, step: StepSpec, steps: dict[str, StepSpec]) -> Iterator[Mistake]:
    for key in ("after", "function", "command", "arguments"):
        value = getattr(step, key)
        if value is UNKNOWN or value:
            yield Mistake((name, key), "a value", f"none: {name} is a step of Endcap's own", code="not-allowed")


def _check_switch(name: str, step: StepSpec, steps: dict[str, StepSpec]) -> Iterator[Mistake]:
    if step.enabled:
        return
    if not STEPS[name].optional:
        allowed = f"true: the pipeline {', '.join(STEPS[name].pipelines)} needs what {name} makes"
        yield Mistake((name, "enabled"), "false", allowed, code="not-allowed")
    for other in STEPS.values():
        if other.needs == name and steps.get(other.name, StepSpec()).enabled:
            hint = f"Switch {other.name} off as well."
            allowed = f"true, while {other.name} is switched on"
            yield Mistake((name, "enabled"), "false", allowed, hint, code="conflict")


def _is_in_circle(name: str, steps: dict[str, StepSpec]) -> bool:
    visited, at = {name}, steps[name].after
    while at is not None and at in steps and at not in STEPS:
        if at in visited:
            return True
        visited.add(at)
        at = steps[at].after
    return False
