"""Why a version is not ready yet: from its pods, the namespace's events, and KServe's conditions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from endcap.cluster import Cluster, ForbiddenError
from endcap.cluster.kinds import EVENT, POD
from endcap.deploy.object_names import name_suffix
from endcap.deploy.variants import SIDE_ROLES, VERSION

Json = Mapping[str, Any]
PATIENCE = 60.0
"""Seconds that a hard trouble must last before it ends the wait: registries and stores have bad moments."""
_PULLING = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable")
_SETTING_UP = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")
_STORAGE_INITIALIZER = "storage-initializer"
_FETCHING = {
    r"\b403\b|Forbidden|AccessDenied|InvalidAccessKeyId|SignatureDoesNotMatch|ExpiredToken|\b401\b|[Cc]redentials": (
        "the store refuses the keys: look at those in the Secret, and at what they may read"
    ),
    r"NoSuchBucket|NoSuchKey|\b404\b|Not Found|[Nn]o model found|does not exist": (
        "the store has nothing there: look at the package's address and the bucket"
    ),
    r"EndpointConnectionError|[Cc]ould not connect|Connection refused|timed out|Name or service not known|SSL": (
        "the store is not reached: look at the Secret's S3_ENDPOINT, and at the namespace's NetworkPolicy"
    ),
}
"""What KServe's storage initializer says as it ends, and what follows from it."""
_PARTICULARS = re.compile(
    # A pod's name with its hashes, a digest or an id, a number with or without a unit of time.
    r"\b[a-z0-9][a-z0-9-]*-[a-z0-9]{6,10}-[a-z0-9]{5}\b"
    r"|\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22}\b|\b[0-9a-f]{12,}\b"
    r"|\b\d+(?:\.\d+)?(?:ms|s|m|h)?(?:\d+s)?\b"
)
_FLAGS = {
    "nodeSelector": "kubernetes.podspec-nodeselector",
    "tolerations": "kubernetes.podspec-tolerations",
    "securityContext": "kubernetes.podspec-securitycontext",
    "affinity": "kubernetes.podspec-affinity",
    "runtimeClassName": "kubernetes.podspec-runtimeclassname",
}
"""Knative refuses these fields unless its ConfigMap config-features has the flag."""


@dataclass(frozen=True)
class ReadinessProblem:
    """What keeps a version from being ready."""

    description: str
    hard: bool
    """Does not pass by waiting for a node or a load."""
    about: str = ""
    """What is the same however often it is told, where the words' beginning is not."""

    @property
    def gist(self) -> str:
        """The problem without what differs between pods and attempts, so that it is reported once."""
        return re.sub(_PARTICULARS, "…", self.about or self.description)


def find_problem(cluster: Cluster, service: Json, version: str, since: datetime) -> ReadinessProblem | None:
    """Find what keeps a version's pods from being ready; None if nothing shows. What may not be read is skipped."""
    name, namespace = service["metadata"]["name"], service["metadata"]["namespace"]
    try:
        pods = cluster.list_objects(POD, namespace, labels=f"serving.kserve.io/inferenceservice={name}")
    except ForbiddenError:
        pods = []
    own = [pod for pod in pods if (pod["metadata"].get("annotations") or {}).get(VERSION) == version]
    problems = [problem for pod in own if (problem := find_pod_problem(pod)) is not None]
    if problems:
        return max(problems, key=lambda problem: problem.hard)
    try:
        events = cluster.list_objects(EVENT, namespace, fields="type=Warning")
    except ForbiddenError:
        events = []
    refused = find_event_problem(events, name, since) if not own else None
    return refused or find_condition_problem(service, since)


def find_pod_problem(pod: Json) -> ReadinessProblem | None:
    """Find the problem that a pod's status shows."""
    status = pod.get("status") or {}
    name = pod["metadata"]["name"]
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("reason") == "Unschedulable":
            return ReadinessProblem(f"no node takes the pod {name}: {condition.get('message', '')}", hard=False)
    for kind in ("initContainerStatuses", "containerStatuses"):
        for container in status.get(kind) or []:
            if trouble := _find_container_problem(container, name):
                return trouble
    return None


def _find_container_problem(status: Json, pod: str) -> ReadinessProblem | None:
    """Find the problem that the kubelet reports for a container."""
    state = status.get("state") or {}
    waiting, ended = state.get("waiting") or {}, (status.get("lastState") or {}).get("terminated") or {}
    ended = state.get("terminated") or ended
    reason, message = waiting.get("reason", ""), waiting.get("message") or waiting.get("reason", "")
    fetches = status["name"] == _STORAGE_INITIALIZER
    container = "KServe's storage initializer" if fetches else f"the container {status['name']}"
    if reason in _PULLING:
        about = f"the image {status.get('image')} of {container} cannot be pulled"
        return ReadinessProblem(about + _explain_pull_failure(message), hard=True, about=about)
    if reason == "CreateContainerConfigError":
        return ReadinessProblem(_explain_missing_config(container, message), hard=True)
    if reason in _SETTING_UP:
        return ReadinessProblem(f"{container} cannot be started: {message}", hard=True)
    if reason == "CrashLoopBackOff" or (ended and ended.get("exitCode", 0) != 0 and status.get("restartCount", 0) > 1):
        output = (ended.get("message") or "").strip()
        logs = f"kubectl logs -c {status['name']} {pod} --previous"
        times = f"{container} crashed {status.get('restartCount', 1)} times"
        if ended.get("reason") == "OOMKilled":
            more = "in the ClusterStorageContainer `default`" if fetches else "with serving.kubernetes.memory"
            return ReadinessProblem(f"{times}, out of memory: give it more {more} ({logs})", hard=True)
        how = f"exit code {ended.get('exitCode', '?')}" + (f": {output}" if output else "")
        if fetches:
            why = next((why for pattern, why in _FETCHING.items() if re.search(pattern, output)), "")
            summary = "the package could not be fetched from the store"
            return ReadinessProblem(f"{summary}; {why or 'its log says why'} ({times}, {how}; {logs})", hard=True)
        return ReadinessProblem(f"{times}, {how} ({logs})", hard=True)
    return None


def _explain_pull_failure(message: str) -> str:
    # While the kubelet waits it says either nothing new, or what it said before it waited.
    why = re.sub(r'^Back-off pulling image "[^"]*"(: ErrImagePull)?', "", message).removeprefix(": ")
    return f": {why}" if why else ""


def _explain_missing_config(container: str, message: str) -> str:
    """Name the Secret, ConfigMap or key that the kubelet misses."""
    if absent := re.search(r'(secret|configmap) "([^"]+)" not found', message):
        kind = {"secret": "Secret", "configmap": "ConfigMap"}[absent[1]]
        return f"there is no {kind} {absent[2]}, which {container} needs: make it in this namespace"
    if absent := re.search(r"couldn't find key (\S+) in (Secret|ConfigMap) (\S+)", message):
        return f"the {absent[2]} {absent[3]} has no key {absent[1]}, which {container} needs: add it"
    return f"{container} cannot be set up: {message}"


def find_event_problem(events: Iterable[Json], recommender: str, since: datetime) -> ReadinessProblem | None:
    """Find the newest refusal to create a pod of this recommender, such as by a quota."""
    beside = tuple(f"{recommender}{name_suffix(role)}-" for role in SIDE_ROLES)
    ours = [
        event
        for event in events
        if event.get("reason") in ("FailedCreate", "InternalError")
        and event["involvedObject"].get("name", "").startswith(f"{recommender}-")
        # What keeps its shadow, or an arm beside it, from starting is none of its own troubles.
        and not event["involvedObject"]["name"].startswith(beside)
        and _read_event_time(event) >= since
    ]
    if not ours:
        return None
    message = max(ours, key=_read_event_time).get("message", "")
    return ReadinessProblem(_explain_refusal(message), hard=True)


def find_condition_problem(service: Json, since: datetime) -> ReadinessProblem | None:
    """Find what KServe's conditions call wrong. Most of that passes while pods start, and older reports may be over."""
    status = service.get("status") or {}
    failure = (status.get("modelStatus") or {}).get("lastFailureInfo") or {}
    if failure.get("reason") in ("RuntimeNotRecognized", "NoSupportingRuntime", "RuntimeDisabled"):
        words = (
            f"KServe finds no ServingRuntime for it ({failure.get('message')}): install Endcap's chart, or apply "
            "manifests/base, in this namespace"
        )
        return ReadinessProblem(words, hard=True)
    for condition in status.get("conditions") or []:
        message = condition.get("message") or ""
        # KServe's own writers get into each other's way; it tries again.
        passing = not message or "the object has been modified" in message
        if condition.get("type") == "PredictorReady" and condition.get("status") == "False" and not passing:
            new = datetime.fromisoformat(condition.get("lastTransitionTime", since.isoformat())) >= since
            hard = new and condition.get("reason") in ("ReconcileFailed", "FailedCreate")
            return ReadinessProblem(_explain_refusal(message), hard)
    return None


def _explain_refusal(message: str) -> str:
    # Without what differs from pod to pod: the same refusal is told once.
    message = re.sub(
        r'^(\(combined from similar events\): )?(Error creating: )?(pods "[^"]*" is forbidden: )?', "", message
    )
    if quota := re.search(r"exceeded quota: .*", message):
        return f"the namespace's quota is reached ({quota[0]}): raise it or free something"
    if "violates PodSecurity" in message:
        return (
            f"the namespace's Pod Security Standard refuses the pod: {message}; KServe's own container gets its "
            "securityContext from the ClusterStorageContainer `default`"
        )
    fields = re.search(r"must not set the field\(s\): (.*)", message)
    if fields:
        flags = sorted(flag for field, flag in _FLAGS.items() if field in fields[1])
        return (
            f"Knative takes no {fields[1]}: set {', '.join(flags) or 'the flags for it'} to enabled in the ConfigMap "
            "config-features of namespace knative-serving"
        )
    if missing := re.search(r'secrets? "([^"]+)" not found', message):
        return f"there is no Secret {missing[1]}: it holds the store's keys ({message})"
    return message


def _read_event_time(event: Json) -> datetime:
    text = event.get("lastTimestamp") or event.get("eventTime") or event["metadata"]["creationTimestamp"]
    return datetime.fromisoformat(text)
