"""How a pod learns that it was given GPUs: whoever renders it sets one environment variable from the spec."""

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
    """A spec's `gpu`."""

    @property
    def count(self) -> int: ...

    @property
    def resource(self) -> str: ...

    @property
    def fallback(self) -> GpuFallback: ...


@dataclass(frozen=True)
class GpuRequest:
    """GPUs of a pod. count: at least 1. resource: as nodes offer it, such as nvidia.com/gpu. fallback: what is done
    where none is seen, `none`: it stops; `cpu`: it warns and goes on."""

    count: int
    resource: str = "nvidia.com/gpu"
    fallback: GpuFallback = "none"

    def __str__(self) -> str:
        return f"{self.count} {self.resource}"

    @property
    def vendor(self) -> str | None:
        """`nvidia`, `amd` or `intel`; None where the resource's name does not say it."""
        domain = self.resource.partition("/")[0]
        return next((name for name in ("nvidia", "amd", "intel") if name in domain.split(".")), None)

    @property
    def is_whole(self) -> bool:
        """Whether each of `count` is a device of its own: of parts (MIG) and shares a process may see one alone."""
        return self.resource in ("nvidia.com/gpu", "amd.com/gpu")


def make_gpu_variables(gpu: GpuSettings | None) -> dict[str, str]:
    """The environment of a pod with this `gpu` in its spec. A count of 0 is said too: a canary would else have the
    stable's."""
    if gpu is None:
        return {}
    return {GPU_VARIABLE: json.dumps(asdict(GpuRequest(gpu.count, gpu.resource, gpu.fallback)))}


def read_gpu_request(environment: Mapping[str, str] = os.environ) -> GpuRequest | None:
    """What this pod was given; None: no GPU. Raises UserError where the variable cannot be read."""
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
