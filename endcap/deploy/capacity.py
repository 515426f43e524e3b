"""Whether the nodes have room for pods that are to start: what nodes offer, less what pods request."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from endcap.cluster import Cluster, ForbiddenError
from endcap.cluster.kinds import NODE, POD
from endcap.cluster.quantities import count_requests, describe_amount, parse_quantity
from endcap.deploy.predictor_manifests import TEMPLATE, count_canary_pods, make_resources
from endcap.deploy.state import CanaryTarget
from endcap.deploy.transitions import Transition, read_annotation, read_predictor_version
from endcap.deploy.variants import Mode
from endcap.spec.kubernetes import KubernetesServingSpec
from endcap.spec.pod import Pod, Toleration

Json = Mapping[str, Any]
SURGE = 0.25
"""Of a Deployment's pods: so many more, rounded up, or fewer, rounded down, while others take their place. KServe's."""
NAMED = 5
"""Nodes that a message names."""
_EVERYWHERE = ("cpu", "memory", "pods")
"""What every node offers."""


@dataclass(frozen=True)
class Capacity:
    """Whether there is room. description: what is missing, or why it is unknown; empty if there is enough."""

    enough: bool
    known: bool
    description: str
    """What is missing, or why it is not known; empty where there is enough."""


def count_starting_pods(
    serving: KubernetesServingSpec, mode: Mode, live: Json | None, step: Transition, canary: CanaryTarget | None
) -> tuple[Pod, int]:
    """Find which pods a transition starts, and how many of them need room; 0 if none does.

    A canary in Standard mode has the pods of its share. A version that replaces the stable one starts all of its pods
    beside it. A version that is only rendered anew replaces its own pods.
    """
    whole = max(1, serving.replicas.min)
    stable_group, canaries = _predictors(step.service)
    running = (
        [] if live is None else [read_annotation(entry, TEMPLATE) for group in _predictors(live) for entry in group]
    )
    starting = [entry for entry in (*canaries, *stable_group) if read_annotation(entry, TEMPLATE) not in running]
    if not starting:
        return serving, 0
    if live is None:
        return serving, whole
    if starting[0] in canaries and canary is not None and read_predictor_version(starting[0]) == canary.version:
        return serving.canary or serving, count_canary_pods(serving, canary.share)
    return (serving, whole) if starting[0] in canaries else count_replacement_pods(serving, mode)


def count_replacement_pods(serving: KubernetesServingSpec, mode: Mode) -> tuple[Pod, int]:
    """Count the pods that need room beside those that they replace, as after a change of the image.

    A Deployment of four or more pods ends some first. Knative starts the whole new revision first.
    """
    whole = max(1, serving.replicas.min)
    if mode == "Knative":
        return serving, whole
    return serving, 0 if math.floor(SURGE * whole) else math.ceil(SURGE * whole)


def find_capacity(cluster: Cluster, pod: Pod, count: int = 1) -> Capacity:
    """Find whether the nodes could take `count` more such pods now. It needs the right to list nodes and pods."""
    if count == 0:
        return Capacity(True, True, "")
    try:
        return assess_capacity(cluster.list_objects(NODE), cluster.list_objects(POD), pod, count)
    except ForbiddenError as error:
        shortage = _describe_needs(_count_needs(pod), count)
        return Capacity(True, False, f"{shortage}; whether nodes have room was not checked: {error}")


def assess_capacity(nodes: Iterable[Json], pods: Iterable[Json], pod: Pod, count: int = 1) -> Capacity:
    """The same, from given nodes and pods."""
    needs = _count_needs(pod)
    used: dict[str, list[dict[str, float]]] = {}
    for other in pods:
        if other["spec"].get("nodeName") and (other.get("status") or {}).get("phase") not in ("Succeeded", "Failed"):
            used.setdefault(other["spec"]["nodeName"], []).append(count_requests(other))
    fitting = [_Node.of(node, used.get(node["metadata"]["name"], [])) for node in nodes if _accepts(node, pod)]
    room = sum(node.room(needs) for node in fitting)
    if room >= count:
        return Capacity(True, True, "")
    where = ", ".join(f"{key}={value}" for key, value in pod.nodeSelector.items())
    which = f"nodes with {where}" if where else "nodes that they may use"
    lacking = [node for node in fitting if not node.room(needs)]
    lacking.sort(key=lambda node: (node.shortage(needs), node.name))
    reports = [node.lacks(needs) for node in lacking[:NAMED]]
    reports += [f"{len(lacking) - NAMED} more"] if len(lacking) > NAMED else []
    lacks = "; ".join(reports) or "there are none"
    explanation = f"{_describe_needs(needs, count)}, and the {which} have room for {room}: {lacks}"
    if fitting and not any(node.could_ever(needs) for node in fitting):
        explanation += "; no node is large enough, even without other pods"
    return Capacity(False, True, explanation)


@dataclass(frozen=True)
class _Node:
    name: str
    offered: dict[str, float]
    free: dict[str, float]

    @classmethod
    def of(cls, node: Json, used: list[dict[str, float]]) -> _Node:
        allocatable = (node.get("status") or {}).get("allocatable") or {}
        offered = {name: parse_quantity(amount) for name, amount in allocatable.items()}
        free = {name: amount - sum(requests.get(name, 0.0) for requests in used) for name, amount in offered.items()}
        return cls(node["metadata"]["name"], offered, free)

    def room(self, needs: Mapping[str, float]) -> int:
        """How many such pods would fit. All that a pod requests must be on one node."""
        # A hair's breadth: 0.3 cores are no sum of 0.1 and 0.2 in binary.
        most = min(_amount(self.free, name) / need for name, need in needs.items())
        return max(0, math.floor(min(most, 1e6) + 1e-6))

    def could_ever(self, needs: Mapping[str, float]) -> bool:
        return all(_amount(self.offered, name) >= need for name, need in needs.items())

    def shortage(self, needs: Mapping[str, float]) -> float:
        """How much the scarcest resource lacks, as a part of what is needed."""
        return max(1 - _amount(self.free, name) / need for name, need in needs.items())

    def lacks(self, needs: Mapping[str, float]) -> str:
        parts = []
        for name, need in needs.items():
            if (free := _amount(self.free, name)) < need:
                offered = _amount(self.offered, name)
                parts.append(f"{describe_amount(name, max(0.0, free))} free of {describe_amount(name, offered)}")
        return f"{self.name} has {', '.join(parts)}"


def _amount(amounts: Mapping[str, float], name: str) -> float:
    return amounts.get(name, math.inf if name in _EVERYWHERE else 0.0)


def _count_needs(pod: Pod) -> dict[str, float]:
    amounts = {name: parse_quantity(amount) for name, amount in make_resources(pod)["requests"].items()}
    return {name: amount for name, amount in {**amounts, "pods": 1.0}.items() if amount}


def _describe_needs(needs: Mapping[str, float], count: int) -> str:
    each = ", ".join(describe_amount(name, amount) for name, amount in needs.items() if name != "pods")
    return f"a pod needs {each}" if count == 1 else f"{count} pods need, each, {each}"


def _predictors(service: Json) -> tuple[list[Json], list[Json]]:
    """The predictor, and the canary predictors beside it."""
    spec = service["spec"]
    return [spec["predictor"]], [entry["predictor"] for entry in spec.get("canary") or []]


def _accepts(node: Json, pod: Pod) -> bool:
    labels, spec = node["metadata"].get("labels") or {}, node.get("spec") or {}
    if spec.get("unschedulable") or any(labels.get(key) != value for key, value in pod.nodeSelector.items()):
        return False
    ready = [item for item in node["status"].get("conditions") or [] if item.get("type") == "Ready"]
    if ready and ready[0].get("status") != "True":
        return False
    hard = [taint for taint in spec.get("taints") or [] if taint.get("effect") in ("NoSchedule", "NoExecute")]
    return all(any(_tolerates(item, taint) for item in pod.borne()) for taint in hard)


def _tolerates(toleration: Toleration, taint: Json) -> bool:
    if toleration.effect not in (None, taint["effect"]):
        return False
    if toleration.operator == "Exists":
        return toleration.key in (None, taint["key"])
    return toleration.key == taint["key"] and (toleration.value or "") == (taint.get("value") or "")
