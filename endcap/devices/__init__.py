"""GPUs: what a pod was given by its spec, what torch sees of it, and why that may be nothing.

A pod learns by an environment variable that it was given GPUs (`request`). Before any work `check` has a process of its
own look for them (`probe`), and says what is wrong (`causes`).
"""

from endcap.devices.check import GpuShortage, check_gpus, is_on_cpu, require_gpus
from endcap.devices.probe import GpuProbe, probe_gpus
from endcap.devices.request import GPU_VARIABLE, GpuRequest, make_gpu_variables, read_gpu_request

__all__ = [
    "GPU_VARIABLE",
    "GpuProbe",
    "GpuRequest",
    "GpuShortage",
    "check_gpus",
    "is_on_cpu",
    "make_gpu_variables",
    "probe_gpus",
    "read_gpu_request",
    "request",
    "require_gpus",
]
