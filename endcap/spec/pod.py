"""What a pod gets, and which nodes it may run on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from endcap.spec.base import Allowed, Carried, Mistake, Name, Strict, check

_QUANTITY = r"^[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+|n|u|m|k|[MGTPE]|[KMGTPE]i)?$"


Quantity = Annotated[
    str,
    BeforeValidator(lambda value: f"{value:g}" if isinstance(value, int | float) and value is not True else value),
    Field(pattern=_QUANTITY),
    Allowed("a quantity as Kubernetes writes it, such as 500m, 4 or 16Gi"),
]


class Toleration(Strict):
    """A taint of nodes on which a pod may run. The keys are Kubernetes' own."""

    key: str | None = None
    """The taint's key. Left out, with the operator Exists: every taint."""
    operator: Literal["Equal", "Exists"] = "Equal"
    """`Equal`: the taint has this value. `Exists`: it may have any value."""
    value: str | None = None
    """The taint's value, with the operator Equal."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """The taint's effect. Left out: every effect."""
    tolerationSeconds: Annotated[int, Field(ge=0)] | None = None
    """How many seconds the pod stays on a node that gets the taint, with the effect NoExecute. Left out: it stays."""

    @check
    def _key_and_value_fit_the_operator(self) -> Iterator[Mistake]:
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
"""The taints of spot nodes, as clouds set them. Amazon sets none; there, taints often have the names of its labels."""


class Gpu(Strict):
    """The GPUs of a pod."""

    count: Annotated[int, Field(ge=0)] = 1
    """The number of GPUs."""
    resource: Annotated[str, Field(pattern=r"^[a-z0-9.-]+/[A-Za-z0-9._-]+$")] = "nvidia.com/gpu"
    """The resource that nodes offer. `nodeSelector` chooses a certain product."""
    fallback: Annotated[Literal["none", "cpu"], Carried("what happens if a pod sees none")] = "none"
    """What happens if a pod got GPUs but sees none. `none`: it stops with the cause. `cpu`: it warns, and runs on the
    CPU."""


class Pod(Strict):
    """What a pod gets, and which nodes it may run on."""

    cpu: Quantity | None = None
    """The CPU to request, such as 500m or 4. Left out: Kubernetes' default."""
    memory: Quantity | None = None
    """The memory to request, such as 4Gi. It is also the limit, if `memory_limit` is left out."""
    cpu_limit: Quantity | None = None
    """The most CPU that the pod may use. Left out: no limit."""
    memory_limit: Quantity | None = None
    """The most memory that the pod may use. Left out: `memory`."""
    gpu: Gpu | None = None
    """The GPUs that the pod gets. Left out: none."""
    nodeSelector: dict[str, str] = {}
    """The labels that a node must have."""
    tolerations: list[Toleration] = []
    """The taints of nodes on which the pod may run."""
    spot: bool = False
    """Lets the pod run on spot nodes, which the cloud can take away at any time. The pod tolerates their usual
    taints."""
    runtimeClassName: Annotated[Name | None, Carried("how a container is started")] = None
    """The cluster's RuntimeClass, such as nvidia, if GPUs need one that is not the nodes' default. It works for
    predictors and Ray clusters; packages of Kubeflow Pipelines cannot have it."""

    def borne(self) -> list[Toleration]:
        """Return the taints that the pod tolerates, with those of spot nodes if it may run there."""
        return [*self.tolerations, *(SPOT if self.spot else ())]
