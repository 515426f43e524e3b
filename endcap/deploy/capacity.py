"""Whether one more predictor finds its GPUs, for all of its pods: what nodes offer, less what pods have asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from endcap.cluster import Cluster, ForbiddenError
from endcap.cluster.kinds import NODE, POD
from endcap.deploy.manifests import canary_pods
from endcap.deploy.state import CanaryTarget
from endcap.deploy.variants import Mode
from endcap.spec.kubernetes import Gpu, Pod, Serving, Toleration

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Capacity:
    enough: bool
    known: bool
    words: str
    """What is missing, or why it is not known; empty where there is enough."""


def second_predictor(serving: Serving, mode: Mode, canary: CanaryTarget | None) -> tuple[Pod, int]:
    """What starts beside the predictor that serves: its pod, and how many of them.

    A canary in Standard mode has the pods of its share; what replaces the stable version, and a revision in Knative
    mode, has all of them.
    """
    if mode == "Standard" and canary is not None:
        return serving.canary or serving, canary_pods(serving, canary.share)
    return serving, max(1, serving.replicas.min)


def find_capacity(cluster: Cluster, pod: Pod, count: int = 1) -> Capacity:
    """Whether nodes could take so many more such pods now. Without the right to list nodes and pods it is not known."""
    if pod.gpu is None or pod.gpu.count == 0:
        return Capacity(True, True, "")
    try:
        return judge(cluster.every(NODE), cluster.every(POD), pod, pod.gpu, count)
    except ForbiddenError as error:
        return Capacity(True, False, f"free GPUs were not counted: {error}")


def judge(nodes: Iterable[Json], pods: Iterable[Json], pod: Pod, gpu: Gpu, count: int = 1) -> Capacity:
    """The same, from what there is."""
    used: dict[str, int] = {}
    for one in pods:
        if one["spec"].get("nodeName") and (one.get("status") or {}).get("phase") not in ("Succeeded", "Failed"):
            used[one["spec"]["nodeName"]] = used.get(one["spec"]["nodeName"], 0) + _asked(one, gpu.resource)
    fitting = [node for node in nodes if _fits(node, pod)]
    offered = {node["metadata"]["name"]: _count(node["status"].get("allocatable"), gpu.resource) for node in fitting}
    free = {name: gpus - used.get(name, 0) for name, gpus in offered.items()}
    # A pod's GPUs are all on one node.
    if sum(max(0, gpus) // gpu.count for gpus in free.values()) >= count:
        return Capacity(True, True, "")
    where = ", ".join(f"{key}={value}" for key, value in pod.nodeSelector.items())
    nodes_of = f"nodes with {where}" if where else "nodes that it may use"
    each = ", ".join(
        f"{name} {max(0, free[name])} of {offered[name]} free" for name in sorted(offered) if offered[name]
    )
    need = "a pod needs" if count == 1 else f"{count} pods need, each,"
    words = f"{need} {gpu.count} {gpu.resource} on one of the {nodes_of}: {each or 'there are none'}"
    return Capacity(False, True, words)


def _fits(node: Json, pod: Pod) -> bool:
    labels, spec = node["metadata"].get("labels") or {}, node.get("spec") or {}
    if spec.get("unschedulable") or any(labels.get(key) != value for key, value in pod.nodeSelector.items()):
        return False
    ready = [one for one in node["status"].get("conditions") or [] if one.get("type") == "Ready"]
    if ready and ready[0].get("status") != "True":
        return False
    hard = [taint for taint in spec.get("taints") or [] if taint.get("effect") in ("NoSchedule", "NoExecute")]
    return all(any(_bears(one, taint) for one in pod.borne()) for taint in hard)


def _bears(toleration: Toleration, taint: Json) -> bool:
    if toleration.effect not in (None, taint["effect"]):
        return False
    if toleration.operator == "Exists":
        return toleration.key in (None, taint["key"])
    return toleration.key == taint["key"] and (toleration.value or "") == (taint.get("value") or "")


def _asked(pod: Json, resource: str) -> int:
    """As the scheduler counts: the containers together, or the largest of those that run before them."""
    spec = pod["spec"]
    running = sum(_count((one.get("resources") or {}).get("requests"), resource) for one in spec["containers"])
    before = [
        _count((one.get("resources") or {}).get("requests"), resource) for one in spec.get("initContainers") or []
    ]
    return max([running, *before])


def _count(quantities: Json | None, resource: str) -> int:
    # Extended resources are whole numbers.
    return int((quantities or {}).get(resource, 0))
