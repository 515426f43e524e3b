"""The intake of the chart on a real API server: admitted, scheduled, each pod with a volume that outlives it.

KWOK's nodes run no containers: what the intake does is tested on processes, in tests/intake.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cluster.given import Cluster, eventually

CHART = str(Path(__file__).parents[2] / "charts" / "endcap")
PODS = ["endcap-intake-0", "endcap-intake-1"]
CLAIMS = [f"data-{pod}" for pod in PODS]
VALUES = [
    "--set=mlflow.enabled=false,gateway.enabled=false,kfp.enabled=false,serving.createNamespace=false",
    "--set=serving.runtime.enabled=false,tests.enabled=false",
    # Simulated pods take all of their grace to end.
    "--set=intake.drainSeconds=0,intake.endSeconds=5",
    "--set=intake.enabled=true,intake.shop=shop,intake.out=s3://endcap/intake,online.secretName=online",
]


@contextmanager
def volumes(cluster: Cluster, namespace: str) -> Iterator[None]:
    """Volumes for the claims, where the cluster makes none by itself."""
    if cluster.list("storageclasses"):
        yield
        return
    if cluster.plane is None:
        pytest.skip("the cluster has no StorageClass, and volumes would lie outside the tests' namespaces")
    names = [f"{namespace}-{claim}" for claim in CLAIMS]
    for claim, name in zip(CLAIMS, names, strict=True):
        spec = {
            "capacity": {"storage": "10Gi"},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "hostPath": {"path": f"/nonexistent/{name}"},
            "claimRef": {"namespace": namespace, "name": claim},
        }
        one = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": spec}
        cluster.kubectl("create", "-f", "-", stdin=json.dumps(one))
    try:
        yield
    finally:
        cluster.kubectl("delete", "persistentvolume", *names, "--wait=false")


def test_pods_are_admitted_and_scheduled_each_with_a_volume_that_stays(cluster: Cluster, namespace: str) -> None:
    if not cluster.simulated():
        pytest.skip("the cluster's nodes would run the pods, which need an image, a bucket and an online store")
    cluster.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    helm = ("-n", namespace)
    values = [*VALUES, f"--set=serving.namespace={namespace}"]
    with volumes(cluster, namespace):
        said = cluster.helm(*helm, "install", "endcap", CHART, *values, "--wait", "--timeout=120s").stdout
        assert f"kubectl -n {namespace} rollout status statefulset/endcap-intake" in said
        pods = cluster.list("pods", namespace, "app.kubernetes.io/component=intake")
        assert sorted(pod["metadata"]["name"] for pod in pods) == PODS
        for pod in pods:
            assert pod["spec"]["nodeName"]
            (claim,) = [
                one["persistentVolumeClaim"] for one in pod["spec"]["volumes"] if "persistentVolumeClaim" in one
            ]
            assert claim["claimName"] == f"data-{pod['metadata']['name']}"
        claims = {one["metadata"]["name"]: one for one in cluster.list("persistentvolumeclaims", namespace)}
        assert sorted(claims) == CLAIMS
        assert {one["status"]["phase"] for one in claims.values()} == {"Bound"}
        budget = eventually(lambda: cluster.get("pdb", "endcap-intake", namespace)["status"].get("currentHealthy"))
        assert budget == 2
        ready = eventually(lambda: addresses(cluster, namespace))
        assert ready == {"endcap-intake": 2, "endcap-intake-pods": 2}

        # A pod that goes comes back under its name, to its volume.
        before = {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in pods}
        cluster.kubectl("-n", namespace, "delete", "pod", PODS[0], "--grace-period=1", "--wait=false")
        eventually(lambda: cluster.get("pod", PODS[0], namespace)["metadata"]["uid"] != before[PODS[0]])
        eventually(lambda: cluster.get("statefulset", "endcap-intake", namespace)["status"]["readyReplicas"] == 2)

        # Fewer pods, and no release: the volumes stay.
        fewer = ("--set=intake.replicas=1", "--wait", "--timeout=120s")
        cluster.helm(*helm, "upgrade", "endcap", CHART, *values, *fewer)
        eventually(lambda: len(cluster.list("pods", namespace, "app.kubernetes.io/component=intake")) == 1, 120)
        cluster.helm(*helm, "uninstall", "endcap", "--wait", "--timeout=120s")
        kept = {one["metadata"]["name"]: one for one in cluster.list("persistentvolumeclaims", namespace)}
        assert {name: one["metadata"]["uid"] for name, one in kept.items()} == {
            name: one["metadata"]["uid"] for name, one in claims.items()
        }


def addresses(cluster: Cluster, namespace: str) -> dict[str, int]:
    """How many pods each Service of the intake has, once each has all."""
    found: dict[str, int] = {}
    for one in cluster.list("endpointslices", namespace):
        name = one["metadata"]["labels"]["kubernetes.io/service-name"]
        found[name] = found.get(name, 0) + len(one.get("endpoints") or [])
    return found if found and min(found.values()) == 2 else {}
