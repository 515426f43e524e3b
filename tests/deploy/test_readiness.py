"""Why a version does not become ready."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import pytest

from endcap.deploy.readiness import find_condition_problem, find_event_problem, find_pod_problem

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)


def pod(**status: Any) -> dict[str, Any]:
    return {"metadata": {"name": "shoes-1"}, "status": status}


def container(name: str, restarts: int = 0, **state: Any) -> dict[str, Any]:
    return {"name": name, "image": "endcap:1", "restartCount": restarts, "state": state}


BACK_OFF = {"reason": "CrashLoopBackOff", "message": "back-off 5m0s"}
NO_GPU = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/4 nodes: 4 Insufficient"}
OUT_OF_MEMORY = container("kserve-container", 4, waiting=BACK_OFF) | {
    "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
}


@pytest.mark.parametrize(
    ("status", "words", "hard"),
    [
        ({"conditions": [NO_GPU]}, "no node takes the pod shoes-1: 0/4 nodes: 4 Insufficient", False),
        (
            {"containerStatuses": [container("c", waiting={"reason": "ImagePullBackOff", "message": "not found"})]},
            "the image endcap:1 of the container c cannot be pulled: not found",
            True,
        ),
        ({"containerStatuses": [OUT_OF_MEMORY]}, "crashed 4 times, out of memory: .*kubectl logs -c kserve-con", True),
        (
            {"containerStatuses": [container("c", waiting={"reason": "CreateContainerConfigError", "message": "no"})]},
            "cannot be set up: no",
            True,
        ),
    ],
)
def test_a_pod_says_what_is_wrong_with_it(status: dict[str, Any], words: str, hard: bool) -> None:
    trouble = find_pod_problem(pod(**status))
    assert trouble is not None
    assert trouble.hard == hard
    assert re.search(words, trouble.description)


def initializer(restarts: int = 0, ended: dict[str, Any] | None = None, **state: Any) -> dict[str, Any]:
    return container("storage-initializer", restarts, **state) | {"lastState": {"terminated": ended} if ended else {}}


KEYS, NOTHING, AWAY = "refuses the keys", "has nothing there", "is not reached"
PULLED = {"reason": "ErrImagePull", "message": "failed to resolve reference: not found"}


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (initializer(3, {"exitCode": 1, "message": "An error occurred (403): Forbidden"}, waiting=BACK_OFF), KEYS),
        (initializer(3, {"exitCode": 1, "message": "botocore … NoSuchBucket"}, waiting=BACK_OFF), NOTHING),
        (initializer(3, {"exitCode": 1, "message": "EndpointConnectionError: …"}, waiting=BACK_OFF), AWAY),
        (initializer(3, {"exitCode": 1}, waiting=BACK_OFF), "its log says why"),
        (initializer(3, {"exitCode": 137, "reason": "OOMKilled"}, waiting=BACK_OFF), "ClusterStorageContainer"),
        (initializer(waiting=PULLED), "the image endcap:1 of KServe's storage initializer cannot be pulled"),
        (initializer(waiting={"reason": "RunContainerError", "message": "no such file"}), "cannot be started"),
        (
            initializer(waiting={"reason": "CreateContainerConfigError", "message": 'secret "endcap-store" not found'}),
            "there is no Secret endcap-store",
        ),
        (
            initializer(
                waiting={
                    "reason": "CreateContainerConfigError",
                    "message": "couldn't find key AWS_ACCESS_KEY_ID in Secret shop/endcap-store",
                }
            ),
            "the Secret shop/endcap-store has no key AWS_ACCESS_KEY_ID",
        ),
    ],
)
def test_what_fetches_the_package_fails_for_the_reason_that_the_kubelet_names(
    status: dict[str, Any], words: str
) -> None:
    trouble = find_pod_problem(pod(initContainerStatuses=[status]))
    assert trouble is not None
    assert trouble.hard
    assert words in trouble.description
    assert ("keys" in trouble.description) == (words == KEYS), "a wrong Secret is one cause among many"


def crash_status(times: int, identity: str, of: str) -> dict[str, Any]:
    message = f'OCI runtime create failed: container_id="{identity}": after {times}.{times}s in {of}'
    ended = {"exitCode": 128, "message": message, "containerID": f"containerd://{identity}"}
    return {
        **pod(containerStatuses=[container("c", times, waiting=BACK_OFF) | {"lastState": {"terminated": ended}}]),
        "metadata": {"name": of},
    }


def not_pulled(reason: str, message: str) -> dict[str, Any]:
    return pod(containerStatuses=[container("c", waiting={"reason": reason, "message": message})])


SAME = {
    "containers": [
        crash_status(2, "0f" * 32, "shoes-v1-predictor-5d4f8b7c9d-x2x4z"),
        crash_status(7, "ab" * 32, "shoes-v1-predictor-5d4f8b7c9d-k8k2q"),
    ],
    "tries": [
        not_pulled("ErrImagePull", "rpc error: code = NotFound desc = not found"),
        not_pulled("ImagePullBackOff", 'Back-off pulling image "endcap:1"'),
        not_pulled("ImagePullBackOff", 'Back-off pulling image "endcap:1": ErrImagePull: rpc error: not found'),
    ],
    "nodes": [
        pod(conditions=[NO_GPU]),
        pod(conditions=[{**NO_GPU, "message": "0/5 nodes: 5 Insufficient"}]),
    ],
}


@pytest.mark.parametrize("pods", SAME.values(), ids=SAME)
def test_the_same_trouble_has_one_gist(pods: list[dict[str, Any]]) -> None:
    gists = {trouble.gist for one in pods if (trouble := find_pod_problem(one))}
    assert len(gists) == 1
    other = find_pod_problem(pod(containerStatuses=[OUT_OF_MEMORY]))
    assert other is not None
    assert other.gist not in gists


def test_a_pod_that_only_starts_has_no_trouble() -> None:
    starting = container("kserve-container", waiting={"reason": "PodInitializing"})
    assert (
        find_pod_problem(pod(containerStatuses=[starting], conditions=[{"type": "PodScheduled", "status": "True"}]))
        is None
    )


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
    trouble = find_event_problem([event(message, 1)], "shoes", NOW)
    assert trouble is not None
    assert trouble.hard
    assert words in trouble.description
    assert "a-1" not in trouble.description


def test_old_events_and_those_of_others_do_not_count() -> None:
    before = NOW.replace(hour=13)
    assert find_event_problem([event("exceeded quota: few", 1)], "shoes", before) is None
    assert find_event_problem([event("exceeded quota: few", 1, "boots-v1-predictor")], "shoes", NOW) is None
    assert find_event_problem([event("exceeded quota: few", 1, "shoes--shadow-predictor")], "shoes", NOW) is None


def test_kserves_conditions_tell_of_a_missing_runtime_and_of_knatives_switches() -> None:
    failure = {"reason": "RuntimeNotRecognized", "message": "Waiting for runtime to become available"}
    missing = find_condition_problem({"status": {"modelStatus": {"lastFailureInfo": failure}}}, NOW)
    assert missing is not None
    assert "no ServingRuntime" in missing.description
    refused = {
        "type": "PredictorReady",
        "status": "False",
        "reason": "ReconcileFailed",
        "message": "validation failed: must not set the field(s): spec.template.spec.nodeSelector",
        "lastTransitionTime": "2026-03-02T12:01:00Z",
    }
    switches = find_condition_problem({"status": {"conditions": [refused]}}, NOW)
    assert switches is not None
    assert switches.hard
    assert "kubernetes.podspec-nodeselector to enabled in the ConfigMap config-features" in switches.description
    assert (
        find_condition_problem(
            {"status": {"conditions": [{**refused, "message": "the object has been modified"}]}}, NOW
        )
        is None
    )
