"""What a spec says of Kubernetes: what pods get, where they may run, what is tried again, what is served how."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from endcap.spec.base import (
    UNKNOWN,
    Allowed,
    Carried,
    Duration,
    Mistake,
    Name,
    Strict,
    check,
    collect_mistakes,
    prefix_keys,
    select_known,
)
from endcap.steps import REPORT, STEPS

_QUANTITY = r"^[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+|n|u|m|k|[MGTPE]|[KMGTPE]i)?$"

Quantity = Annotated[
    str,
    BeforeValidator(lambda value: f"{value:g}" if isinstance(value, int | float) and value is not True else value),
    Field(pattern=_QUANTITY),
    Allowed("a quantity as Kubernetes writes it, such as 500m, 4 or 16Gi"),
]
Function = Annotated[
    str,
    Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$"),
    Allowed("an import path and a function's name, such as my_shop.checks:prices"),
]


class Toleration(Strict):
    """A node's taint that a pod bears, as Kubernetes spells it."""

    key: str | None = None
    """Left out, with operator Exists: every taint."""
    operator: Literal["Equal", "Exists"] = "Equal"
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    tolerationSeconds: Annotated[int, Field(ge=0)] | None = None

    @check
    def _says_what_it_bears(self) -> Iterator[Mistake]:
        if self.operator == "Equal" and self.key is None:
            yield Mistake(("key",), "no key with operator Equal", "a key, or operator Exists", code="missing")
        if self.operator == "Exists" and self.value is not None:
            yield Mistake(("value",), repr(self.value), "no value with operator Exists", code="conflict")


SPOT = (
    Toleration(key="cloud.google.com/gke-spot", value="true", effect="NoSchedule"),
    Toleration(key="cloud.google.com/gke-preemptible", value="true", effect="NoSchedule"),
    Toleration(key="kubernetes.azure.com/scalesetpriority", value="spot", effect="NoSchedule"),
    Toleration(key="oci.oraclecloud.com/oke-is-preemptible", operator="Exists", effect="NoSchedule"),
    Toleration(key="eks.amazonaws.com/capacityType", value="SPOT", effect="NoSchedule"),
    Toleration(key="karpenter.sh/capacity-type", value="spot", effect="NoSchedule"),
)
"""The taints of nodes that can be taken away: those that clouds set, and for Amazon's, which set none, the labels'
names, which are commonly used for it."""


class Gpu(Strict):
    count: Annotated[int, Field(ge=0)] = 1
    resource: Annotated[str, Field(pattern=r"^[a-z0-9.-]+/[A-Za-z0-9._-]+$")] = "nvidia.com/gpu"
    """The accelerator's type, as nodes offer it. A certain product is chosen by `nodeSelector`."""
    fallback: Annotated[Literal["none", "cpu"], Carried("what is done where a pod sees none")] = "none"
    """What is done where a pod has been given GPUs and sees none. none: it stops, with the cause. cpu: it warns, and
    goes on on the CPU."""


class Pod(Strict):
    """What a pod asks for, and where it may run."""

    cpu: Quantity | None = None
    """Requested."""
    memory: Quantity | None = None
    """Requested, and the limit where none is given."""
    cpu_limit: Quantity | None = None
    memory_limit: Quantity | None = None
    gpu: Gpu | None = None
    nodeSelector: dict[str, str] = {}
    tolerations: list[Toleration] = []
    spot: bool = False
    """May run on nodes that can be taken away at any time: bears the taints that clouds give them."""
    runtimeClassName: Annotated[Name | None, Carried("how a container is started")] = None
    """The cluster's RuntimeClass, such as nvidia, where GPUs come by one that is not the nodes' default. Of predictors
    and Ray clusters; KFP's packages have no place for it."""

    def borne(self) -> list[Toleration]:
        """The taints that it bears, those of spot nodes among them where it may run there."""
        return [*self.tolerations, *(SPOT if self.spot else ())]


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
    function: Function | None = None
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
        built_in, own = (_values_of_built_in, _switched_off), (_place, _work)
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


def _place(name: str, step: StepSpec, steps: dict[str, StepSpec]) -> Iterator[Mistake]:
    if name == REPORT.name:
        allowed = "another name: the run's report has this one"
        yield Mistake((name,), "a step of this name", allowed, code="duplicate")
    names = [*STEPS, *(other for other in steps if other not in STEPS and other != name)]
    if step.after is None:
        hint = f"A step of your own says which step it runs after. Endcap's own are {', '.join(STEPS)}."
        yield Mistake((name, "after"), "nothing", ", ".join(names), hint, code="missing")
    elif step.after not in names:
        yield Mistake((name, "after"), repr(step.after), ", ".join(names), code="unknown-name")
    elif _circle(name, steps):
        allowed = "a step that does not come after this one"
        yield Mistake((name, "after"), f"{step.after!r}, a circle", allowed, code="circle")


def _work(name: str, step: StepSpec, steps: dict[str, StepSpec]) -> Iterator[Mistake]:
    if step.function is None and step.image is None:
        allowed = "at least one of image and function"
        yield Mistake((name,), "neither image nor function", allowed, code="missing")
    if step.function is None and step.image is not None and not step.command:
        hint = "KFP starts what the spec names, not the image's own entry point."
        allowed = "the command that it runs, as a list"
        yield Mistake((name, "command"), "none for a container", allowed, hint, code="missing")
    if step.function is not None and step.command:
        yield Mistake((name, "command"), "a command beside a function", "one of the two", code="conflict")


def _values_of_built_in(name: str, step: StepSpec, steps: dict[str, StepSpec]) -> Iterator[Mistake]:
    for key in ("after", "function", "command", "arguments"):
        value = getattr(step, key)
        if value is UNKNOWN or value:
            yield Mistake((name, key), "a value", f"none: {name} is a step of Endcap's own", code="not-allowed")


def _switched_off(name: str, step: StepSpec, steps: dict[str, StepSpec]) -> Iterator[Mistake]:
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


def _circle(name: str, steps: dict[str, StepSpec]) -> bool:
    visited, at = {name}, steps[name].after
    while at is not None and at in steps and at not in STEPS:
        if at in visited:
            return True
        visited.add(at)
        at = steps[at].after
    return False


class Replicas(Strict):
    """How many predictor pods a variant has, and what makes them more."""

    min: Annotated[int, Field(ge=1)] = 1
    """At least one: a model takes too long to load for the first shopper after a quiet hour."""
    max: Annotated[int, Field(ge=1)] = 3
    metric: Literal["concurrency", "rps", "cpu", "memory"] = "concurrency"
    """Knative scales by concurrency or requests a second, Standard by cpu or memory: where the cluster's mode cannot
    scale by what is asked for, cpu stands for concurrency and rps, and concurrency for cpu and memory."""
    target: Annotated[int, Field(ge=1)] | None = None
    """Of the metric, for each pod; left out: 80 % of cpu or memory, 8 requests at once, or 200 a second."""

    @check
    def _max_is_not_below_min(self) -> Iterator[Mistake]:
        if self.max < self.min:
            yield Mistake(("max",), f"{self.max}, and min is {self.min}", "at least min", code="conflict")


class Route(Strict):
    """An HTTPRoute of Endcap's own, for a KServe release that ignores the canary's share."""

    gateway: Annotated[str, Field(pattern=r"^[a-z0-9-]+/[a-z0-9.-]+$"), Allowed("namespace/name of a Gateway")]
    hostname: Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$")]
    """Of its own: on KServe's hostname the older route wins."""


class Tls(Strict):
    """Predictors speak TLS, in Standard mode."""

    secret: Name = "endcap-predictors-tls"  # noqa: S105 - a Secret's name
    """Of the type kubernetes.io/tls, in the predictors' namespace, with a certificate for *.NAMESPACE.svc."""
    clients: list[Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$"), Allowed("a DNS name")]] = []
    """DNS names: only who has a certificate of the Secret's ca.crt for one of them is let in, as the gateway's. Empty:
    nobody is asked for a certificate."""


class KubernetesServingSpec(Pod):
    """Predictor pods on a KServe InferenceService."""

    namespace: Name = "endcap-serving"
    mode: Literal["auto", "Knative", "Standard"] = "auto"
    """Of KServe; auto: the cluster's own default."""
    image: str | None = None
    """Left out: the image of this release of Endcap."""
    secret: Name = "endcap-store"  # noqa: S105 - a Secret's name
    service_account: Name = "endcap-predictor"
    """Carries the Secret, by which KServe reads the package."""
    replicas: Replicas = Replicas()
    canary: Pod | None = None
    """What the canary's pods get instead, in Standard mode; left out: what the stable's get."""
    starts_within: Duration = Field(default="5m", validate_default=True)
    """From the container's start to ready: the start-up probe waits so long."""
    ready_within: Duration = Field(default="15m", validate_default=True)
    """From the deployment to ready, images and nodes included; then it ends with the reason."""
    route: Route | None = None
    tls: Tls | None = None

    @check
    def _canary_says_every_key_of_the_nodes(self) -> Iterator[Mistake]:
        if self.canary is not None and (lost := set(self.nodeSelector) - set(self.canary.nodeSelector)):
            actual, hint = f"no {', '.join(sorted(lost))}", "KServe gives the canary the stable's keys in any case."
            allowed = "each key of serving.kubernetes.nodeSelector, with the same value or another"
            yield Mistake(("canary", "nodeSelector"), actual, allowed, hint, code="missing")

    @check
    def _canary_says_its_runtime_class(self) -> Iterator[Mistake]:
        if self.canary is not None and self.runtimeClassName is not None and self.canary.runtimeClassName is None:
            hint, allowed = "KServe gives the canary the stable's in any case.", "the stable's, or another"
            yield Mistake(("canary", "runtimeClassName"), "nothing", allowed, hint, code="missing")
