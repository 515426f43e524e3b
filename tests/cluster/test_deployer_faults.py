"""What the deployer says when a cluster does not do what it should."""

from __future__ import annotations

import json
from typing import Any

import pytest

from endcap.cluster import ConflictError, connect
from endcap.deploy import Deployment, Target, rollout
from endcap.deploy.reconcile import ReconcileReport, reconcile
from endcap.errors import ClusterError
from endcap.spec import Recommender
from tests.cluster.given import Cluster
from tests.cluster.inference_services import STANDARD_CRDS, inference_service
from tests.cluster.test_deployer import SMALL, prepare
from tests.deploy.fake_kserve import recommender, state


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollout, "PATIENCE", 3.0)


@pytest.fixture
def prepared(cluster: Cluster, namespace: str) -> str:
    cluster.needs(*STANDARD_CRDS)
    prepare(cluster, namespace)
    return namespace


def deploy(cluster: Cluster, namespace: str, spec: Recommender, desired: Deployment, **options: Any) -> ReconcileReport:
    return reconcile(spec, lambda: desired, connect(str(cluster.kubeconfig)), namespace, **options)


def small(**kubernetes: Any) -> Recommender:
    return recommender(mode="Standard", **SMALL, **kubernetes)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        ("x.invalid/endcap:1", "the image x.invalid/endcap:1 of the container kserve-container cannot be pulled"),
        ("registry.test/crashes:1", "the container kserve-container crashed .* times, exit code 1: .*kubectl logs"),
    ],
)
def test_an_image_that_cannot_be_pulled_or_crashes(cluster: Cluster, prepared: str, image: str, words: str) -> None:
    with pytest.raises(ClusterError, match=rf"version 1 of shoes does not become ready.*: {words}"):
        deploy(cluster, prepared, small(image=image, ready_within="60s"), state("1"))


def test_a_package_that_the_store_does_not_give(cluster: Cluster, prepared: str) -> None:
    lost = state("1").model_copy(update={"stable": Target(version="1", package="s3://no-such-bucket/a")})
    with pytest.raises(ClusterError, match="the package could not be fetched from the store"):
        deploy(cluster, prepared, small(ready_within="60s"), lost)


def test_a_missing_secret(cluster: Cluster, prepared: str) -> None:
    cluster.kubectl("-n", prepared, "delete", "secret", "endcap-store")
    with pytest.raises(ClusterError, match="there is no Secret endcap-store"):
        deploy(cluster, prepared, small(), state("1"))


def test_a_missing_serving_runtime(cluster: Cluster, prepared: str) -> None:
    cluster.kubectl("-n", prepared, "delete", "servingruntime", "endcap")
    with pytest.raises(ClusterError, match="KServe finds no ServingRuntime"):
        deploy(cluster, prepared, small(), state("1"))


def test_a_quota_that_is_reached(cluster: Cluster, prepared: str) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "none"},
        "spec": {"hard": {"requests.cpu": "10m"}},
    }
    cluster.apply(quota, namespace=prepared)
    with pytest.raises(ClusterError, match=r"quota is reached \(exceeded quota: none"):
        deploy(cluster, prepared, small(), state("1"))


def test_nothing_says_why_within_the_time(cluster: Cluster, prepared: str) -> None:
    with pytest.raises(ClusterError, match=r"does not become ready within 0.1 min \(serving.kubernetes.ready_within\)"):
        deploy(cluster, prepared, small(image="registry.test/never-ready:1", ready_within="6s"), state("1"))


def test_a_failing_canary_gets_nobody_and_a_later_one_takes_its_place(cluster: Cluster, prepared: str) -> None:
    deploy(cluster, prepared, small(), state("1"))
    lost = state("1", "2", 0.5)
    assert lost.canary is not None
    lost = lost.model_copy(update={"canary": lost.canary.model_copy(update={"package": "s3://no-such-bucket/a"})})
    with pytest.raises(
        ClusterError, match=r"version 2 of shoes does not become ready.*The version that served before still serves"
    ):
        deploy(cluster, prepared, small(ready_within="60s"), lost)
    assert cluster.get("inferenceservice", "shoes", prepared)["spec"]["canary"][0].get("trafficPercent", 0) == 0
    assert deploy(cluster, prepared, small(), state("1", "3", 0.5)).expected == {"1": 50, "3": 50}


def test_a_strangers_service_of_the_same_name_is_left_alone(cluster: Cluster, prepared: str) -> None:
    cluster.apply(inference_service("shoes", "Standard"), namespace=prepared)
    before = cluster.get("inferenceservice", "shoes", prepared)["spec"]
    with pytest.raises(ClusterError, match=r"that Endcap did not make.*kubectl label inferenceservice shoes"):
        deploy(cluster, prepared, small(), state("1"), force=True)
    assert cluster.get("inferenceservice", "shoes", prepared)["spec"] == before


def test_a_strangers_edit_is_named_and_taken_back_by_force(cluster: Cluster, prepared: str) -> None:
    deploy(cluster, prepared, small(), state("1"))
    edit = json.dumps({"spec": {"predictor": {"maxReplicas": 9}}})
    ours = ("-n", prepared, "patch", "inferenceservice", "shoes", "--type=merge", "--field-manager=somebody")
    cluster.kubectl(*ours, "-p", edit)
    with pytest.raises(ConflictError, match=r"somebody holds spec\.predictor\.maxReplicas; --force takes them back"):
        deploy(cluster, prepared, small(), state("1"))
    assert cluster.get("inferenceservice", "shoes", prepared)["spec"]["predictor"]["maxReplicas"] == 9
    deploy(cluster, prepared, small(), state("1"), force=True)
    assert cluster.get("inferenceservice", "shoes", prepared)["spec"]["predictor"]["maxReplicas"] == 3


def test_a_namespace_that_is_being_deleted(cluster: Cluster, prepared: str) -> None:
    held = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "held", "finalizers": ["endcap.dev/test"]}}
    cluster.apply(held, namespace=prepared)
    cluster.kubectl("delete", "namespace", prepared, "--wait=false")
    try:
        with pytest.raises(ClusterError, match=f"namespace {prepared} is being deleted"):
            deploy(cluster, prepared, small(), state("1"))
    finally:
        patch = json.dumps({"metadata": {"finalizers": None}})
        cluster.kubectl("-n", prepared, "patch", "configmap", "held", "--type=merge", "-p", patch)


def test_a_namespace_that_is_not_there(cluster: Cluster) -> None:
    with pytest.raises(ClusterError, match="there is no namespace endcap-no-such"):
        deploy(cluster, "endcap-no-such", small(), state("1"))
