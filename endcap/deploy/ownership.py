"""What in a cluster is Endcap's: only that is changed, and only that is removed."""

from __future__ import annotations

import time
from typing import Any

from endcap.cluster import Cluster, ForbiddenError
from endcap.cluster.kinds import HTTP_ROUTE, INFERENCE_SERVICE, Kind
from endcap.deploy.manifests import own_route
from endcap.deploy.variants import MANAGED_BY, MANAGER, SELECTOR
from endcap.errors import ClusterError

Json = dict[str, Any]
GONE_WITHIN = 60.0
"""Seconds for what is deleted to be gone."""


def check_ours(live: Json | None, namespace: str, kind: Kind = INFERENCE_SERVICE) -> None:
    """Raise ClusterError where an object is someone else's; no --force takes it."""
    if live is None:
        return
    name = live["metadata"]["name"]
    if (live["metadata"].get("labels") or {}).get(MANAGED_BY) != MANAGER:
        raise ClusterError(
            f"the {kind.name} {name} in namespace {namespace} is one that Endcap did not make, and it is left "
            f"as it is. Rename the recommender, use another namespace, delete it, or let Endcap have it: "
            f"kubectl label {kind.name.lower()} {name} -n {namespace} {MANAGED_BY}={MANAGER}, then deploy with --force"
        )


def check_stays(live: Json | None, namespace: str) -> None:
    """Raise ClusterError where it is being deleted."""
    if live is not None and live["metadata"].get("deletionTimestamp"):
        name = live["metadata"]["name"]
        raise ClusterError(f"InferenceService {name} in namespace {namespace} is being deleted; wait until it is gone")


def remove(recommender: str, cluster: Cluster, namespace: str) -> list[str]:
    """Delete what Endcap made for a recommender in a namespace, and wait until it is gone; returns what it was.

    Raises ClusterError where the InferenceService is someone else's, or is held back by a finalizer.
    """
    live = cluster.find(INFERENCE_SERVICE, recommender, namespace)
    check_ours(live, namespace)
    gone = []
    for kind, name in ((HTTP_ROUTE, own_route(recommender)), (INFERENCE_SERVICE, recommender)):
        if kind is HTTP_ROUTE and not cluster.schema(kind.api_version):
            continue
        found = live if kind is INFERENCE_SERVICE else _ours(cluster, name, namespace)
        if found is not None and cluster.delete(kind, name, namespace, uid=found["metadata"]["uid"]):
            gone.append(f"{kind.name} {name}")
    end = time.monotonic() + GONE_WITHIN
    while live is not None and cluster.find(INFERENCE_SERVICE, recommender, namespace) is not None:
        if time.monotonic() > end:
            held = ", ".join(live["metadata"].get("finalizers") or []) or "nothing that is known"
            raise ClusterError(f"InferenceService {recommender} is marked to be deleted, and held back by {held}")
        time.sleep(0.5)
    return gone


def _ours(cluster: Cluster, route: str, namespace: str) -> Json | None:
    try:
        found = cluster.every(HTTP_ROUTE, namespace, labels=SELECTOR, fields=f"metadata.name={route}")
    except ForbiddenError:
        return None  # Who may not write routes has made none.
    return found[0] if found else None
