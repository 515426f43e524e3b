"""Whether the machines that offer GPUs to Ray have any that torch sees: Ray counts what a pod was given."""

from __future__ import annotations

import dataclasses
import math
import socket
from typing import Any

from endcap import devices
from endcap.errors import EndcapError, describe
from endcap.spec.settings import TrainSettings

_PATIENCE = 180.0
"""Seconds for all machines. Where other work has a machine's GPUs, trials wait for them too: it is not looked at."""
_OF_RAY = devices.Request(1, resource="GPU")
"""Of a machine that no spec of Endcap's made a pod of."""


def without_gpus(settings: TrainSettings) -> TrainSettings:
    """The same, where the step was given GPUs, sees none and may go on: its own trials have none either."""
    spec = settings.search
    if spec is None or not spec.gpu or spec.address or spec.cluster or not devices.fell_back():
        return settings
    return settings.model_copy(update={"search": spec.model_copy(update={"gpu": 0.0})})


def look(ray: Any, share: float) -> dict[str, Any]:
    """Have each machine with GPUs look for them, as a worker with so many would see them. `error`: the error of one
    that sees none, as `describe` has it. `lacks`: words and fields of those that see none and may go on on the CPU.

    share: GPUs of a worker, more than 0; below 1 several share one.
    """
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    count = math.ceil(share)
    remote = ray.remote(num_cpus=0, num_gpus=share if share <= 1 else count, max_retries=0)(_seen_there)
    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("GPU", 0) >= share]
    there = [
        remote.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(count)
        for node in nodes
    ]
    ready, late = ray.wait(there, num_returns=len(there), timeout=_PATIENCE) if there else ([], [])
    for task in late:
        ray.cancel(task)
    answers = ray.get(ready)
    error = next((answer["error"] for answer in answers if "error" in answer), None)
    return {"error": error, "lacks": [answer["lack"] for answer in answers if "lack" in answer]}


def _seen_there(count: int) -> dict[str, Any]:
    """Runs on each machine, in a worker that Ray shows its GPUs."""
    try:
        request = dataclasses.replace(devices.requested() or _OF_RAY, count=count)
        lack = devices.require(request, devices.probe(), where=f" on {socket.gethostname()}")
    except EndcapError as error:
        return {"error": describe(error)}
    return {} if lack is None else {"lack": {"words": lack.words, "fields": lack.fields}}
