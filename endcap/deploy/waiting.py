"""Why a version is not ready yet: from its pods, the namespace's events, and KServe's own conditions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from endcap.cluster import Cluster, ForbiddenError
from endcap.cluster.kinds import EVENT, POD
from endcap.deploy.manifests import SHADOW_SUFFIX
from endcap.deploy.variants import VERSION

Json = Mapping[str, Any]
PATIENCE = 60.0
"""Seconds that a hard trouble must last before it ends the wait: registries and stores have bad moments."""
_PULLING = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable")
_SETTING_UP = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")
_FLAGS = {
    "nodeSelector": "kubernetes.podspec-nodeselector",
    "tolerations": "kubernetes.podspec-tolerations",
    "securityContext": "kubernetes.podspec-securitycontext",
    "affinity": "kubernetes.podspec-affinity",
    "runtimeClassName": "kubernetes.podspec-runtimeclassname",
}
"""Knative refuses these fields unless its ConfigMap config-features has the flag."""


@dataclass(frozen=True)
class Trouble:
    words: str
    hard: bool
    """Does not pass by waiting for a node or a load."""


def find_trouble(cluster: Cluster, service: Json, version: str, since: datetime) -> Trouble | None:
    """What keeps a version's pods from being ready; None where nothing is seen. What may not be read is left out."""
    name, namespace = service["metadata"]["name"], service["metadata"]["namespace"]
    try:
        pods = cluster.every(POD, namespace, labels=f"serving.kserve.io/inferenceservice={name}")
    except ForbiddenError:
        pods = []
    own = [pod for pod in pods if (pod["metadata"].get("annotations") or {}).get(VERSION) == version]
    troubles = [trouble for pod in own if (trouble := of_pod(pod)) is not None]
    if troubles:
        return max(troubles, key=lambda trouble: trouble.hard)
    try:
        events = cluster.every(EVENT, namespace, fields="type=Warning")
    except ForbiddenError:
        events = []
    refused = of_events(events, name, since) if not own else None
    return refused or of_conditions(service, since)


def of_pod(pod: Json) -> Trouble | None:
    """A pod's trouble, by what it says of itself."""
    status = pod.get("status") or {}
    name = pod["metadata"]["name"]
    for one in status.get("conditions") or []:
        if one.get("type") == "PodScheduled" and one.get("reason") == "Unschedulable":
            return Trouble(f"no node takes the pod {name}: {one.get('message', '')}", hard=False)
    for one in status.get("initContainerStatuses") or []:
        trouble = _of_container(one, name)
        if trouble is not None and one["name"] == "storage-initializer":
            hint = "; look at the Secret's keys and at the package's address"
            return Trouble(f"the package could not be fetched from the store ({trouble.words}){hint}", trouble.hard)
        if trouble is not None:
            return trouble
    for one in status.get("containerStatuses") or []:
        trouble = _of_container(one, name)
        if trouble is not None:
            return trouble
    return None


def _of_container(status: Json, pod: str) -> Trouble | None:
    state = status.get("state") or {}
    waiting, ended = state.get("waiting") or {}, (status.get("lastState") or {}).get("terminated") or {}
    ended = state.get("terminated") or ended
    reason = waiting.get("reason", "")
    if reason in _PULLING:
        return Trouble(f"the image {status.get('image')} cannot be pulled: {waiting.get('message', reason)}", hard=True)
    if reason in _SETTING_UP:
        return Trouble(f"the container {status['name']} cannot be set up: {waiting.get('message', reason)}", hard=True)
    if reason == "CrashLoopBackOff" or (ended and ended.get("exitCode", 0) != 0 and status.get("restartCount", 0) > 1):
        why = "out of memory" if ended.get("reason") == "OOMKilled" else f"exit code {ended.get('exitCode', '?')}"
        said = f": {ended['message'].strip()}" if ended.get("message") else ""
        logs = f"kubectl logs -c {status['name']} {pod} --previous"
        words = f"the container {status['name']} crashed {status.get('restartCount', 1)} times, {why}{said} ({logs})"
        return Trouble(words, hard=True)
    return None


def of_events(events: Iterable[Json], recommender: str, since: datetime) -> Trouble | None:
    """The newest refusal to create a pod of this recommender, such as by a quota."""
    ours = [
        event
        for event in events
        if event.get("reason") in ("FailedCreate", "InternalError")
        and event["involvedObject"].get("name", "").startswith(f"{recommender}-")
        # What keeps its shadow from starting is none of its own troubles.
        and not event["involvedObject"]["name"].startswith(f"{recommender}{SHADOW_SUFFIX}-")
        and _when(event) >= since
    ]
    if not ours:
        return None
    message = max(ours, key=_when).get("message", "")
    return Trouble(_refusal(message), hard=True)


def of_conditions(service: Json, since: datetime) -> Trouble | None:
    """What KServe says is wrong; most of it passes while pods start, and what is older may have passed already."""
    status = service.get("status") or {}
    failure = (status.get("modelStatus") or {}).get("lastFailureInfo") or {}
    if failure.get("reason") in ("RuntimeNotRecognized", "NoSupportingRuntime", "RuntimeDisabled"):
        words = (
            f"KServe finds no ServingRuntime for it ({failure.get('message')}): install Endcap's chart, or apply "
            "manifests/base, in this namespace"
        )
        return Trouble(words, hard=True)
    for one in status.get("conditions") or []:
        told = one.get("message") or ""
        # KServe's own writers get into each other's way; it tries again.
        passing = not told or "the object has been modified" in told
        if one.get("type") == "PredictorReady" and one.get("status") == "False" and not passing:
            new = datetime.fromisoformat(one.get("lastTransitionTime", since.isoformat())) >= since
            hard = new and one.get("reason") in ("ReconcileFailed", "FailedCreate")
            return Trouble(_refusal(told), hard)
    return None


def _refusal(message: str) -> str:
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


def _when(event: Json) -> datetime:
    text = event.get("lastTimestamp") or event.get("eventTime") or event["metadata"]["creationTimestamp"]
    return datetime.fromisoformat(text)
