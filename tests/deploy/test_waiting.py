"""Why a version does not become ready, and whether a GPU is free."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import pytest

from endcap.deploy.capacity import judge
from endcap.deploy.waiting import of_conditions, of_events, of_pod
from endcap.spec.kubernetes import Gpu, Pod, Toleration

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)


def pod(**status: Any) -> dict[str, Any]:
    return {"metadata": {"name": "shoes-1"}, "status": status}


def container(name: str, restarts: int = 0, **state: Any) -> dict[str, Any]:
    return {"name": name, "image": "endcap:1", "restartCount": restarts, "state": state}


BACK_OFF = {"reason": "CrashLoopBackOff", "message": "back-off 5m0s"}
NO_GPU = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/4 nodes: 4 Insufficient"}
NO_KEY = container("storage-initializer", 3, waiting=BACK_OFF) | {
    "lastState": {"terminated": {"exitCode": 1, "message": "An error occurred (403): Forbidden"}}
}
OUT_OF_MEMORY = container("kserve-container", 4, waiting=BACK_OFF) | {
    "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
}


@pytest.mark.parametrize(
    ("status", "words", "hard"),
    [
        ({"conditions": [NO_GPU]}, "no node takes the pod shoes-1: 0/4 nodes: 4 Insufficient", False),
        (
            {"containerStatuses": [container("c", waiting={"reason": "ImagePullBackOff", "message": "not found"})]},
            "the image endcap:1 cannot be pulled: not found",
            True,
        ),
        ({"initContainerStatuses": [NO_KEY]}, "could not be fetched from the store .*403.: Forbidden", True),
        ({"containerStatuses": [OUT_OF_MEMORY]}, "crashed 4 times, out of memory .kubectl logs -c kserve-con", True),
        (
            {"containerStatuses": [container("c", waiting={"reason": "CreateContainerConfigError", "message": "no"})]},
            "cannot be set up: no",
            True,
        ),
    ],
)
def test_a_pod_says_what_is_wrong_with_it(status: dict[str, Any], words: str, hard: bool) -> None:
    trouble = of_pod(pod(**status))
    assert trouble is not None
    assert trouble.hard == hard
    assert re.search(words, trouble.words)


def test_a_pod_that_only_starts_has_no_trouble() -> None:
    starting = container("kserve-container", waiting={"reason": "PodInitializing"})
    assert of_pod(pod(containerStatuses=[starting], conditions=[{"type": "PodScheduled", "status": "True"}])) is None


def event(message: str, minute: int, name: str = "shoes-v1-predictor-abc") -> dict[str, Any]:
    return {
        "reason": "FailedCreate",
        "message": message,
        "involvedObject": {"name": name},
        "lastTimestamp": f"2026-03-02T12:{minute:02}:00Z",
    }


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ('Error creating: pods "a-1" is forbidden: exceeded quota: few, requested: pods=1', "quota is reached"),
        ('Error creating: admission webhook denied the request: secrets "endcap-store" not found', "no Secret endcap-"),
        ('Error creating: pods "a-1" is forbidden: violates PodSecurity "restricted:latest"', "Pod Security Standard"),
    ],
)
def test_a_pod_that_cannot_be_made_is_told_by_the_events(message: str, words: str) -> None:
    trouble = of_events([event(message, 1)], "shoes", NOW)
    assert trouble is not None
    assert trouble.hard
    assert words in trouble.words
    assert "a-1" not in trouble.words


def test_old_events_and_those_of_others_do_not_count() -> None:
    before = NOW.replace(hour=13)
    assert of_events([event("exceeded quota: few", 1)], "shoes", before) is None
    assert of_events([event("exceeded quota: few", 1, "boots-v1-predictor")], "shoes", NOW) is None
    assert of_events([event("exceeded quota: few", 1, "shoes--shadow-predictor")], "shoes", NOW) is None


def test_kserves_conditions_tell_of_a_missing_runtime_and_of_knatives_switches() -> None:
    failure = {"reason": "RuntimeNotRecognized", "message": "Waiting for runtime to become available"}
    missing = of_conditions({"status": {"modelStatus": {"lastFailureInfo": failure}}}, NOW)
    assert missing is not None
    assert "no ServingRuntime" in missing.words
    refused = {
        "type": "PredictorReady",
        "status": "False",
        "reason": "ReconcileFailed",
        "message": "validation failed: must not set the field(s): spec.template.spec.nodeSelector",
        "lastTransitionTime": "2026-03-02T12:01:00Z",
    }
    switches = of_conditions({"status": {"conditions": [refused]}}, NOW)
    assert switches is not None
    assert switches.hard
    assert "kubernetes.podspec-nodeselector to enabled in the ConfigMap config-features" in switches.words
    assert (
        of_conditions({"status": {"conditions": [{**refused, "message": "the object has been modified"}]}}, NOW) is None
    )


def node(name: str, gpus: int, **spec: Any) -> dict[str, Any]:
    labels = {"gpu": "true"} if gpus else {}
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": spec,
        "status": {"allocatable": {"nvidia.com/gpu": str(gpus)}, "conditions": [{"type": "Ready", "status": "True"}]},
    }


def user(on: str, gpus: int, phase: str = "Running") -> dict[str, Any]:
    asked = {"resources": {"requests": {"nvidia.com/gpu": str(gpus)}}}
    return {"spec": {"nodeName": on, "containers": [asked]}, "status": {"phase": phase}}


TAINT = {"taints": [{"key": "nvidia.com/gpu", "effect": "NoSchedule"}]}
BEARS = [Toleration(key="nvidia.com/gpu", operator="Exists")]
WANTS = Pod(gpu=Gpu(count=1), nodeSelector={"gpu": "true"})


@pytest.mark.parametrize(
    ("nodes", "pods", "tolerations", "enough"),
    [
        ([node("a", 2, **TAINT)], [user("a", 1)], BEARS, True),
        ([node("a", 1, **TAINT), node("b", 1, **TAINT)], [user("a", 1), user("b", 1)], BEARS, False),
        ([node("a", 1, **TAINT)], [user("a", 1, "Succeeded")], BEARS, True),
        ([node("a", 1, **TAINT)], [], [], False),
        ([node("a", 1, unschedulable=True)], [], BEARS, False),
        ([node("a", 0)], [], BEARS, False),
    ],
)
def test_free_gpus_are_those_of_nodes_that_fit_less_what_pods_asked_for(
    nodes: list[dict[str, Any]], pods: list[dict[str, Any]], tolerations: list[Toleration], enough: bool
) -> None:
    found = judge(nodes, pods, WANTS.model_copy(update={"tolerations": tolerations}), Gpu(count=1))
    assert found.enough == enough
    assert (found.words == "") == enough


def test_what_is_missing_is_said_node_by_node() -> None:
    found = judge(
        [node("a", 1, **TAINT)], [user("a", 1)], WANTS.model_copy(update={"tolerations": BEARS}), Gpu(count=1)
    )
    assert found.words == "a pod needs 1 nvidia.com/gpu on one of the nodes with gpu=true: a 0 of 1 free"
