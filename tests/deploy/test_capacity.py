"""Room on nodes is counted for all the pods that are to start, each with all that it asks for on one node."""

from __future__ import annotations

from typing import Any, cast

import pytest

from endcap.cluster import Cluster, ForbiddenError
from endcap.cluster.kinds import NODE, ObjectKind
from endcap.cluster.quantities import count_requests
from endcap.deploy.capacity import assess_capacity, count_starting_pods, find_capacity
from endcap.deploy.standard import plan_standard
from endcap.spec.pod import Gpu, Pod, Toleration
from tests.deploy.fake_kserve import NAMESPACE, Standard, recommender, state

Json = dict[str, Any]
GPU = "nvidia.com/gpu"
TAINT = {"taints": [{"key": GPU, "effect": "NoSchedule"}]}
BEARS = [Toleration(key=GPU, operator="Exists")]
WANTS = Pod(gpu=Gpu(count=1), nodeSelector={"gpu": "true"}, tolerations=BEARS)


def node(name: str, gpus: int = 0, cpu: str = "8", memory: str = "32Gi", pods: str = "110", **spec: Any) -> Json:
    return {
        "metadata": {"name": name, "labels": {"gpu": "true"} if gpus else {}},
        "spec": spec,
        "status": {
            "allocatable": {GPU: str(gpus), "cpu": cpu, "memory": memory, "pods": pods},
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def user(on: str, phase: str = "Running", **asks: str) -> Json:
    """A pod on a node; asks: `gpu`, `cpu`, `memory`."""
    requests = {GPU if name == "gpu" else name: amount for name, amount in asks.items()}
    return {
        "spec": {"nodeName": on, "containers": [{"resources": {"requests": requests}}]},
        "status": {"phase": phase},
    }


@pytest.mark.parametrize(
    ("nodes", "pods", "tolerations", "enough"),
    [
        ([node("a", 2, **TAINT)], [user("a", gpu="1")], BEARS, True),
        ([node("a", 1, **TAINT), node("b", 1, **TAINT)], [user("a", gpu="1"), user("b", gpu="1")], BEARS, False),
        ([node("a", 1, **TAINT)], [user("a", "Succeeded", gpu="1")], BEARS, True),
        ([node("a", 1, **TAINT)], [], [], False),
        ([node("a", 1, unschedulable=True)], [], BEARS, False),
        ([node("a", 0)], [], BEARS, False),
        ([node("a", 1, **TAINT)], [user("a", cpu="7.5")], BEARS, False),
        ([node("a", 1, memory="1Gi", **TAINT)], [], BEARS, False),
        ([node("a", 1, pods="1", **TAINT)], [user("a")], BEARS, False),
    ],
)
def test_room_is_on_nodes_that_fit_less_what_pods_asked_for(
    nodes: list[Json], pods: list[Json], tolerations: list[Toleration], enough: bool
) -> None:
    capacity = assess_capacity(nodes, pods, WANTS.model_copy(update={"tolerations": tolerations}))
    assert capacity.enough == enough
    assert (capacity.description == "") == enough


def test_a_trial_beside_a_predictor_on_a_node_of_two_cores_is_told_with_numbers() -> None:
    small = node("small", cpu="1930m", memory="7Gi")
    capacity = assess_capacity([small], [user("small", cpu="1"), user("small", cpu="450m")], Pod())
    assert capacity.description == (
        "a pod needs 1 cpu, 2 Gi of memory, and the nodes that they may use have room for 0: "
        "small has 0.48 cpu free of 1.93 cpu"
    )
    assert assess_capacity([small], [], Pod(cpu="2")).description.endswith(
        "; no node is large enough, even without other pods"
    )
    assert assess_capacity([small], [user("small", cpu="1")], Pod(cpu="500m")).enough


@pytest.mark.parametrize(
    ("gpus", "each", "pods", "enough"),
    [((1, 3), 1, 3, True), ((1, 3), 1, 4, False), ((1, 3), 2, 1, True), ((1, 3), 2, 2, False), ((3, 1), 2, 2, False)],
)
def test_room_for_one_pod_is_not_room_for_several(gpus: tuple[int, ...], each: int, pods: int, enough: bool) -> None:
    nodes = [node(f"gpu-{number}", count) for number, count in enumerate(gpus)]
    used = [user(f"gpu-{len(gpus) - 1}", gpu="1")]
    capacity = assess_capacity(nodes, used, Pod(gpu=Gpu(count=each)), pods)
    assert capacity.enough == enough
    assert (f"{pods} pods need, each, " in capacity.description) == (not enough and pods > 1)


def test_who_may_not_read_nodes_is_told_that_nothing_was_checked() -> None:
    class Closed:
        def list_objects(self, kind: ObjectKind) -> list[Json]:
            assert kind is NODE
            raise ForbiddenError("may not list nodes", code="cluster.forbidden")

    capacity = find_capacity(cast(Cluster, Closed()), Pod())
    assert (capacity.enough, capacity.known) == (True, False)
    assert "was not checked: may not list nodes" in capacity.description
    assert find_capacity(cast(Cluster, Closed()), Pod(), 0).description == ""


def test_a_pod_is_counted_as_the_scheduler_counts() -> None:
    def container(cpu: str, **more: str) -> Json:
        return {"resources": {"requests": {"cpu": cpu}}, **more}

    beside, before = container("100m", restartPolicy="Always"), container("3")
    assert count_requests({"spec": {"containers": [container("1"), container("0.5")]}}) == {"cpu": 1.5, "pods": 1}
    spec = {"containers": [container("1")], "initContainers": [beside, before], "overhead": {"cpu": "1"}}
    assert count_requests({"spec": spec})["cpu"] == pytest.approx(4.1)


@pytest.mark.parametrize(
    ("fewest", "canary", "share", "pods"), [(4, "2", 0.1, 1), (4, "2", 0.5, 2), (1, None, 0, 1), (4, None, 0, 4)]
)
def test_what_starts_beside_the_stable_version_is_as_many_pods_as_it_will_have(
    fewest: int, canary: str | None, share: float, pods: int
) -> None:
    kserve, spec = Standard(), recommender(replicas={"min": fewest, "max": 8})
    assert starting(spec, kserve, "1") == fewest, "the first deployment"
    serve(spec, kserve, "1")
    assert starting(spec, kserve, "1") == 0, "nothing changes"
    assert starting(spec, kserve, "1" if canary else "2", canary, share) == pods


@pytest.mark.parametrize(("fewest", "pods"), [(1, 1), (3, 1), (4, 0)])
def test_an_upgrade_of_a_version_needs_room_for_a_pod_where_none_may_end_first(fewest: int, pods: int) -> None:
    kserve, replicas = Standard(), {"min": fewest, "max": 8}
    serve(recommender(replicas=replicas), kserve, "1")
    assert starting(recommender(replicas=replicas, cpu="2"), kserve, "1") == pods


def serve(spec: Any, kserve: Standard, version: str) -> None:
    kserve.apply(plan_standard(spec, state(version), kserve.service, NAMESPACE, canaries=True))
    kserve.start()
    kserve.settle()


def starting(spec: Any, kserve: Standard, stable: str, canary: str | None = None, share: float = 0.0) -> int:
    desired = state(stable, canary, share)
    step = plan_standard(spec, desired, kserve.service, NAMESPACE, canaries=True)
    return count_starting_pods(spec.serving.kubernetes, "Standard", kserve.service, step, desired.canary)[1]
