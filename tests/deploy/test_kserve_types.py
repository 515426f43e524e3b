"""What is rendered is what KServe's own types take: every field is one of theirs, and none changes on the way."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from endcap.deploy.manifests import render_inference_service, render_side_service
from endcap.deploy.predictor_manifests import render_canary_entry, render_predictor
from endcap.deploy.runtime_manifests import render_serving_runtime
from endcap.deploy.state import CanaryTarget
from endcap.deploy.variants import Mode
from tests.deploy.fake_kserve import NAMESPACE, recommender, target

Json = dict[str, Any]
GPU = {
    "gpu": {"count": 1},
    "nodeSelector": {"gpu": "a100"},
    "spot": True,
    "runtimeClassName": "nvidia",
    "image": "endcap:test",
}


@pytest.fixture
def through(monkeypatch: pytest.MonkeyPatch) -> Callable[[Json, str], Json]:
    """Reads an object as one of KServe's types, and writes it again."""
    import kserve.models
    from kubernetes.client import models

    for name, kind in vars(models).items():
        if isinstance(kind, type) and not hasattr(kserve.models, name):
            # Its client looks only here for the types that it takes from Kubernetes.
            monkeypatch.setattr(kserve.models, name, kind, raising=False)
    client = kserve.ApiClient()

    def convert(thing: Json, kind: str) -> Json:
        return dict(
            client.sanitize_for_serialization(client.deserialize(SimpleNamespace(data=json.dumps(thing)), kind))
        )

    return convert


def without_empty_names(service: Json) -> Json:
    """KServe's type gives every model an empty name, which an apply would claim for Endcap."""
    spec = service["spec"]
    for one in [spec["predictor"], *(entry["predictor"] for entry in spec.get("canary") or [])]:
        assert one["model"].pop("name") == ""
    return service


def whole(mode: Mode) -> Json:
    spec = recommender(**GPU, replicas={"min": 2, "max": 4}, tls={"clients": ["gateway.endcap.svc"]})
    canary = CanaryTarget(**target("2").model_dump(), share=0.1)
    beside = [render_canary_entry(spec, canary, 0.1)] if mode == "Standard" else None
    return render_inference_service(
        spec, NAMESPACE, mode, render_predictor(spec, mode, target("1")), {"endcap.dev/salt": "a"}, beside
    )


@pytest.mark.parametrize("mode", ["Standard", "Knative"])
def test_an_inference_service_keeps_every_field(mode: Mode, through: Callable[[Json, str], Json]) -> None:
    assert without_empty_names(through(whole(mode), "V1beta1InferenceService")) == whole(mode)


@pytest.mark.parametrize("mode", ["Standard", "Knative"])
def test_a_shadow_keeps_every_field(mode: Mode, through: Callable[[Json, str], Json]) -> None:
    shadow = render_side_service(recommender(**GPU), NAMESPACE, mode, "shadow", target("3"), 0.1)
    assert without_empty_names(through(shadow, "V1beta1InferenceService")) == shadow


def test_a_serving_runtime_keeps_every_field(through: Callable[[Json, str], Json]) -> None:
    runtime = render_serving_runtime(NAMESPACE, online="redis", samples="samples", pseudonyms="key")
    assert through(runtime, "V1alpha1ServingRuntime") == runtime


def test_a_field_that_kserve_does_not_know_would_be_lost(through: Callable[[Json, str], Json]) -> None:
    wrong = whole("Standard")
    wrong["spec"]["predictor"]["minimumReplicas"] = 2
    assert "minimumReplicas" not in through(wrong, "V1beta1InferenceService")["spec"]["predictor"]
