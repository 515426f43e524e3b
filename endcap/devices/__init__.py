"""GPUs: what the spec gave to a pod, what torch sees of it, and why torch may see nothing.

An environment variable tells a pod which GPUs it was given (`request`). Before any work, `check_gpus` starts a process
that looks for them (`probe`), and `diagnosis` says what is wrong.
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
