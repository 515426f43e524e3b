"""Finds out why a pod that was given GPUs sees none of them, or too few, and how to correct it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from endcap.devices.probe import GpuProbe
from endcap.devices.request import GpuRequest

CauseName = Literal[
    "vendor-unsupported",
    "image-without-cuda",
    "image-without-rocm",
    "hidden",
    "no-driver",
    "driver-too-old",
    "driver-failed",
    "driver-silent",
    "no-device",
    "device-too-old",
    "device-broken",
    "too-few",
]
_OLD = ("driver on your system is too old", "driver version is insufficient", "unsupported display driver")
"""Words of torch and CUDA for a driver that is older than the CUDA that torch was built for."""
_RUNTIME = (
    "give the pod the cluster's runtime class for GPUs (runtimeClassName; a pipeline's pods need that runtime as the "
    "nodes' default), see docs/gpus.md"
)


@dataclass(frozen=True)
class Diagnosis:
    """A cause.

    Attributes
    ----------
    name
        For programs.
    words
        What is wrong.
    remedy
        What to do next.
    """

    name: CauseName
    words: str
    remedy: str


def diagnose(probe: GpuProbe, request: GpuRequest) -> Diagnosis | None:
    """Return what is wrong; None if the pod sees what it was given.

    Parameters
    ----------
    probe
        What was seen.
    request
        The GPUs of the pod.
    """
    return (
        _diagnose_image(probe, request)
        or _diagnose_choice(probe)
        or _diagnose_driver(probe, request)
        or _diagnose_devices(probe, request)
    )


def _diagnose_image(probe: GpuProbe, request: GpuRequest) -> Diagnosis | None:
    if request.vendor == "intel":
        return Diagnosis(
            "vendor-unsupported",
            "Endcap's models compute on NVIDIA's GPUs, and on AMD's with an image for ROCm, not on Intel's",
            "name another resource, or leave `gpu` out",
        )
    if not probe.torch or probe.devices:
        return None
    has = f"CUDA {probe.cuda}" if probe.cuda else f"ROCm {probe.hip}" if probe.hip else "the CPU alone"
    if request.vendor == "amd" and probe.hip is None:
        remedy = "name an image with torch for ROCm (docs/images.md), or nodes with NVIDIA's GPUs"
        return Diagnosis("image-without-rocm", f"the image's torch {probe.torch} is built for {has}", remedy)
    if request.vendor != "amd" and probe.cuda is None and (request.vendor == "nvidia" or probe.hip is None):
        remedy = "name an image whose torch is built for CUDA, such as Endcap's own (docs/images.md)"
        return Diagnosis("image-without-cuda", f"the image's torch {probe.torch} is built for {has}", remedy)
    return None


def _diagnose_choice(probe: GpuProbe) -> Diagnosis | None:
    """Find a variable that hides all GPUs. NVIDIA's own counts only if the runtime does not provide them otherwise."""
    if probe.devices:
        return None
    for name, value in (probe.hidden or {}).items():
        to_runtime = name == "NVIDIA_VISIBLE_DEVICES"
        hides = value in ("void", "none", "") if to_runtime else value in ("", "-1", "NoDevFiles")
        if hides and not (to_runtime and (probe.driver or probe.files)):
            words = f"the environment variable {name} is {value!r}, which hides every GPU"
            return Diagnosis("hidden", words, "take it out of the image and of the pod")
    return None


def _diagnose_driver(probe: GpuProbe, request: GpuRequest) -> Diagnosis | None:
    if probe.silent:
        words = "the GPU's driver does not answer"
        return Diagnosis(
            "driver-silent", words, "look at the node's kernel log (dmesg), and drain and restart the node"
        )
    if probe.devices or probe.broken:
        return None
    if probe.hip is not None:
        if "/dev/kfd" not in probe.files:
            remedy = "install AMD's driver on the node, and its device plugin in the cluster"
            return Diagnosis("no-driver", "the container has no /dev/kfd", remedy)
    elif not probe.driver:
        on_node = " (its device files are there)" if probe.files else ""
        return Diagnosis("no-driver", f"the container has no driver library, libcuda.so.1{on_node}", _RUNTIME)
    if any(words in probe.error for words in _OLD):
        number = re.search(r"found version (\d+)(\d\d)\d", probe.error)
        has = f" for CUDA {number[1]}.{int(number[2])}" if number else ""
        words = f"the node's driver{has} is too old for the image's torch {probe.torch}, built for CUDA {probe.cuda}"
        remedy = "update the driver on the node, or name an image whose torch is built for an older CUDA"
        return Diagnosis("driver-too-old", words, remedy)
    if not probe.files:
        remedy = f"see that the device plugin for {request.resource} runs on the node and allocates devices"
        return Diagnosis("no-device", f"the container has the driver and no device file ({probe.error})", remedy)
    remedy = "run nvidia-smi or rocm-smi on the node, and look at its kernel log (dmesg)"
    return Diagnosis("driver-failed", f"the driver gives no GPU: {probe.error or 'it counts none'}", remedy)


def _diagnose_devices(probe: GpuProbe, request: GpuRequest) -> Diagnosis | None:
    if probe.broken:
        if "no kernel image" in probe.broken:
            remedy = "choose nodes with newer GPUs (nodeSelector), or name an image with an older torch"
            return Diagnosis(
                "device-too-old", f"torch {probe.torch} cannot compute on this GPU: {probe.broken}", remedy
            )
        if len(probe.devices) < (request.count if request.is_whole else 1):
            remedy = "see with nvidia-smi or rocm-smi on the node who uses it and whether it is healthy"
            return Diagnosis("device-broken", f"a GPU that is there cannot compute: {probe.broken}", remedy)
        return None
    if request.is_whole and len(probe.devices) < request.count:
        remedy = (
            "give the pod as many as it can see; where nodes offer parts (MIG) or shares of GPUs under this name, a "
            "process sees one, so ask for one"
        )
        return Diagnosis("too-few", f"these are all: {', '.join(probe.devices)}", remedy)
    return None
