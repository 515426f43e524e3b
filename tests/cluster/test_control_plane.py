"""What the other tests rely on: a real API server, scheduler and controllers, and nodes with GPUs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import urllib3
from kubernetes import client, config, watch

from tests.cluster.faults import Faults
from tests.cluster.given import Cluster, eventually
from tests.cluster.inference_services import KNATIVE_CRDS, STANDARD_CRDS, condition, inference_service, traffic


def test_in_standard_mode_a_predictor_runs_on_a_gpu_node_behind_an_accepted_route(
    cluster: Cluster, namespace: str, gpu_nodes: dict[str, int]
) -> None:
    cluster.needs(*STANDARD_CRDS)
    cluster.apply(inference_service("shop", "Standard"), namespace=namespace)

    found = eventually(lambda: _ready(cluster, namespace))

    assert found["status"]["deploymentMode"] == "Standard"
    pods = cluster.list("pods", namespace, "serving.kserve.io/inferenceservice=shop")
    assert [pod["spec"]["nodeName"] in gpu_nodes for pod in pods] == [True]
    route = cluster.get("httproute", "shop", namespace)
    assert [one["status"] for one in route["status"]["parents"][0]["conditions"]] == ["True", "True"]


def test_a_predictor_without_the_toleration_runs_nowhere(
    cluster: Cluster, namespace: str, gpu_nodes: dict[str, int]
) -> None:
    cluster.needs(*STANDARD_CRDS)
    cluster.apply(inference_service("shop", "Standard", tolerations=[]), namespace=namespace)

    def refused() -> str:
        pod = cluster.list("pods", namespace, "serving.kserve.io/inferenceservice=shop")[0]
        scheduled = next(one for one in pod["status"]["conditions"] if one["type"] == "PodScheduled")
        assert scheduled["status"] == "False"
        return str(scheduled["message"])

    assert "untolerated taint" in eventually(refused)


def test_in_knative_mode_the_route_follows_the_canary(
    cluster: Cluster, namespace: str, gpu_nodes: dict[str, int]
) -> None:
    cluster.needs(*KNATIVE_CRDS)
    cluster.apply(inference_service("shop", "Knative"), namespace=namespace)
    eventually(lambda: _ready(cluster, namespace))
    assert _route(cluster, namespace) == {"latest": 100}

    for share in (10, 50):
        canary = inference_service("shop", "Knative", image="registry.test/model:2", canaryTrafficPercent=share)
        cluster.apply(canary, namespace=namespace)
        expected = {"latest": share, "prev": 100 - share}
        eventually(lambda expected=expected: _route(cluster, namespace) == expected)

    cluster.apply(inference_service("shop", "Knative", image="registry.test/model:2"), namespace=namespace)
    eventually(lambda: _route(cluster, namespace) == {"latest": 100})
    pods = cluster.list("pods", namespace, "serving.kserve.io/inferenceservice=shop")
    assert {pod["spec"]["nodeName"] for pod in pods} <= set(gpu_nodes)


def test_what_was_asked_for_outlives_the_api_server(
    cluster: Cluster, namespace: str, gpu_nodes: dict[str, int]
) -> None:
    cluster.needs(*STANDARD_CRDS)
    cluster.apply(inference_service("shop", "Standard"), namespace=namespace)
    cluster.restart_api_server()
    eventually(lambda: _ready(cluster, namespace))


def test_the_fault_proxy_fails_as_often_as_it_is_told(
    cluster: Cluster, namespace: str, flaky_api: tuple[Path, Faults]
) -> None:
    kubeconfig, faults = flaky_api
    through = Cluster(kubeconfig)
    faults.answer(500, times=1, methods={"POST"}, path="/configmaps")

    refused = through.kubectl("-n", namespace, "create", "configmap", "one", check=False)
    made = through.kubectl("-n", namespace, "create", "configmap", "one")

    assert "told to fail by the test" in refused.stderr
    assert "created" in made.stdout
    assert [status for method, path, status in faults.requests if method == "POST"] == [500, 201]


def test_the_fault_proxy_drops_a_watch(cluster: Cluster, namespace: str, flaky_api: tuple[Path, Faults]) -> None:
    kubeconfig, faults = flaky_api
    api = client.CoreV1Api(config.new_client_from_config(str(kubeconfig)))
    events = watch.Watch().stream(api.list_namespaced_config_map, namespace, timeout_seconds=60)

    first = next(events)
    dropped = faults.drop_watches()

    assert (first["object"].metadata.name, dropped) == ("kube-root-ca.crt", 1)  # which every namespace has
    with pytest.raises(urllib3.exceptions.ProtocolError):
        next(events)


def _ready(cluster: Cluster, namespace: str) -> dict[str, object]:
    found = cluster.get("inferenceservice", "shop", namespace)
    assert condition(found, "Ready") == "True", json.dumps(found.get("status"), indent=1)
    return found


def _route(cluster: Cluster, namespace: str) -> dict[str, int]:
    return traffic(cluster.get("routes.serving.knative.dev", "shop-predictor", namespace))
