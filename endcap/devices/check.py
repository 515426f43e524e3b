"""Checks before any work whether the GPUs that a pod was given are there, and decides what to do if they are not."""

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
    """What is missing if the spec allows a CPU.

    Attributes
    ----------
    words
        The message.
    fields
        As those of the error.
    on_cpu
        Whether no GPU can be used.
    """

    words: str
    fields: dict[str, Any]
    on_cpu: bool


def check_gpus() -> tuple[GpuRequest | None, GpuShortage | None]:
    """Check whether this pod sees the GPUs that it was given.

    If it was given none, nothing is checked. If it sees none and the spec allows a CPU, GPUs are hidden from this
    process, so that it computes without.

    Returns
    -------
    tuple
        What the pod was given, and what is missing; None for either if there is none.

    Raises
    ------
    ClusterError
        It sees too few, and the spec does not allow a CPU.
    UserError
        The environment variable is malformed.
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
    """Return what is missing if the request allows a CPU; None if nothing is missing.

    Parameters
    ----------
    request
        The GPUs of the pod.
    probe
        What was seen.
    where
        The machine, in a few words, if it is not this one.

    Raises
    ------
    ClusterError
        Something is missing, and the request does not allow a CPU.
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
    """Whether `check_gpus`, in this process or one that started it, found no GPU and the spec allows a CPU."""
    return bool(os.environ.get(ON_CPU))
