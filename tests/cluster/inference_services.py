"""InferenceServices as small as a test can have them, and what KServe and Knative make of them."""

from __future__ import annotations

from typing import Any

MODE = "serving.kserve.io/deploymentMode"
KNATIVE_CRDS = ("inferenceservices.serving.kserve.io", "routes.serving.knative.dev")
STANDARD_CRDS = ("inferenceservices.serving.kserve.io", "httproutes.gateway.networking.k8s.io")


def inference_service(name: str, mode: str, image: str = "registry.test/model:1", **predictor: Any) -> dict[str, Any]:
    """A predictor of one container that asks for one GPU, on nodes with GPUs."""
    container = {
        "name": "kserve-container",
        "image": image,
        "resources": {"limits": {"nvidia.com/gpu": "1", "cpu": "1", "memory": "2Gi"}},
    }
    settings = {
        "minReplicas": 1,
        "nodeSelector": {"nvidia.com/gpu.present": "true"},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
        "containers": [container],
    }
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name, "annotations": {MODE: mode, "serving.kserve.io/enable-tag-routing": "true"}},
        "spec": {"predictor": settings | predictor},
    }


def condition(found: dict[str, Any], kind: str) -> str:
    """A condition's status, "Unknown" where there is none."""
    conditions = found.get("status", {}).get("conditions", [])
    return next((one["status"] for one in conditions if one["type"] == kind), "Unknown")


def traffic(found: dict[str, Any]) -> dict[str, int]:
    """Percent by tag, or by revision where an entry has none, of a Knative Route or an InferenceService's predictor."""
    entries = found["status"].get("traffic") or found["status"]["components"]["predictor"]["traffic"]
    return {entry.get("tag") or entry["revisionName"]: entry.get("percent", 0) for entry in entries}
