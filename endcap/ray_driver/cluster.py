"""Provides Ray: on this machine, at an address, or in a Ray cluster that is made for one step."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from endcap.cluster import Cluster, ForbiddenError, connect
from endcap.cluster.kinds import POD, RAY_CLUSTER
from endcap.cluster.own_pod import build_owner_reference, find_own_pod
from endcap.cluster.pod_faults import list_pod_faults
from endcap.errors import ClusterError, EndcapError, UserError
from endcap.processes import exit_on_sigterm, ignore_sigterm, share_variables
from endcap.ray_driver.kuberay import (
    EXPIRES,
    SELECTOR,
    build_address,
    build_ray_cluster,
    resolve_namespace,
)
from endcap.ray_driver.process import NICE, make_token_variables
from endcap.spec.base import format_duration
from endcap.spec.search import RayCluster, SearchSpec
from endcap.spec.settings import FitSettings
from endcap.spec.training import TrainingSpec
from endcap.store import Store

Json = dict[str, Any]
Progress = Callable[[str], None]
_LOOK = 2.0
"""Seconds between two looks at a cluster that is being made."""
_GONE_WITHIN = 30.0


def is_here(address: str) -> bool:
    """Whether the address of a Ray cluster is one of this machine."""
    host = address.rpartition("://")[2].rpartition(":")[0].strip("[]")
    return address in ("auto", "local") or host in ("localhost", "::1") or host.startswith("127.")


def refuse_own_folder(section: str, spec: SearchSpec | TrainingSpec, store: Store) -> None:
    """Raise UserError if other machines have to read a store that is a folder of this machine.

    Parameters
    ----------
    section
        The recommender's section, for the message.
    spec
        That section.
    store
        The store.
    """
    if not store.root.startswith("file://"):
        return
    if spec.cluster is None and (spec.address is None or is_here(spec.address)):
        return
    key = "cluster" if spec.cluster is not None else "address"
    raise UserError(
        f"{section}.{key}: other machines than this one, and the store is a folder, {store.root}, which they cannot "
        f"read; give the step a store such as s3://bucket/prefix (--store, ENDCAP_STORE), or leave {section}.{key} out",
        code="search.store-is-a-folder",
        setting=f"{section}.{key}",
        store=store.root,
    )


@contextlib.contextmanager
def provide_address(
    settings: FitSettings,
    spec: SearchSpec | TrainingSpec,
    key: str,
    lifetime: timedelta,
    progress: Progress,
    nice: int = 0,
) -> Iterator[str | None]:
    """Yield the address of the Ray cluster that a section of the recommender asks for; None: Ray runs on this machine.

    Parameters
    ----------
    settings
        The step's.
    spec
        The section: a cluster of its own, which is removed when the block ends; the address of another; or neither.
    key
        The step's key: the same step finds and removes the cluster that an attempt before left.
    lifetime
        How long the step may want a cluster of its own.
    progress
        Takes lines for people.
    nice
        See `RayProcess`.

    Raises
    ------
    ClusterError
        A cluster of its own is not ready in time; the message says what keeps it.
    """
    if spec.cluster is None:
        yield spec.address
        return
    with make_cluster(connect(), settings, spec.cluster, key, lifetime, progress, nice=nice) as address:
        yield address


@contextlib.contextmanager
def make_cluster(
    cluster: Cluster,
    settings: FitSettings,
    spec: RayCluster,
    key: str,
    lifetime: timedelta,
    progress: Progress,
    look: float = _LOOK,
    nice: int = 0,
) -> Iterator[str]:
    """Make a Ray cluster, wait until it is ready, yield its address, and remove it when the block ends.

    It is removed at an error and at SIGTERM, too. If kill -9 ends the step's pod, Kubernetes removes the cluster, as
    long as both are in one namespace: the pod owns it. Otherwise the same step removes it when it is tried again, and
    any later step removes expired clusters.

    Parameters
    ----------
    cluster
        The connection to Kubernetes.
    settings
        The step's settings.
    spec
        The cluster that the recommender asks for.
    key
        The step's key.
    lifetime
        How long the step may need the cluster.
    progress
        Takes lines for people.
    look
        Seconds between two looks at the cluster.
    nice
        See `RayProcess`.

    Raises
    ------
    ClusterError
        The cluster is not ready in time; the message says why.
    """
    namespace = resolve_namespace(spec)
    token = make_token_variables(secrets.token_hex(32))
    environment = token | {NICE: str(nice)}
    owner = build_owner_reference(find_own_pod(cluster), namespace)
    thing = build_ray_cluster(settings, spec, key, owner, lifetime, environment)
    name = thing["metadata"]["name"]
    _remove_expired(cluster, namespace, progress)
    # What a killed attempt has left has another token.
    _remove(cluster, name, namespace, progress)
    with exit_on_sigterm(), share_variables(token):
        try:
            cluster.apply(thing, force=True)
            progress(f"RayCluster {name} in namespace {namespace}: waiting for its {spec.workers} workers")
            _wait(cluster, name, namespace, spec, look, progress)
            yield build_address(name, namespace)
        finally:
            with ignore_sigterm():
                _remove(cluster, name, namespace, progress)


def _wait(cluster: Cluster, name: str, namespace: str, spec: RayCluster, look: float, progress: Progress) -> None:
    end = time.monotonic() + spec.ready_within.total_seconds()
    last_reason = ""
    while True:
        live = cluster.get(RAY_CLUSTER, name, namespace)
        status = live.get("status") or {}
        if status.get("state") == "ready" and status.get("readyWorkerReplicas", 0) >= spec.workers:
            return
        reason = _explain(cluster, live)
        if reason and reason != last_reason:
            progress(f"RayCluster {name}: {reason}")
            last_reason = reason
        if time.monotonic() > end:
            raise ClusterError(
                f"the RayCluster {name} in namespace {namespace} was not ready within "
                f"{format_duration(spec.ready_within)} (search.cluster.ready_within): "
                f"{reason or 'nothing is seen of it; is KubeRay installed, and does it look at this namespace?'}",
                code="search.cluster-not-ready",
                name=name,
                namespace=namespace,
                limit=format_duration(spec.ready_within),
                reason=reason or None,
            )
        time.sleep(look)


def _explain(cluster: Cluster, live: Json) -> str:
    """Return what keeps a Ray cluster from being ready, as far as Kubernetes says it."""
    name, namespace = live["metadata"]["name"], live["metadata"]["namespace"]
    status = live.get("status") or {}
    reasons = [status["reason"]] if status.get("reason") else []
    reasons += [
        f"{condition['type']}: {condition['message']}"
        for condition in status.get("conditions") or []
        if condition.get("status") == "False" and condition.get("message")
    ]
    try:
        pods = cluster.list_objects(POD, namespace, labels=f"ray.io/cluster={name}")
    except ForbiddenError:
        pods = []
    for pod in pods:
        reasons += list_pod_faults(pod)
    return "; ".join(reasons[:3])


def _remove_expired(cluster: Cluster, namespace: str, progress: Progress) -> None:
    for thing in cluster.list_objects(RAY_CLUSTER, namespace, labels=SELECTOR):
        expires = (thing["metadata"].get("annotations") or {}).get(EXPIRES, "")
        with contextlib.suppress(ValueError):
            if expires and datetime.fromisoformat(expires) < datetime.now(UTC):
                _remove(cluster, thing["metadata"]["name"], namespace, progress)


def _remove(cluster: Cluster, name: str, namespace: str, progress: Progress) -> None:
    try:
        if not cluster.delete(RAY_CLUSTER, name, namespace):
            return
        end = time.monotonic() + _GONE_WITHIN
        while cluster.find(RAY_CLUSTER, name, namespace) is not None and time.monotonic() < end:
            time.sleep(0.2)
        progress(f"RayCluster {name} is removed")
    except EndcapError as error:
        progress(f"warning: RayCluster {name} in namespace {namespace} could not be removed: {error}")
