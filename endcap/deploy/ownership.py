"""What in a cluster is Endcap's: only that is changed, and only that is removed."""

from __future__ import annotations

import time
from typing import Any

from endcap.cluster import Cluster, ForbiddenError
from endcap.cluster.kinds import HTTP_ROUTE, INFERENCE_SERVICE, Kind
from endcap.deploy.manifests import own_route, shadow_name
from endcap.deploy.transitions import said_of
from endcap.deploy.variants import MANAGED_BY, MANAGER, SELECTOR, SHADOW_OF
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
            f"kubectl label {kind.name.lower()} {name} -n {namespace} {MANAGED_BY}={MANAGER}, then deploy with --force",
            code="deploy.not-ours",
            kind=kind.name,
            name=name,
            namespace=namespace,
        )


def check_stays(live: Json | None, namespace: str) -> None:
    """Raise ClusterError where it is being deleted."""
    if live is not None and live["metadata"].get("deletionTimestamp"):
        name = live["metadata"]["name"]
        raise ClusterError(
            f"InferenceService {name} in namespace {namespace} is being deleted; wait until it is gone",
            code="deploy.being-deleted",
            name=name,
            namespace=namespace,
        )


def check_shadow(live: Json | None, recommender: str, namespace: str) -> None:
    """Raise ClusterError where an InferenceService is not this recommender's shadow; no --force takes it."""
    check_ours(live, namespace)
    if live is not None and said_of(live).get(SHADOW_OF) != recommender:
        name = live["metadata"]["name"]
        raise ClusterError(
            f"InferenceService {name} in namespace {namespace} is not {recommender}'s shadow",
            code="deploy.foreign-shadow",
            name=name,
            namespace=namespace,
            recommender=recommender,
        )


def find_ours(recommender: str, cluster: Cluster, namespace: str) -> list[tuple[Kind, Json]]:
    """What Endcap made for a recommender in a namespace, in the order in which it is taken away.

    Raises ClusterError where an InferenceService of its name is someone else's.
    """
    live = cluster.find(INFERENCE_SERVICE, recommender, namespace)
    check_ours(live, namespace)
    shadow = cluster.find(INFERENCE_SERVICE, shadow_name(recommender, namespace), namespace)
    check_shadow(shadow, recommender, namespace)
    route = _ours(cluster, own_route(recommender), namespace) if cluster.schema(HTTP_ROUTE.api_version) else None
    there = ((HTTP_ROUTE, route), (INFERENCE_SERVICE, shadow), (INFERENCE_SERVICE, live))
    return [(kind, thing) for kind, thing in there if thing is not None]


def remove(recommender: str, cluster: Cluster, namespace: str, *, wait: bool = True) -> list[str]:
    """Delete what Endcap made for a recommender in a namespace; returns what it was.

    wait: until it is gone. Raises ClusterError where an InferenceService is someone else's, or is held back by a
    finalizer.
    """
    ours = find_ours(recommender, cluster, namespace)
    gone = [
        name_of(kind, thing)
        for kind, thing in ours
        if cluster.delete(kind, thing["metadata"]["name"], namespace, uid=_uid(thing))
    ]
    for kind, thing in ours:
        if wait and kind is INFERENCE_SERVICE:
            _wait_until_gone(cluster, thing, namespace)
    return gone


def name_of(kind: Kind, thing: Json) -> str:
    return f"{kind.name} {thing['metadata']['name']}"


def _uid(found: Json) -> str:
    return str(found["metadata"]["uid"])


def _wait_until_gone(cluster: Cluster, service: Json, namespace: str) -> None:
    name, end = service["metadata"]["name"], time.monotonic() + GONE_WITHIN
    while cluster.find(INFERENCE_SERVICE, name, namespace) is not None:
        if time.monotonic() > end:
            finalizers = service["metadata"].get("finalizers") or []
            held = ", ".join(finalizers) or "nothing that is known"
            raise ClusterError(
                f"InferenceService {name} is marked to be deleted, and held back by {held}",
                code="deploy.held-back",
                name=name,
                namespace=namespace,
                finalizers=finalizers,
            )
        time.sleep(0.5)


def _ours(cluster: Cluster, route: str, namespace: str) -> Json | None:
    try:
        found = cluster.every(HTTP_ROUTE, namespace, labels=SELECTOR, fields=f"metadata.name={route}")
    except ForbiddenError:
        return None  # Who may not write routes has made none.
    return found[0] if found else None
