"""The RayCluster object, from which KubeRay makes a Ray cluster for one step."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from typing import Any

from endcap import devices
from endcap.cluster.kinds import RAY_CLUSTER
from endcap.cluster.own_pod import read_own_namespace
from endcap.cluster.security import make_container_security, make_pod_security
from endcap.errors import UserError
from endcap.registry.package import IMAGE
from endcap.spec.pod import Pod
from endcap.spec.search import RayCluster
from endcap.spec.settings import FitSettings
from endcap.store.pod_secret import MOUNTS, build_variables, build_volumes

Json = dict[str, Any]
MANAGED_BY, MANAGER = "app.kubernetes.io/managed-by", "endcap"
SELECTOR = f"{MANAGED_BY}={MANAGER},app.kubernetes.io/component=search"
EXPIRES = "endcap.dev/expires"
"""When no step can want the cluster any more. A later step removes expired clusters that a killed step left."""
CLIENT_PORT = 10001
_HEALTHY = "ray health-check --address"
_LONGEST = 30
"""Letters of the recommender's name in the cluster's name, which KubeRay lengthens."""


def name_cluster(settings: FitSettings, key: str) -> str:
    """Return the cluster's name: the same when a step is tried again, so that it finds and removes the cluster."""
    return f"{settings.name[:_LONGEST].rstrip('-')}-search-{key[:8]}"


def build_address(name: str, namespace: str) -> str:
    """Return the address by which a Ray client reaches the cluster."""
    return f"ray://{name}-head-svc.{namespace}.svc:{CLIENT_PORT}"


def build_ray_cluster(
    settings: FitSettings,
    spec: RayCluster,
    key: str,
    owner: Json | None,
    lifetime: timedelta,
    environment: Mapping[str, str],
) -> Json:
    """Build the object.

    Parameters
    ----------
    settings
        The step's settings.
    spec
        The cluster that the recommender asks for.
    key
        The step's key, which names the cluster.
    owner
        The step's pod, as `endcap.cluster.own_pod.build_owner_reference` returns it.
    lifetime
        How long the step may want the cluster.
    environment
        Further variables of its pods.

    Raises
    ------
    UserError
        Neither the spec nor the step says which image the pods run, or in which namespace.
    """
    namespace = resolve_namespace(spec)
    image = spec.image or os.environ.get(IMAGE)
    if not image:
        raise UserError(
            "search.cluster.image: none, and this is no step of a pipeline, whose image would be taken",
            code="search.no-image",
            setting="search.cluster.image",
        )
    secret = settings.secret
    metadata: Json = {
        "name": name_cluster(settings, key),
        "namespace": namespace,
        "labels": {
            "app.kubernetes.io/name": settings.name,
            MANAGED_BY: MANAGER,
            "app.kubernetes.io/part-of": "endcap",
            "app.kubernetes.io/component": "search",
        },
        "annotations": {EXPIRES: (datetime.now(UTC) + lifetime).isoformat(timespec="seconds")},
    }
    if owner is not None:
        metadata["ownerReferences"] = [owner]
    head = _build_pod(spec.head, image, secret, environment, "ray-head", f"{_HEALTHY} localhost:6379")
    head["spec"]["containers"][0]["ports"] = [
        {"containerPort": port, "name": name} for name, port in (("gcs-server", 6379), ("client", CLIENT_PORT))
    ]
    worker = _build_pod(spec.worker, image, secret, environment, "ray-worker", f"{_HEALTHY} ${{FQ_RAY_IP}}:6379")
    return {
        "apiVersion": RAY_CLUSTER.api_version,
        "kind": RAY_CLUSTER.name,
        "metadata": metadata,
        "spec": {
            "rayVersion": version("ray"),
            # Trials run on the workers; the head must not lack memory.
            "headGroupSpec": {"rayStartParams": {"num-cpus": "0", "include-dashboard": "false"}, "template": head},
            "workerGroupSpecs": [
                {
                    "groupName": "trials",
                    "replicas": spec.workers,
                    "minReplicas": spec.workers,
                    "maxReplicas": spec.workers,
                    "rayStartParams": {},
                    "template": worker,
                }
            ],
        },
    }


def resolve_namespace(spec: RayCluster) -> str:
    """Return the namespace of the cluster.

    Raises
    ------
    UserError
        Neither the spec nor a pod says it.
    """
    namespace = spec.namespace or read_own_namespace()
    if namespace is None:
        raise UserError(
            "the Ray cluster's namespace: none, and this runs in no pod, whose namespace would be taken; set "
            "cluster.namespace beside the cluster's other keys",
            code="search.no-namespace",
            setting="cluster.namespace",
        )
    return namespace


def _build_pod(pod: Pod, image: str, secret: str, environment: Mapping[str, str], name: str, healthy: str) -> Json:
    cpu, memory = pod.cpu or "1", pod.memory or "2Gi"
    limits = {"cpu": pod.cpu_limit or cpu, "memory": pod.memory_limit or memory}
    requests = {"cpu": cpu, "memory": memory}
    if pod.gpu is not None and pod.gpu.count:
        limits[pod.gpu.resource] = requests[pod.gpu.resource] = str(pod.gpu.count)
    gpus = devices.make_gpu_variables(pod.gpu)
    # KubeRay's own probes ask the dashboard, with a program that the image lacks.
    probe = {
        "exec": {"command": ["/bin/sh", "-c", healthy]},
        "periodSeconds": 15,
        "timeoutSeconds": 15,
        "failureThreshold": 20,
    }
    container: Json = {
        "name": name,
        "image": image,
        "env": [
            *build_variables(secret),
            {"name": "RAY_USAGE_STATS_ENABLED", "value": "0"},
            {"name": "RAY_CHDIR_TO_TRIAL_DIR", "value": "0"},
            *({"name": variable, "value": value} for variable, value in {**gpus, **environment}.items()),
        ],
        "resources": {"requests": requests, "limits": limits},
        "readinessProbe": probe,
        "livenessProbe": probe,
        # KubeRay also gives it to the init container of a worker.
        "securityContext": make_container_security(),
        "volumeMounts": [
            *MOUNTS,
            {"name": "shared-memory", "mountPath": "/dev/shm"},  # noqa: S108 - of the pod's own
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - of the pod's own
        ],
    }
    spec: Json = {
        "automountServiceAccountToken": False,
        "securityContext": make_pod_security(),
        "containers": [container],
        "volumes": [
            *build_volumes(secret),
            {"name": "shared-memory", "emptyDir": {"medium": "Memory"}},
            {"name": "tmp", "emptyDir": {}},
        ],
    }
    if pod.nodeSelector:
        spec["nodeSelector"] = dict(pod.nodeSelector)
    if pod.runtimeClassName:
        spec["runtimeClassName"] = pod.runtimeClassName
    if bears := pod.borne():
        spec["tolerations"] = [toleration.model_dump(exclude_none=True) for toleration in bears]
    return {"spec": spec}
