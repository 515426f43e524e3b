"""`kubectl apply -k` of every overlay: admitted, reconciled, ready, on the nodes that it names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.given import Cluster, eventually
from tests.cluster.inference_services import KNATIVE_CRDS, STANDARD_CRDS, condition

OVERLAYS = Path(__file__).parents[2] / "manifests" / "overlays"


@pytest.mark.parametrize(
    ("overlay", "crds", "gpu"),
    [("cpu", STANDARD_CRDS, False), ("standard-gpu", STANDARD_CRDS, True), ("knative-gpu", KNATIVE_CRDS, True)],
)
def test_an_overlay_is_all_that_is_needed(
    cluster: Cluster,
    namespace: str,
    gpu_nodes: dict[str, int],
    tmp_path: Path,
    overlay: str,
    crds: tuple[str, ...],
    gpu: bool,
) -> None:
    cluster.needs(*crds)
    mine = tmp_path / "kustomization.yaml"
    folder = Path("..", *[".."] * (len(tmp_path.parts) - 2), *(OVERLAYS / overlay).parts[1:])
    mine.write_text(yaml.safe_dump({"namespace": namespace, "resources": [str(folder)]}))
    cluster.kubectl("apply", "-k", str(tmp_path))
    enforced = json.loads(cluster.kubectl("get", "namespace", namespace, "-o", "json").stdout)["metadata"]["labels"]
    assert enforced["pod-security.kubernetes.io/enforce"] == "restricted"

    def ready() -> dict[str, Any] | None:
        found = cluster.get("inferenceservice", "demo", namespace)
        return found if condition(found, "PredictorReady") == "True" else None

    eventually(ready)
    pods = cluster.list("pods", namespace, "serving.kserve.io/inferenceservice=demo")
    assert pods
    for pod in pods:
        assert (pod["spec"]["nodeName"] in gpu_nodes) == gpu
        fetched = next(one for one in pod["spec"]["initContainers"] if one["name"] == "storage-initializer")
        assert {one["name"] for one in fetched["env"]} >= {"AWS_ACCESS_KEY_ID", "AWS_ENDPOINT_URL"}
        serves = next(one for one in pod["spec"]["containers"] if one["name"] == "kserve-container")
        assert "ENDCAP_ONLINE" in {one["name"] for one in serves["env"]}
