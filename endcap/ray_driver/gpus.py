"""The GPUs of Ray's workers: whether torch sees the GPUs that Ray counts."""

from __future__ import annotations

import dataclasses
import math
import os
import socket
from typing import Any

from endcap import devices
from endcap.errors import EndcapError, describe_error
from endcap.spec.search import SearchSpec
from endcap.spec.settings import TrainSettings
from endcap.spec.training import TrainingSpec

NO_GPUS = {"CUDA_VISIBLE_DEVICES": ""}
"""Variables of a worker that is to see no GPU."""
_PATIENCE = 180.0
"""Seconds for all machines. A machine whose GPUs other work has is not checked: trials wait for them, too."""
_OF_RAY = devices.GpuRequest(1, resource="GPU")
"""The request of a machine on which no spec of Endcap's made the pod."""


def is_without_gpus(spec: SearchSpec | TrainingSpec) -> bool:
    """Whether Ray runs on this machine, and the step sees none of its GPUs and may continue without."""
    return spec.address is None and spec.cluster is None and devices.is_on_cpu()


def drop_missing_gpus(settings: TrainSettings) -> TrainSettings:
    """Return the settings; trials get no GPUs if there are none (`is_without_gpus`)."""
    spec = settings.search
    if spec is None or not spec.gpu or not is_without_gpus(spec):
        return settings
    return settings.model_copy(update={"search": spec.model_copy(update={"gpu": 0.0})})


def check_gpus(ray: Any, share: float) -> dict[str, Any]:
    """Let each machine with GPUs look for them, in a worker that has as many as those of the job.

    Parameters
    ----------
    ray
        The module, connected.
    share
        GPUs of a worker, more than 0; below 1 several workers share one.

    Returns
    -------
    dict
        ``error``: the error of one machine that sees none, as `endcap.errors.describe_error` writes it, or None.
        ``lacks``: messages and fields of the machines that see none and may continue on the CPU.
    """
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    count = math.ceil(share)
    remote = ray.remote(num_cpus=0, num_gpus=share if share <= 1 else count, max_retries=0)(_look_for_gpus)
    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("GPU", 0) >= share]
    tasks = [
        remote.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(count)
        for node in nodes
    ]
    ready, late = ray.wait(tasks, num_returns=len(tasks), timeout=_PATIENCE) if tasks else ([], [])
    for task in late:
        ray.cancel(task)
    answers = ray.get(ready)
    error = next((answer["error"] for answer in answers if "error" in answer), None)
    return {"error": error, "lacks": [answer["lack"] for answer in answers if "lack" in answer]}


def _look_for_gpus(count: int) -> dict[str, Any]:
    """Look for GPUs; runs on each machine, in a worker that Ray shows its GPUs."""
    try:
        request = dataclasses.replace(devices.read_gpu_request() or _OF_RAY, count=count)
        lack = devices.require_gpus(request, devices.probe_gpus(), where=f" on {socket.gethostname()}")
    except EndcapError as error:
        return {"error": describe_error(error)}
    return {} if lack is None else {"lack": {"words": lack.words, "fields": lack.fields}}


def hide_gpus_unless(share: float) -> None:
    """Hide GPUs from this worker unless it has a share of them: by default Ray shows it all."""
    if not share:
        os.environ.update(NO_GPUS)
