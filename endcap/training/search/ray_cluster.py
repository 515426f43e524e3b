"""Where Ray is: on this machine, at an address, or in a cluster of the search's own, which goes when it ends."""

from __future__ import annotations

import contextlib
import secrets
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from endcap.cluster import Cluster, ForbiddenError, connect
from endcap.cluster.kinds import POD, RAY_CLUSTER
from endcap.errors import ClusterError, EndcapError, UserError
from endcap.processes import inherited
from endcap.spec.base import format_duration
from endcap.spec.search import RayCluster, Search
from endcap.spec.settings import FitSettings, TrainSettings
from endcap.spec.training import Training
from endcap.store import Store
from endcap.training.search.budget import finish_of
from endcap.training.search.kuberay import (
    EXPIRES,
    SELECTOR,
    address_of,
    namespace_of,
    own_namespace,
    owner_of,
    ray_cluster,
)
from endcap.training.search.process import NICE, authentication
from endcap.training.search.process import ended_by_signal as ended_by_signal

Json = dict[str, Any]
Progress = Callable[[str], None]
_LOOK = 2.0
"""Seconds between two looks at a cluster that is being made."""
_GONE_WITHIN = 30.0
_SPARE = timedelta(minutes=30)


def is_here(address: str) -> bool:
    """Whether a Ray cluster's address is of this machine."""
    host = address.rpartition("://")[2].rpartition(":")[0].strip("[]")
    return address in ("auto", "local") or host in ("localhost", "::1") or host.startswith("127.")


def refuse_own_folder(section: str, asked: Search | Training, store: Store) -> None:
    """Raise UserError where other machines are to read a store that is a folder of this one.

    section: of the recommender, for the words.
    """
    if not store.root.startswith("file://"):
        return
    if asked.cluster is None and (asked.address is None or is_here(asked.address)):
        return
    key = "cluster" if asked.cluster is not None else "address"
    raise UserError(
        f"{section}.{key}: other machines than this one, and the store is a folder, {store.root}, which they cannot "
        f"read; give the step a store such as s3://bucket/prefix (--store, ENDCAP_STORE), or leave {section}.{key} out",
        code="search.store-is-a-folder",
        setting=f"{section}.{key}",
        store=store.root,
    )


@contextlib.contextmanager
def cluster_of(settings: TrainSettings, key: str, progress: Progress) -> Iterator[str | None]:
    """The address of the Ray cluster that the recommender's search uses; None: one is to be started here.

    Raises ClusterError where a cluster of its own is not ready in time, with what keeps it.
    """
    search = settings.search
    if search is None or search.cluster is None:
        yield None if search is None else search.address
        return
    lives = search.time_budget + finish_of(search) + search.cluster.ready_within + _SPARE
    with own_cluster(connect(), settings, search.cluster, key, lives, progress, nice=search.nice) as address:
        yield address


@contextlib.contextmanager
def own_cluster(
    cluster: Cluster,
    settings: FitSettings,
    wanted: RayCluster,
    key: str,
    lives: timedelta,
    progress: Progress,
    look: float = _LOOK,
    nice: int = 0,
) -> Iterator[str]:
    """Make a Ray cluster, wait until it is ready, and remove it when the block ends, at an error and SIGTERM too.

    A kill -9 of the step's pod is seen by Kubernetes, since the pod owns the cluster where both are in one namespace;
    elsewhere the same step removes it when it is tried again, and any later search what has expired.
    """
    namespace = namespace_of(wanted)
    known = authentication(secrets.token_hex(32))
    environment = known | {NICE: str(nice)}
    thing = ray_cluster(settings, wanted, key, owner_of(_own_pod(cluster), namespace), lives, environment)
    name = thing["metadata"]["name"]
    _remove_expired(cluster, namespace, progress)
    # What a killed attempt has left has another token.
    _remove(cluster, name, namespace, progress)
    with ended_by_signal(), inherited(known):
        try:
            cluster.apply(thing, force=True)
            progress(f"RayCluster {name} in namespace {namespace}: waiting for its {wanted.workers} workers")
            _wait(cluster, name, namespace, wanted, look, progress)
            yield address_of(name, namespace)
        finally:
            with _undisturbed():
                _remove(cluster, name, namespace, progress)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """A further SIGTERM, as whoever waits for the first may send it, does not cut the removal off."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda number, frame: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _own_pod(cluster: Cluster) -> Json | None:
    """The pod that this runs in; None outside of pods, or where it may not be looked at.

    A pod's host name is its name, cut where that is longer than a host name may be; then the address tells.
    """
    namespace, host = own_namespace(), socket.gethostname()
    if namespace is None:
        return None
    try:
        if found := cluster.find(POD, host, namespace):
            return found
        pods = cluster.every(POD, namespace)
        own = socket.gethostbyname(host)
    except (ForbiddenError, OSError):
        return None
    alike = [one for one in pods if one["metadata"]["name"].startswith(host)]
    return next((one for one in alike if (one.get("status") or {}).get("podIP") == own), None)


def _wait(cluster: Cluster, name: str, namespace: str, wanted: RayCluster, look: float, progress: Progress) -> None:
    end = time.monotonic() + wanted.ready_within.total_seconds()
    told = ""
    while True:
        live = cluster.get(RAY_CLUSTER, name, namespace)
        status = live.get("status") or {}
        if status.get("state") == "ready" and status.get("readyWorkerReplicas", 0) >= wanted.workers:
            return
        why = _why_not(cluster, live)
        if why and why != told:
            progress(f"RayCluster {name}: {why}")
            told = why
        if time.monotonic() > end:
            raise ClusterError(
                f"the RayCluster {name} in namespace {namespace} was not ready within "
                f"{format_duration(wanted.ready_within)} (search.cluster.ready_within): "
                f"{why or 'nothing is seen of it; is KubeRay installed, and does it look at this namespace?'}",
                code="search.cluster-not-ready",
                name=name,
                namespace=namespace,
                limit=format_duration(wanted.ready_within),
                reason=why or None,
            )
        time.sleep(look)


def _why_not(cluster: Cluster, live: Json) -> str:
    """What is seen to keep a Ray cluster from being ready."""
    name, namespace = live["metadata"]["name"], live["metadata"]["namespace"]
    status = live.get("status") or {}
    found = [status["reason"]] if status.get("reason") else []
    found += [
        f"{one['type']}: {one['message']}"
        for one in status.get("conditions") or []
        if one.get("status") == "False" and one.get("message")
    ]
    try:
        pods = cluster.every(POD, namespace, labels=f"ray.io/cluster={name}")
    except ForbiddenError:
        pods = []
    for pod in pods:
        found += [f"{pod['metadata']['name']}: {words}" for words in _troubles(pod.get("status") or {})]
    return "; ".join(found[:3])


def _troubles(status: Json) -> Iterator[str]:
    for one in status.get("conditions") or []:
        if one.get("type") == "PodScheduled" and one.get("reason") == "Unschedulable":
            yield f"no node takes it: {one.get('message', '')}"
    for one in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        waiting = (one.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
            yield f"{waiting['reason']} {waiting.get('message', '')}".strip()


def _remove_expired(cluster: Cluster, namespace: str, progress: Progress) -> None:
    for one in cluster.every(RAY_CLUSTER, namespace, labels=SELECTOR):
        expires = (one["metadata"].get("annotations") or {}).get(EXPIRES, "")
        with contextlib.suppress(ValueError):
            if expires and datetime.fromisoformat(expires) < datetime.now(UTC):
                _remove(cluster, one["metadata"]["name"], namespace, progress)


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
