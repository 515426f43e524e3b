"""What keeps a pod from running, as its status says it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Json = dict[str, Any]


def list_pod_faults(pod: Json) -> Iterator[str]:
    """Yield what keeps a pod from running, each in a few words: no node, an image, a container that failed."""
    status = pod.get("status") or {}
    name = pod["metadata"]["name"]
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("reason") == "Unschedulable":
            yield f"{name}: no node takes it: {condition.get('message', '')}"
    for container in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        state = container.get("state") or {}
        waiting, ended = state.get("waiting") or {}, state.get("terminated") or {}
        if waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
            yield f"{name}: {waiting['reason']} {waiting.get('message', '')}".strip()
        if ended.get("exitCode"):
            words = f"{ended.get('reason', '')} {ended.get('message', '')}".strip()
            yield f"{name}: container {container['name']} ended with status {ended['exitCode']}: {words}"
