"""Finds out, in a process of its own, which GPUs torch sees.

A process that has used a GPU keeps memory there, and cannot hide it from itself any more. And a driver may end or block
the process that asks it.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

_PATIENCE = 120.0
"""Seconds for importing torch and a first sum on each GPU."""
_MAIN = f"from {__name__} import main; main()"
_LONGEST = 600
"""Letters of what torch says."""


@dataclass(frozen=True)
class GpuProbe:
    """What was seen.

    Attributes
    ----------
    torch
        Torch's version.
    cuda, hip
        The CUDA or ROCm that torch was built for; None: not built for it.
    devices
        Names of the GPUs that can compute.
    driver
        Whether NVIDIA's driver library can be loaded.
    files
        Device files of GPUs.
    hidden
        Values of the variables that choose GPUs, if they are set.
    error
        Why torch has no GPU, in torch's words.
    broken
        Why GPUs that are there cannot compute, in torch's words.
    silent
        Whether no answer came in time.
    """

    torch: str = ""
    cuda: str | None = None
    hip: str | None = None
    devices: tuple[str, ...] = ()
    driver: bool = False
    files: tuple[str, ...] = ()
    hidden: Mapping[str, str] | None = None
    error: str = ""
    broken: str = ""
    silent: bool = False


_CHOOSING = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES")


def probe_gpus(patience: float = _PATIENCE) -> GpuProbe:
    """Look for GPUs as this process would see them. It takes seconds, in which torch is imported."""
    process = subprocess.Popen([sys.executable, "-c", _MAIN], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        out, err = process.communicate(timeout=patience)
    except subprocess.TimeoutExpired:
        # Not waited for: what hangs in a driver cannot be killed.
        process.kill()
        return GpuProbe(
            silent=True, driver=_has_driver(), files=_list_device_files(), hidden=_read_choosing_variables()
        )
    with contextlib.suppress(IndexError, ValueError):
        document = json.loads(out.splitlines()[-1])
        lists = {name: tuple(document[name]) for name in ("devices", "files")}
        return GpuProbe(**{**document, **lists})
    error_lines = err.strip().splitlines()
    error = f"the process that looked for GPUs ended with status {process.returncode}" + (
        f": {error_lines[-1]}" if error_lines else ""
    )
    return GpuProbe(
        error=error[:_LONGEST], driver=_has_driver(), files=_list_device_files(), hidden=_read_choosing_variables()
    )


def main() -> None:
    """Look for GPUs, and print a `GpuProbe` as JSON."""
    import torch

    error, broken, devices = "", [], []
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except Exception as refused:  # torch raises whatever its build or the driver make of it
        error = _shorten_error(refused)
    for number in range(0 if error else torch.cuda.device_count()):
        try:
            if torch.ones(8, device=f"cuda:{number}").add(1).sum().item() != 16.0:
                broken.append(f"device {number} computes wrong sums")
                continue
            devices.append(torch.cuda.get_device_name(number))
        except Exception as refused:
            broken.append(_shorten_error(refused))
    result = GpuProbe(
        torch=torch.__version__,
        cuda=torch.version.cuda,
        hip=torch.version.hip,
        devices=tuple(devices),
        driver=_has_driver(),
        files=_list_device_files(),
        hidden=_read_choosing_variables(),
        error=error,
        broken="; ".join(dict.fromkeys(broken))[:_LONGEST],
    )
    print(json.dumps(asdict(result)), flush=True)


def _shorten_error(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [repr(error)]
    return lines[0][:_LONGEST]


def _has_driver() -> bool:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def _list_device_files() -> tuple[str, ...]:
    patterns = ("nvidia[0-9]*", "nvidia-caps/nvidia-cap[0-9]*", "dxg", "kfd", "dri/renderD*")
    return tuple(sorted(str(file) for pattern in patterns for file in Path("/dev").glob(pattern)))


def _read_choosing_variables() -> dict[str, str]:
    return {name: os.environ[name] for name in _CHOOSING if name in os.environ}
