"""The chart on a real API server: its life as a release, and what its accounts, policies and hooks come to.

KWOK's nodes run no containers: that pods are admitted, scheduled and bound to their volume is real, that they turn
ready is simulated. A cluster with real nodes needs the image: ENDCAP_TEST_IMAGE=repository:tag names it.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from endcap.deploy.variants import make_labels
from tests.cluster.given import Cluster, eventually

CHART = str(Path(__file__).parents[2] / "charts" / "endcap")
IMAGE = os.environ.get("ENDCAP_TEST_IMAGE", "")
NOT_OURS = {"configmap/kube-root-ca.crt", "serviceaccount/default"}
"""What Kubernetes itself puts into every namespace."""
TO_POSTGRESQL = (
    "--set=mlflow.backend.type=postgresql",
    "--set=mlflow.backend.postgresql.existingSecret=mlflow-db",
    "--set=mlflow.artifacts.type=s3",
    "--set=mlflow.artifacts.destination=s3://endcap/mlflow",
)
Json = dict[str, Any]


class Release:
    """A release `endcap` in a namespace, with serving in another that the chart makes."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.cluster, self.namespace, self.serving = cluster, namespace, f"{namespace}-serving"
        repository, _, tag = IMAGE.rpartition(":")
        self._values = [
            f"--set=serving.namespace={self.serving}",
            f"--set=kfp.serviceAccount.namespace={namespace}",
            *([f"--set=image.repository={repository}", f"--set=image.tag={tag}"] if IMAGE else []),
        ]

    def install(self, *values: str) -> str:
        return self._helm("install", "endcap", CHART, *self._values, *values, "--wait", "--timeout=120s")

    def upgrade(self, *values: str, wait: bool = True) -> str:
        waits = ("--wait", "--timeout=120s") if wait else ()
        return self._helm("upgrade", "endcap", CHART, *self._values, *values, *waits)

    def rollback(self, revision: int) -> None:
        self._helm("rollback", "endcap", str(revision), "--wait", "--timeout=120s")

    def uninstall(self) -> str:
        return self._helm("uninstall", "endcap", "--wait", "--timeout=120s")

    def claim(self) -> tuple[str, str, str]:
        """Of MLflow's data: identity, volume, phase."""
        claim = self.cluster.get("persistentvolumeclaim", "endcap-mlflow", self.namespace)
        return claim["metadata"]["uid"], claim["spec"].get("volumeName", ""), claim["status"]["phase"]

    def server(self) -> Json:
        return dict(self.cluster.get("deployment", "endcap-mlflow", self.namespace)["spec"])

    def may(self, account: str, verb: str, resource: str, namespace: str) -> bool:
        """Whether an account of the release's namespace may, as the API server itself says."""
        user = f"system:serviceaccount:{self.namespace}:{account}"
        where = ("--all-namespaces",) if namespace == "*" else ("-n", namespace)
        resource, _, part = resource.partition("/")
        asked = (verb, resource, f"--subresource={part}")
        said = self.cluster.kubectl("auth", "can-i", *asked, "--as", user, *where, check=False)
        assert said.stdout.strip() in ("yes", "no"), said.stderr
        return said.stdout.strip() == "yes"

    def _helm(self, *words: str) -> str:
        return self.cluster.helm("-n", self.namespace, *words).stdout


@pytest.fixture(scope="module")
def simulated(cluster: Cluster) -> bool:
    """Whether nodes are KWOK's, on which no image is pulled and no container runs."""
    kwok = cluster.simulated()
    if not kwok and not IMAGE:
        pytest.skip("the cluster's nodes would run the pods: name an image that they can pull by ENDCAP_TEST_IMAGE")
    return kwok


@pytest.fixture(scope="module")
def release(cluster: Cluster, module_namespace: str, simulated: bool) -> Iterator[Release]:
    """One release for the tests that change nothing that others read."""
    cluster.kubectl("create", "serviceaccount", "pipeline-runner", "-n", module_namespace)
    with volume(cluster, module_namespace):
        made = Release(cluster, prepared(cluster, module_namespace))
        made.install()
        try:
            yield made
        finally:
            made.uninstall()


def prepared(cluster: Cluster, namespace: str) -> str:
    """Under the restricted Pod Security Standard."""
    cluster.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    return namespace


@contextmanager
def volume(cluster: Cluster, namespace: str) -> Iterator[None]:
    """A volume for the release's claim, where the cluster makes none by itself."""
    if cluster.list("storageclasses"):
        yield
        return
    if cluster.plane is None:
        pytest.skip("the cluster has no StorageClass, and a volume would lie outside the tests' namespaces")
    name = f"{namespace}-mlflow"
    spec = {
        "capacity": {"storage": "10Gi"},
        "accessModes": ["ReadWriteOnce"],
        "persistentVolumeReclaimPolicy": "Retain",
        "hostPath": {"path": f"/nonexistent/{name}"},
        "claimRef": {"namespace": namespace, "name": "endcap-mlflow"},
    }
    one = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": spec}
    cluster.kubectl("create", "-f", "-", stdin=json.dumps(one))
    try:
        yield
    finally:
        cluster.kubectl("delete", "persistentvolume", name, "--wait=false")


def everything_in(cluster: Cluster, namespace: str) -> set[str]:
    """Every object of a namespace, of whatever kind, but for events."""
    kinds = cluster.kubectl("api-resources", "--namespaced", "--verbs=list", "-o", "name").stdout.split()
    kinds = [kind for kind in kinds if not kind.startswith("events") and not kind.endswith("metrics.k8s.io")]
    said = cluster.kubectl("-n", namespace, "get", ",".join(kinds), "-o", "name", "--ignore-not-found").stdout
    return set(said.split())


def cluster_wide(cluster: Cluster, instance: str = "app.kubernetes.io/part-of=endcap") -> set[str]:
    kinds = cluster.kubectl("api-resources", "--namespaced=false", "--verbs=list", "-o", "name").stdout.split()
    said = cluster.kubectl("get", ",".join(kinds), "-l", instance, "-o", "name", "--ignore-not-found").stdout
    return set(said.split())


def test_data_outlives_upgrade_rollback_and_uninstall(cluster: Cluster, namespace: str, simulated: bool) -> None:
    before = everything_in(cluster, namespace)
    release = Release(cluster, prepared(cluster, namespace))
    with volume(cluster, namespace):
        said = release.install()
        assert f"kubectl -n {namespace} delete persistentvolumeclaim endcap-mlflow" in said
        claim = release.claim()
        assert claim[2] == "Bound"

        release.upgrade("--set=gateway.replicas=3", "--set=mlflow.workers=3")
        assert cluster.get("deployment", "endcap-gateway", namespace)["status"]["readyReplicas"] == 3
        assert release.claim() == claim
        if simulated:  # A real server would look for that database.
            release.upgrade(*TO_POSTGRESQL)
            assert release.server()["strategy"]["type"] == "RollingUpdate"
            assert release.claim() == claim  # Nothing uses it, and it is there.
        release.rollback(1)
        assert release.claim() == claim
        server = release.server()
        assert server["strategy"] == {"type": "Recreate"}
        assert server["template"]["spec"]["volumes"][1]["persistentVolumeClaim"]["claimName"] == "endcap-mlflow"

        release.uninstall()
        left = eventually(lambda: _settled(everything_in(cluster, namespace)), 60)
        assert left - before - NOT_OURS == {"persistentvolumeclaim/endcap-mlflow"}
        assert f"namespace/{release.serving}" not in cluster_wide(cluster)

        release.install()
        assert release.claim() == claim  # The same release takes it up again.
        release.uninstall()


def _settled(found: set[str]) -> set[str]:
    """What is there once the garbage collector has taken pods and their sets away."""
    going = {one for one in found if one.startswith(("pod/", "replicaset", "endpoint", "controllerrevision"))}
    return set() if going else found


def test_pods_are_admitted_under_the_restricted_standard(release: Release, cluster: Cluster) -> None:
    pods = cluster.list("pods", release.namespace, "app.kubernetes.io/part-of=endcap")
    assert {pod["metadata"]["labels"]["app.kubernetes.io/component"] for pod in pods} == {"mlflow", "gateway"}
    for pod in pods:
        ready = {one["type"]: one["status"] for one in pod["status"]["conditions"]}["Ready"]
        assert (pod["status"]["phase"], ready) == ("Running", "True")
    # The namespaces do enforce it: a pod that asks for more is refused.
    for namespace in (release.namespace, release.serving):
        words = ("-n", namespace, "run", "root", "--image=x", "--dry-run=server")
        said = cluster.kubectl(*words, check=False)
        assert 'violates PodSecurity "restricted' in said.stderr


WRONG = {
    "mlflow.backend.type=mysql": "at '/mlflow/backend/type': value must be one of 'sqlite', 'postgresql'",
    "gatway.replicas=1": "additional properties 'gatway' not allowed",
    "mlflow.replicas=2": "mlflow.replicas: found 2, and mlflow.backend.type is sqlite; allowed: 1",
}


def test_wrong_values_leave_nothing_behind(cluster: Cluster, namespace: str) -> None:
    before = everything_in(cluster, namespace)
    for value, says in WRONG.items():
        refused = cluster.helm("-n", namespace, "install", "endcap", CHART, f"--set={value}", check=False)
        assert refused.returncode
        assert says in refused.stderr
    assert everything_in(cluster, namespace) - before - NOT_OURS == set()


RIGHTS = [
    # account, verb, resource, where, allowed
    ("pipeline-runner", "create", "inferenceservices.serving.kserve.io", "serving", True),
    ("pipeline-runner", "patch", "inferenceservices.serving.kserve.io", "serving", True),
    ("pipeline-runner", "watch", "pods", "serving", True),
    ("pipeline-runner", "list", "events", "serving", True),
    ("pipeline-runner", "list", "deployments.apps", "serving", True),
    ("pipeline-runner", "patch", "deployments.apps", "serving", False),
    ("pipeline-runner", "get", "routes.serving.knative.dev", "serving", True),
    ("pipeline-runner", "list", "httproutes.gateway.networking.k8s.io", "serving", True),
    ("pipeline-runner", "delete", "inferenceservices.serving.kserve.io", "serving", False),
    ("pipeline-runner", "create", "httproutes.gateway.networking.k8s.io", "serving", False),
    ("pipeline-runner", "get", "servingruntimes.serving.kserve.io", "serving", True),
    ("pipeline-runner", "patch", "servingruntimes.serving.kserve.io", "serving", False),
    ("pipeline-runner", "get", "secrets", "serving", False),
    ("pipeline-runner", "create", "pods", "serving", False),
    ("pipeline-runner", "get", "pods/log", "serving", False),
    ("pipeline-runner", "create", "pods/exec", "serving", False),
    ("pipeline-runner", "create", "rolebindings.rbac.authorization.k8s.io", "serving", False),
    ("pipeline-runner", "patch", "inferenceservices.serving.kserve.io", "release", False),
    ("pipeline-runner", "patch", "inferenceservices.serving.kserve.io", "default", False),
    ("pipeline-runner", "list", "nodes", "*", False),
    ("endcap-gateway", "watch", "inferenceservices.serving.kserve.io", "serving", True),
    ("endcap-gateway", "patch", "inferenceservices.serving.kserve.io", "serving", False),
    ("endcap-gateway", "list", "pods", "serving", False),
    ("endcap-gateway", "list", "inferenceservices.serving.kserve.io", "*", False),
    ("endcap-mlflow", "get", "secrets", "release", False),
    ("endcap-mlflow", "list", "pods", "release", False),
]


def test_accounts_may_do_what_they_need_and_no_more(release: Release) -> None:
    places = {"serving": release.serving, "release": release.namespace}
    wrong = [
        f"{account} {verb} {resource} in {where}: {'refused' if allowed else 'allowed'}"
        for account, verb, resource, where, allowed in RIGHTS
        if release.may(account, verb, resource, places.get(where, where)) != allowed
    ]
    assert wrong == []


def test_kfps_account_writes_an_inferenceservice_and_is_refused_the_rest(release: Release, cluster: Cluster) -> None:
    user = f"--as=system:serviceaccount:{release.namespace}:pipeline-runner"
    cluster.needs("inferenceservices.serving.kserve.io")
    service = json.dumps(inference_service("asked", release.serving))
    apply = (user, "apply", "--server-side", "--dry-run=server", "-f", "-")
    assert "asked serverside-applied" in cluster.kubectl(*apply, stdin=service).stdout
    elsewhere = cluster.kubectl(*apply, stdin=json.dumps(inference_service("asked", release.namespace)), check=False)
    assert 'cannot patch resource "inferenceservices"' in elsewhere.stderr
    secrets = cluster.kubectl(user, "-n", release.serving, "get", "secrets", check=False)
    assert 'cannot list resource "secrets"' in secrets.stderr


def inference_service(name: str, namespace: str, mode: str = "Standard") -> Json:
    """As little as the deployer writes of one, with its labels."""
    model = {
        "modelFormat": {"name": "endcap", "version": "1"},
        "runtime": "endcap",
        "storageUri": "s3://endcap/packages/demo/1",
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"cpu": "1", "memory": "256Mi"}},
    }
    security = {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}}
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": make_labels(name),
            "annotations": {"serving.kserve.io/deploymentMode": mode},
        },
        "spec": {"predictor": {"serviceAccountName": "endcap-predictor", "securityContext": security, "model": model}},
    }


def test_policies_select_the_releases_pods(release: Release, cluster: Cluster) -> None:
    for component, other in (("mlflow", "gateway"), ("gateway", "mlflow")):
        pods = names(cluster, release.namespace, f"app.kubernetes.io/component={component}")
        assert pods
        for policy in ("endcap-deny", f"endcap-{component}"):
            assert pods <= selected(cluster, release.namespace, policy)
        assert not pods & selected(cluster, release.namespace, f"endcap-{other}")


@pytest.mark.parametrize("mode", ["Standard", "Knative"])
def test_kserves_pods_are_admitted_and_selected_too(release: Release, cluster: Cluster, mode: str) -> None:
    """By the runtime and the account of the chart, under the restricted standard, KServe's own containers with them."""
    cluster.needs("inferenceservices.serving.kserve.io", *(["routes.serving.knative.dev"] if mode == "Knative" else []))
    container = json.loads(cluster.kubectl("get", "clusterstoragecontainer", "default", "-o", "json").stdout)
    if not container["spec"]["container"].get("securityContext"):
        pytest.skip("this cluster's KServe has a storage initializer that no restricted namespace takes")
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "endcap-store"}}
    name = f"shop-{mode.lower()}"
    cluster.apply(secret, inference_service(name, release.serving, mode), namespace=release.serving)
    of_kserve = f"serving.kserve.io/inferenceservice={name}"
    pods = eventually(lambda: names(cluster, release.serving, of_kserve))
    assert pods <= selected(cluster, release.serving, "endcap-predictors")
    containers = [
        one["name"]
        for pod in cluster.list("pods", release.serving, of_kserve)
        for one in [*pod["spec"]["initContainers"], *pod["spec"]["containers"]]
    ]
    assert {"storage-initializer", "kserve-container"} <= set(containers)
    budget = eventually(lambda: cluster.get("pdb", "endcap-predictors", release.serving)["status"].get("expectedPods"))
    assert budget >= len(pods)
    cluster.kubectl("-n", release.serving, "delete", "inferenceservice", name, "--wait=true", "--timeout=60s")


def names(cluster: Cluster, namespace: str, selector: str) -> set[str]:
    return {pod["metadata"]["name"] for pod in cluster.list("pods", namespace, selector)}


def selected(cluster: Cluster, namespace: str, policy: str) -> set[str]:
    """The pods that a NetworkPolicy selects, by the API server's reckoning."""
    selector = cluster.get("networkpolicy", policy, namespace)["spec"]["podSelector"]
    terms = [f"{key}={value}" for key, value in selector.get("matchLabels", {}).items()]
    terms += [one["key"] for one in selector.get("matchExpressions", []) if one["operator"] == "Exists"]
    return names(cluster, namespace, ",".join(terms))


@pytest.mark.parametrize("outcome", ["Succeeded", "Failed"])
def test_helm_test_runs_its_pods_and_leaves_none(
    release: Release, cluster: Cluster, simulated: bool, outcome: str
) -> None:
    if not simulated and outcome == "Failed":
        pytest.skip("real pods are not told how to end")
    ended = threading.Event()
    seen: set[str] = set()

    def play_the_kubelet() -> None:
        """KWOK runs no containers: end the test pods by their status."""
        while not ended.wait(0.3):
            for pod in names(cluster, release.namespace, "app.kubernetes.io/component=test"):
                seen.add(pod)
                status = json.dumps({"status": {"phase": outcome}})
                words = ("patch", "pod", pod, "--subresource=status", "--type=merge", "-p", status)
                cluster.kubectl("-n", release.namespace, *words, check=False)

    player = threading.Thread(target=play_the_kubelet)
    if simulated:
        player.start()
    try:
        said = cluster.helm("-n", release.namespace, "test", "endcap", "--timeout=60s", check=False)
    finally:
        ended.set()
        if simulated:
            player.join()
    assert (said.returncode == 0) == (outcome == "Succeeded"), said.stderr
    if simulated:
        assert len(seen) == (2 if outcome == "Succeeded" else 1)
    eventually(lambda: not names(cluster, release.namespace, "app.kubernetes.io/component=test"), 60)


def test_the_wider_rights_are_there_if_values_ask_for_them(release: Release) -> None:
    release.upgrade("--set=deployer.ownRoute=true", "--set=deployer.readNodes=true", wait=False)
    assert release.may("pipeline-runner", "patch", "httproutes.gateway.networking.k8s.io", release.serving)
    assert not release.may("pipeline-runner", "delete", "httproutes.gateway.networking.k8s.io", release.serving)
    assert release.may("pipeline-runner", "list", "nodes", "*")
    assert not release.may("pipeline-runner", "list", "secrets", "*")
    release.upgrade(wait=False)
    assert not release.may("pipeline-runner", "list", "nodes", "*")


MONITORING = {"ServiceMonitor": "servicemonitors", "PodMonitor": "podmonitors", "PrometheusRule": "prometheusrules"}
"""Kinds of Prometheus' operator, which come together."""


def test_metrics_are_scraped_once_the_cluster_knows_a_servicemonitor(release: Release, cluster: Cluster) -> None:
    kinds = {f"{plural}.monitoring.coreos.com": kind for kind, plural in MONITORING.items()}
    defined = not cluster.kubectl("get", "crd", *kinds, check=False).returncode
    if not defined and cluster.plane is None:
        pytest.skip("the cluster does not define a ServiceMonitor, and a CRD would lie outside the tests' namespaces")
    if not defined:
        assert not [one for one in everything_in(cluster, release.namespace) if one.startswith("servicemonitor")]
        for name, kind in kinds.items():
            cluster.kubectl("create", "-f", "-", stdin=json.dumps(make_monitoring_crd(name, kind)))
        cluster.kubectl("wait", "--for=condition=Established", *(f"crd/{name}" for name in kinds), "--timeout=60s")
    try:
        release.upgrade(wait=False)
        monitor, pods, rules = (
            cluster.get(name, made, release.namespace)["spec"]
            for name, made in zip(kinds, ("endcap-gateway", "endcap-predictors", "endcap"), strict=True)
        )
        assert monitor["endpoints"][0]["path"] == "/stats/prometheus"
        assert pods["podMetricsEndpoints"]
        assert rules["groups"]
        off = [f"--set=monitoring.{part}.enabled=false" for part in ("serviceMonitor", "rules")]
        release.upgrade(*off, wait=False)
    finally:
        if not defined:
            cluster.kubectl("delete", "crd", *kinds)


def make_monitoring_crd(name: str, kind: str) -> Json:
    """As little of it as the API server takes."""
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": name},
        "spec": {
            "group": "monitoring.coreos.com",
            "names": {"kind": kind, "plural": MONITORING[kind], "singular": kind.lower()},
            "scope": "Namespaced",
            "versions": [version],
        },
    }
