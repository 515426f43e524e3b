"""The pod that this process runs in, which owns what is made for it: Kubernetes removes both together."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

from endcap.cluster.api_errors import ForbiddenError
from endcap.cluster.client import Cluster
from endcap.cluster.kinds import POD

Json = dict[str, Any]
_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def read_own_namespace() -> str | None:
    """Return the namespace of the pod that this runs in; None outside of pods."""
    try:
        return _ACCOUNT.read_text().strip()
    except OSError:
        return None


def find_own_pod(cluster: Cluster) -> Json | None:
    """Return the pod that this runs in; None outside of pods, or where it may not be read.

    A pod's host name is its name, cut where that is longer than a host name may be; then the address identifies it.
    """
    namespace, host = read_own_namespace(), socket.gethostname()
    if namespace is None:
        return None
    try:
        if pod := cluster.find(POD, host, namespace):
            return pod
        pods = cluster.list_objects(POD, namespace)
        address = socket.gethostbyname(host)
    except (ForbiddenError, OSError):
        return None
    alike = [pod for pod in pods if pod["metadata"]["name"].startswith(host)]
    return next((pod for pod in alike if (pod.get("status") or {}).get("podIP") == address), None)


def build_owner_reference(pod: Json | None, namespace: str) -> Json | None:
    """Return the step's own pod as owner, so that Kubernetes removes an object with it, however the step ends.

    Parameters
    ----------
    pod
        The step's pod; None: there is none.
    namespace
        Namespace of the object.

    Returns
    -------
    dict or None
        None if the object is in another namespace: an owner must be in the same one.
    """
    if pod is None or pod["metadata"]["namespace"] != namespace:
        return None
    metadata = pod["metadata"]
    return {"apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "uid": metadata["uid"]}
