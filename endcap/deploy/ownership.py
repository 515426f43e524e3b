"""Which objects of a cluster are Endcap's. It changes and removes no others."""

from __future__ import annotations

import time
from typing import Any

from endcap.cluster import Cluster, ForbiddenError
from endcap.cluster.kinds import HTTP_ROUTE, INFERENCE_SERVICE, ObjectKind
from endcap.deploy.object_names import name_own_route, name_side_service
from endcap.deploy.transitions import read_annotations
from endcap.deploy.variants import MANAGED_BY, MANAGER, SELECTOR, SIDE_ROLES, SideRole, name_owner_mark
from endcap.errors import ClusterError

Json = dict[str, Any]
GONE_WITHIN = 60.0
"""Seconds for what is deleted to be gone."""


def check_ownership(live: Json | None, namespace: str, kind: ObjectKind = INFERENCE_SERVICE) -> None:
    """Raise ClusterError if an object is someone else's. `--force` does not change that."""
    if live is None:
        return
    name = live["metadata"]["name"]
    if (live["metadata"].get("labels") or {}).get(MANAGED_BY) != MANAGER:
        raise ClusterError(
            f"the {kind.name} {name} in namespace {namespace} is one that Endcap did not make, so Endcap does not "
            f"change it. Rename the recommender, use another namespace, delete the object, or hand it over to Endcap: "
            f"kubectl label {kind.name.lower()} {name} -n {namespace} {MANAGED_BY}={MANAGER}, then deploy with --force",
            code="deploy.not-ours",
            kind=kind.name,
            name=name,
            namespace=namespace,
        )


def check_not_terminating(live: Json | None, namespace: str) -> None:
    """Raise ClusterError if the object is being deleted."""
    if live is not None and live["metadata"].get("deletionTimestamp"):
        name = live["metadata"]["name"]
        raise ClusterError(
            f"InferenceService {name} in namespace {namespace} is being deleted. Wait until it is gone, then deploy "
            "again",
            code="deploy.being-deleted",
            name=name,
            namespace=namespace,
        )


def check_side(live: Json | None, recommender: str, namespace: str, role: SideRole) -> None:
    """Raise ClusterError if an InferenceService is not this recommender's in this role, also with `--force`."""
    check_ownership(live, namespace)
    if live is not None and read_annotations(live).get(name_owner_mark(role)) != recommender:
        name = live["metadata"]["name"]
        raise ClusterError(
            f"InferenceService {name} in namespace {namespace} is not the {role} of {recommender}, so Endcap does "
            "not change it",
            code="deploy.foreign-side",
            role=role,
            name=name,
            namespace=namespace,
            recommender=recommender,
        )


def find_objects(recommender: str, cluster: Cluster, namespace: str) -> list[tuple[ObjectKind, Json]]:
    """Find the objects that Endcap made for a recommender in a namespace, in the order of their removal.

    Raises ClusterError if an InferenceService of its name is someone else's.
    """
    service = cluster.find(INFERENCE_SERVICE, recommender, namespace)
    check_ownership(service, namespace)
    sides = {
        role: cluster.find(INFERENCE_SERVICE, name_side_service(recommender, namespace, role), namespace)
        for role in SIDE_ROLES
    }
    for role, side in sides.items():
        check_side(side, recommender, namespace, role)
    route = (
        _find_own_route(cluster, name_own_route(recommender), namespace)
        if cluster.schema(HTTP_ROUTE.api_version)
        else None
    )
    services = ((INFERENCE_SERVICE, thing) for thing in (*sides.values(), service))
    candidates = ((HTTP_ROUTE, route), *services)
    return [(kind, thing) for kind, thing in candidates if thing is not None]


def delete_objects(recommender: str, cluster: Cluster, namespace: str, *, wait: bool = True) -> list[str]:
    """Delete the objects that Endcap made for a recommender in a namespace.

    Parameters
    ----------
    recommender, cluster, namespace
        Whose objects, and where.
    wait
        Wait until they are gone.

    Returns
    -------
    list of str
        Descriptions of the deleted objects.

    Raises
    ------
    ClusterError
        An InferenceService is someone else's, or a finalizer holds it back.
    """
    ours = find_objects(recommender, cluster, namespace)
    gone = [
        describe_object(kind, thing)
        for kind, thing in ours
        if cluster.delete(kind, thing["metadata"]["name"], namespace, uid=_uid(thing))
    ]
    for kind, thing in ours:
        if wait and kind is INFERENCE_SERVICE:
            wait_until_gone(cluster, thing, namespace)
    return gone


def describe_object(kind: ObjectKind, thing: Json) -> str:
    return f"{kind.name} {thing['metadata']['name']}"


def _uid(live: Json) -> str:
    return str(live["metadata"]["uid"])


def wait_until_gone(cluster: Cluster, service: Json, namespace: str) -> None:
    """Wait for the end of an InferenceService. Raises ClusterError if a finalizer holds it back."""
    name, end = service["metadata"]["name"], time.monotonic() + GONE_WITHIN
    while cluster.find(INFERENCE_SERVICE, name, namespace) is not None:
        if time.monotonic() > end:
            finalizers = service["metadata"].get("finalizers") or []
            held = ", ".join(finalizers) or "nothing that is known"
            raise ClusterError(
                f"InferenceService {name} is marked for deletion, but {held} still holds it",
                code="deploy.held-back",
                name=name,
                namespace=namespace,
                finalizers=finalizers,
            )
        time.sleep(0.5)


def _find_own_route(cluster: Cluster, route: str, namespace: str) -> Json | None:
    try:
        routes = cluster.list_objects(HTTP_ROUTE, namespace, labels=SELECTOR, fields=f"metadata.name={route}")
    except ForbiddenError:
        return None  # Who may not write routes has made none.
    return routes[0] if routes else None
