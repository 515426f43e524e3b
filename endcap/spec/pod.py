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
