"""How the pipelines and their steps run on Kubeflow Pipelines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

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
from endcap.spec.sql_step import SqlSpec
from endcap.steps import REPORT, STEPS

FunctionPath = Annotated[
    str,
    Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$"),
    Allowed("an import path and a function's name, such as my_shop.checks:prices"),
]


class StepRetries(Strict):
    """How a failed pod is started again. Each wait is longer than the one before."""

    count: Annotated[int, Field(ge=0, le=20)] = 2
    """How many times the pod is started again."""
    backoff: Duration = Field(default="30s", validate_default=True)
    """The wait before the first retry."""
    factor: Annotated[float, Field(ge=1.0)] = 2.0
    """How many times longer each wait is than the one before."""
    max_backoff: Duration = Field(default="10m", validate_default=True)
    """The longest wait."""


class SecretKey(Strict):
    """A key of a Secret that a step gets as an environment variable."""

    secret: Name
    """The Secret's name."""
    key: str
    """The key in the Secret."""
    env: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
    """The environment variable's name."""


class StepSpec(Pod):
    """How a step runs in a cluster. A step of your own also has its place (`after` or `before`), and what it runs
    (`function`, `image` or `sql`)."""

    enabled: bool = True
    """Whether the step runs. `register`, `deploy` and your own steps can be switched off. Without `register`, `deploy`
    must be off too."""
    sharedMemory: Quantity | None = None
    """The size of /dev/shm, which PyTorch needs to move data between processes, such as 2Gi. Left out: the container
    engine's default."""
    secrets: list[SecretKey] = []
    """Keys of Secrets that the step gets as environment variables."""
    retries: StepRetries = StepRetries()
    """How a failed pod is started again. Left out: `deploy` is not started again, because it repeats requests itself;
    the others have the defaults."""
    deadline: Duration | None = None
    """The longest time that the step may run. Then it is ended. Left out: no limit."""
    after: str | None = None
    """The step after which your own step runs. It runs before the steps that follow that one."""
    before: Literal["ingest"] | None = None
    """In place of `after`: `ingest`, if your own step runs before all others."""
    function: FunctionPath | None = None
    """What your own step runs: a function that the image can import, such as my_shop.checks:prices. Its arguments are
    the run's addresses, by name."""
    image: str | None = None
    """What your own step runs: a container, which gets the run's addresses as environment variables. With `function`:
    the image that has the function. For a built-in step: an image in place of the run's."""
    sql: SqlSpec | None = None
    """What your own step runs: a SELECT, whose rows become a table of the store. A source of the shop reads the table
    by the step's name."""
    command: list[str] = []
    """The command of your own container, because KFP does not start the image's own. The image needs the program
    `env`."""
    arguments: dict[str, str | int | float | bool] = {}
    """Arguments of your own step: a function gets them by name, a container as `--name=value`."""


class Pipeline(Strict):
    """How the pipelines run on Kubeflow Pipelines."""

    image: str | None = None
    """The image of every step. Left out: the image of this release of Endcap."""
    deadline: Duration | None = None
    """The longest time of a whole run. Then no step starts, and running steps are ended. Left out: no limit."""
    secret: Name = "endcap-store"  # noqa: S105 - a Secret's name
    """The Secret with the store's keys, which every step gets as environment variables. If it does not exist, steps get
    none."""
    defaults: Pod = Pod()
    """What the pods of all steps get, unless a step has values of its own."""
    steps: dict[Name, StepSpec] = {}
    """How each step runs, by its name. Other names than those of Endcap's steps are steps of your own."""

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
                hint = "Packages of Kubeflow Pipelines cannot have a RuntimeClass."
                allowed = "nothing: make the runtime the default of the nodes' container engine"
                at = (*key, "runtimeClassName")
                yield Mistake(at, repr(pod.runtimeClassName), allowed, hint, code="not-allowed")


def _check_place(name: str, step: StepSpec, steps: dict[str, StepSpec]) -> Iterator[Mistake]:
    if name == REPORT.name:
        allowed = "another name, because the run's report has this one"
        yield Mistake((name,), "a step of this name", allowed, code="duplicate")
    names = [*STEPS, *(step_name for step_name in steps if step_name not in STEPS and step_name != name)]
    if step.after is not None and step.before is not None:
        yield Mistake((name, "before"), "a place before a step and one after a step", "either", code="conflict")
    elif step.before is not None:
        return
    elif step.after is None:
        hint = f"Your own step needs the step that it runs after. Endcap's steps are {', '.join(STEPS)}."
        yield Mistake((name, "after"), "nothing", ", ".join(names), hint, code="missing")
    elif step.after not in names:
        yield Mistake((name, "after"), repr(step.after), ", ".join(names), code="unknown-name")
    elif _is_in_circle(name, steps):
        allowed = "a step that does not come after this one"
        yield Mistake((name, "after"), f"{step.after!r}, a circle", allowed, code="circle")


def _check_work(name: str, step: StepSpec, steps: dict[str, StepSpec]) -> Iterator[Mistake]:
    if step.sql is not None:
        for key in ("function", "command", "arguments"):
            if getattr(step, key):
                allowed = "nothing, because this step is one of SQL"
                yield Mistake((name, key), f"{key}, and sql", allowed, code="conflict")
        return
    if step.function is None and step.image is None:
        allowed = "at least one of sql, function and image"
        yield Mistake((name,), "neither sql, function nor image", allowed, code="missing")
    if step.function is None and step.image is not None and not step.command:
        hint = "KFP does not start the image's own entry point."
        allowed = "the command that it runs, as a list"
        yield Mistake((name, "command"), "no command of a container", allowed, hint, code="missing")
    if step.function is not None and step.command:
        yield Mistake((name, "command"), "a command, and a function", "either command or function", code="conflict")


def _check_built_in(name: str, step: StepSpec, steps: dict[str, StepSpec]) -> Iterator[Mistake]:
    for key in ("after", "before", "function", "sql", "command", "arguments"):
        value = getattr(step, key)
        if value is UNKNOWN or value:
            yield Mistake((name, key), "a value", f"none, because {name} is one of Endcap's steps", code="not-allowed")


def _check_switch(name: str, step: StepSpec, steps: dict[str, StepSpec]) -> Iterator[Mistake]:
    if step.enabled:
        return
    if not STEPS[name].optional:
        allowed = f"true: the pipeline {', '.join(STEPS[name].pipelines)} needs what {name} makes"
        yield Mistake((name, "enabled"), "false", allowed, code="not-allowed")
    for step_after in STEPS.values():
        if step_after.needs == name and steps.get(step_after.name, StepSpec()).enabled:
            hint = f"Switch {step_after.name} off as well."
            allowed = f"true, because {step_after.name} is switched on"
            yield Mistake((name, "enabled"), "false", allowed, hint, code="conflict")


def _is_in_circle(name: str, steps: dict[str, StepSpec]) -> bool:
    visited, at = {name}, steps[name].after
    while at is not None and at in steps and at not in STEPS:
        if at in visited:
            return True
        visited.add(at)
        at = steps[at].after
    return False
