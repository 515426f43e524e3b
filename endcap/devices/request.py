"""How a pod learns that it was given GPUs: the pod's builder sets one environment variable from the spec."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal, Protocol

from endcap.errors import UserError

GPU_VARIABLE = "ENDCAP_GPU"
"""JSON with the fields of `GpuRequest`. Where it is unset no GPU was given, and one that is there may be used."""
GpuFallback = Literal["none", "cpu"]


class GpuSettings(Protocol):
    """The section `gpu` of a spec."""

    @property
    def count(self) -> int: ...

    @property
    def resource(self) -> str: ...

    @property
    def fallback(self) -> GpuFallback: ...


@dataclass(frozen=True)
class GpuRequest:
    """The GPUs of a pod.

    Attributes
    ----------
    count
        At least 1.
    resource
        As nodes offer it, such as nvidia.com/gpu.
    fallback
        What happens if none is seen. `none`: the step stops. `cpu`: it warns and continues.
    """

    count: int
    resource: str = "nvidia.com/gpu"
    fallback: GpuFallback = "none"

    def __str__(self) -> str:
        return f"{self.count} {self.resource}"

    @property
    def vendor(self) -> str | None:
        """`nvidia`, `amd` or `intel`; None if the resource's name does not say it."""
        domain = self.resource.partition("/")[0]
        return next((name for name in ("nvidia", "amd", "intel") if name in domain.split(".")), None)

    @property
    def is_whole(self) -> bool:
        """Whether each of `count` is a device of its own: of parts (MIG) and shares a process may see only one."""
        return self.resource in ("nvidia.com/gpu", "amd.com/gpu")


def make_gpu_variables(gpu: GpuSettings | None) -> dict[str, str]:
    """Return the environment variables of a pod with this `gpu` in its spec.

    A count of 0 is written too: otherwise a canary would have the stable's.
    """
    if gpu is None:
        return {}
    return {GPU_VARIABLE: json.dumps(asdict(GpuRequest(gpu.count, gpu.resource, gpu.fallback)))}


def read_gpu_request(environment: Mapping[str, str] = os.environ) -> GpuRequest | None:
    """Return what this pod was given; None: no GPU.

    Raises
    ------
    UserError
        The variable cannot be read.
    """
    text = environment.get(GPU_VARIABLE, "")
    if not text:
        return None
    try:
        request = GpuRequest(**json.loads(text))
        if not (type(request.count) is int and type(request.resource) is str and request.fallback in ("none", "cpu")):
            raise ValueError(text)
    except (TypeError, ValueError) as error:
        example = json.dumps(asdict(GpuRequest(1)))
        raise UserError(
            f"the environment variable {GPU_VARIABLE} is {text!r}; allowed: JSON such as {example}. Unset the "
            "variable if the pod needs no GPU",
            code="gpu.request-malformed",
            variable=GPU_VARIABLE,
            value=text,
        ) from error
    return request if request.count > 0 else None
