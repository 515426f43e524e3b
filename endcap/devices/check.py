"""Before any work: whether the GPUs that a pod was given are there, and what is done where they are not."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from endcap.devices.diagnosis import diagnose
from endcap.devices.probe import GpuProbe, probe_gpus
from endcap.devices.request import GpuRequest, read_gpu_request
from endcap.errors import ClusterError

ON_CPU = "ENDCAP_ON_CPU"
"""Set where a fallback was taken: this process and its children compute without the GPUs that they were given."""


@dataclass(frozen=True)
class GpuShortage:
    """What is missing where the spec allows a CPU. fields: as the error's. on_cpu: no GPU can be used."""

    words: str
    fields: dict[str, Any]
    on_cpu: bool


def check_gpus() -> tuple[GpuRequest | None, GpuShortage | None]:
    """Look whether this pod sees the GPUs that it was given: what it was given, and what is missing of it.

    Where it was given none, nothing is looked at. Where it sees none and the spec allows a CPU, they are hidden from
    this process, so that it computes without. Raises ClusterError where it does not allow it, UserError where the
    variable is malformed.
    """
    request = read_gpu_request()
    if request is None:
        return None, None
    lack = require_gpus(request, probe_gpus())
    if lack is not None and lack.on_cpu:
        # One that is there and cannot compute would be chosen else.
        os.environ |= {"CUDA_VISIBLE_DEVICES": "", "HIP_VISIBLE_DEVICES": "", ON_CPU: "1"}
    return request, lack


def require_gpus(request: GpuRequest, probe: GpuProbe, where: str = "") -> GpuShortage | None:
    """What is missing, where the request allows a CPU; None where nothing is. Raises ClusterError where it does not.

    where: the machine, in a few words, if it is not this one.
    """
    cause = diagnose(probe, request)
    if cause is None:
        return None
    number = len(probe.devices)
    words = (
        f"{request} {'was' if request.count == 1 else 'were'} asked for{where}, and torch sees {number or 'none'}: "
        f"{cause.words}"
    )
    fields = {
        "resource": request.resource,
        "requested": request.count,
        "seen": number,
        "cause": cause.name,
        "reason": probe.error or probe.broken or None,
    }
    if request.fallback == "cpu":
        on_cpu = not number or bool(probe.broken)
        instead = "on the CPU" if on_cpu else f"with {number}"
        return GpuShortage(
            f"{words}. It goes on {instead}, as gpu.fallback allows. Remedy: {cause.remedy}", fields, on_cpu
        )
    raise ClusterError(
        f"{words}. Remedy: {cause.remedy}. Where a CPU will do, set gpu.fallback to cpu in the spec",
        code="gpu.not-seen",
        **fields,
    )


def is_on_cpu() -> bool:
    """Whether a `check` in this process, or in one that started it, found no GPU, and the spec allows a CPU."""
    return bool(os.environ.get(ON_CPU))
