"""Why a pod does not see its GPUs, told from what was seen."""

from __future__ import annotations

from typing import Any

import pytest

from endcap.devices.diagnosis import diagnose
from endcap.devices.probe import GpuProbe
from endcap.devices.request import GpuRequest

CUDA: dict[str, Any] = {"torch": "2.13.0+cu130", "cuda": "13.0"}
ROCM: dict[str, Any] = {"torch": "2.13.0+rocm7", "hip": "7.0"}
CPU: dict[str, Any] = {"torch": "2.13.0+cpu"}
NODE: dict[str, Any] = {"driver": True, "files": ("/dev/nvidia0",)}
OLD = "The NVIDIA driver on your system is too old (found version 12020)."
NO_IMAGE = "CUDA error: no kernel image is available for execution on the device"
H100 = "NVIDIA H100 80GB HBM3"


@pytest.mark.parametrize(
    ("seen", "resource", "count", "cause"),
    [
        (CPU, "nvidia.com/gpu", 1, "image-without-cuda"),
        (ROCM, "nvidia.com/gpu", 1, "image-without-cuda"),
        (CUDA | NODE, "amd.com/gpu", 1, "image-without-rocm"),
        (CPU, "shop.example/gpu", 1, "image-without-cuda"),
        (CUDA | NODE, "gpu.intel.com/i915", 1, "vendor-unsupported"),
        (CUDA, "nvidia.com/gpu", 1, "no-driver"),
        (CUDA | {"files": ("/dev/nvidia0",)}, "nvidia.com/gpu", 1, "no-driver"),
        (ROCM | {"error": "No HIP GPUs are available"}, "amd.com/gpu", 1, "no-driver"),
        (ROCM | {"files": ("/dev/kfd",), "error": "HIP error"}, "amd.com/gpu", 1, "driver-failed"),
        (CUDA | NODE | {"hidden": {"CUDA_VISIBLE_DEVICES": ""}}, "nvidia.com/gpu", 1, "hidden"),
        (CUDA | {"hidden": {"NVIDIA_VISIBLE_DEVICES": "none"}}, "nvidia.com/gpu", 1, "hidden"),
        # Where devices come by CDI the variable is void, and hides nothing.
        (CUDA | NODE | {"hidden": {"NVIDIA_VISIBLE_DEVICES": "void"}, "devices": (H100,)}, "nvidia.com/gpu", 1, None),
        (CUDA | NODE | {"hidden": {"CUDA_VISIBLE_DEVICES": "0"}, "error": OLD}, "nvidia.com/gpu", 1, "driver-too-old"),
        (CUDA | {"driver": True, "error": "No CUDA GPUs are available"}, "nvidia.com/gpu", 1, "no-device"),
        (CUDA | NODE | {"error": "system not yet initialized"}, "nvidia.com/gpu", 1, "driver-failed"),
        ({"silent": True}, "nvidia.com/gpu", 1, "driver-silent"),
        (CUDA | NODE | {"broken": NO_IMAGE}, "nvidia.com/gpu", 1, "device-too-old"),
        (CUDA | NODE | {"broken": "CUDA error: out of memory"}, "nvidia.com/gpu", 1, "device-broken"),
        (CUDA | NODE | {"devices": (H100,)}, "nvidia.com/gpu", 2, "too-few"),
        (CUDA | NODE | {"devices": (H100,)}, "nvidia.com/mig-1g.10gb", 2, None),
        (CUDA | NODE | {"devices": (H100,)}, "nvidia.com/gpu", 1, None),
        (CUDA | NODE | {"devices": (H100, H100)}, "nvidia.com/gpu", 1, None),
        (ROCM | {"files": ("/dev/kfd",), "devices": ("AMD Instinct MI300X",)}, "amd.com/gpu", 1, None),
    ],
)
def test_the_cause_is_told_from_what_was_seen(
    seen: dict[str, Any], resource: str, count: int, cause: str | None
) -> None:
    told = diagnose(GpuProbe(**seen), GpuRequest(count, resource))
    assert (told and told.name) == cause
    assert told is None or (told.words and told.remedy)
