"""What is asked of KServe, and that it says what the spec says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from endcap.deploy import Target
from endcap.deploy.gateway_settings import GatewaySettings
from endcap.deploy.object_names import LONGEST_NAME, check_recommender_name
from endcap.deploy.overlays import OVERLAYS, render_overlays
from endcap.deploy.predictor_manifests import render_canary_entry, render_predictor
from endcap.deploy.runtime_manifests import render_service_account, render_serving_runtime
from endcap.deploy.state import CanaryTarget
from endcap.deploy.variants import MASK, POPULAR, TIMEOUT, settings_from_annotations, settings_to_annotations
from endcap.devices import GPU_VARIABLE, GpuRequest, read_gpu_request
from endcap.errors import UserError
from tests.deploy.fake_kserve import recommender, target
from tests.refusals import refused

GPU = {
    "gpu": {"count": 2},
    "runtimeClassName": "nvidia",
    "nodeSelector": {"gpu": "a100"},
    "spot": True,
    "memory": "16Gi",
    "cpu": 4,
}


def environment(model: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one["value"] for one in model["env"]}


def test_a_predictor_gets_what_the_spec_says() -> None:
    predictor = render_predictor(
        recommender(**GPU, starts_within="90s", replicas={"min": 2, "max": 5}), "Standard", target("7")
    )
    model = predictor["model"]
    assert model["storageUri"] == "s3://endcap/packages/shoes/7"
    assert read_gpu_request(environment(model)) == GpuRequest(2)
    assert environment(render_predictor(recommender(), "Standard", target("7"))["model"]) == {"ENDCAP_VERSION": "7"}
    assert model["resources"]["requests"] == {"cpu": "4", "memory": "16Gi", "nvidia.com/gpu": "2"}
    assert model["resources"]["limits"] == model["resources"]["requests"]
    probe = model["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] == 90
    assert (predictor["nodeSelector"], predictor["runtimeClassName"]) == ({"gpu": "a100"}, "nvidia")
    assert {one["key"] for one in predictor["tolerations"]} >= {"cloud.google.com/gke-spot"}
    assert (predictor["minReplicas"], predictor["maxReplicas"], predictor["scaleMetric"], predictor["scaleTarget"]) == (
        2,
        5,
        "cpu",
        80,
    )


@pytest.mark.parametrize(
    ("mode", "metric", "target_of", "expected"),
    [
        ("Knative", "rps", 50, ("rps", 50)),
        ("Knative", "cpu", 50, ("concurrency", 8)),
        ("Standard", "memory", 70, ("memory", 70)),
        ("Standard", "concurrency", 4, ("cpu", 80)),
    ],
)
def test_each_mode_scales_by_what_it_can(mode: str, metric: str, target_of: int, expected: tuple[str, int]) -> None:
    predictor = render_predictor(recommender(replicas={"metric": metric, "target": target_of}), mode, target("1"))  # type: ignore[arg-type]
    assert (predictor["scaleMetric"], predictor["scaleTarget"]) == expected


def test_what_changes_on_the_service_is_masked_on_its_pods() -> None:
    predictor = render_predictor(recommender(), "Knative", target("1"))
    assert {key: predictor["annotations"][key] for key in MASK} == MASK


@pytest.mark.parametrize("terms", [GatewaySettings(0.8, 12, ("p1", 'p "2" ö')), GatewaySettings(2.0, 20, ())])
def test_the_gateway_reads_what_the_deployer_says_of_time_and_list(terms: GatewaySettings) -> None:
    assert settings_from_annotations(settings_to_annotations(terms)) == terms


def test_terms_that_someone_has_spoilt_are_the_usual_ones() -> None:
    assert (
        settings_from_annotations({TIMEOUT: "soon", POPULAR: "[1"})
        == GatewaySettings()
        == settings_from_annotations({POPULAR: '{"items": 3}'})
    )


def test_a_canary_has_a_pod_of_its_own_and_a_share_of_the_replicas() -> None:
    canary = {"nodeSelector": {"gpu": "none"}, "runtimeClassName": "runc"}
    spec = recommender(**GPU, replicas={"min": 4, "max": 8}, canary=canary)
    entry = render_canary_entry(spec, CanaryTarget(version="2", package="s3://b/2", share=0.3), 0.3)
    assert entry["trafficPercent"] == 30
    assert entry["predictor"]["minReplicas"] == 2
    model = entry["predictor"]["model"]
    assert model["resources"]["limits"]["nvidia.com/gpu"] == "0"
    # Said, since KServe lays it over the stable's.
    assert GPU_VARIABLE in environment(model)
    assert read_gpu_request(environment(model)) is None
    assert "maxReplicas" not in entry["predictor"]


@pytest.mark.parametrize("package", ["/var/store/packages/1", "file:///var/store/packages/1"])
def test_a_package_in_a_folder_cannot_be_served_in_a_cluster(package: str) -> None:
    with refused(UserError, "deploy.package-in-a-folder", version="1", package=package):
        render_predictor(recommender(), "Standard", Target(version="1", package=package))


@pytest.mark.parametrize("name", ["a" * 41, "4shoes"])
def test_names_that_kubernetes_would_refuse_later_are_refused_now(name: str) -> None:
    with refused(UserError, "deploy.name-unfit", found=name, limit=LONGEST_NAME):
        check_recommender_name(name)


def test_pods_may_run_under_the_restricted_standard() -> None:
    container = render_serving_runtime("shop")["spec"]["containers"][0]["securityContext"]
    assert container["allowPrivilegeEscalation"] is False
    assert container["readOnlyRootFilesystem"] is True
    assert container["capabilities"] == {"drop": ["ALL"]}
    pod = render_predictor(recommender(), "Knative", target("1"))["securityContext"]
    assert pod["runAsNonRoot"] is True
    assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert render_service_account("shop", recommender().serving.kubernetes)["automountServiceAccountToken"] is False


def test_overlays_patch_the_base_and_name_every_file(tmp_path: Path) -> None:
    files = render_overlays(recommender(), target("3"), "a test")
    read = {name: yaml.safe_load(text) for name, text in files.items() if name.endswith(".yaml")}
    base = read["base/kustomization.yaml"]
    assert {f"base/{name}" for name in base["resources"]} < set(files)
    assert base["secretGenerator"][0]["envs"] == ["store.env"]
    assert read["base/inferenceservice.yaml"]["spec"]["predictor"]["name"] == "v3"
    for name, (mode, _) in OVERLAYS.items():
        patch = read.get(f"overlays/{name}/inferenceservice.yaml")
        gpu = "gpu" in name
        assert (patch is not None) == gpu
        if patch is not None:
            assert patch["spec"]["predictor"]["model"]["resources"]["limits"] == {"nvidia.com/gpu": "1"}
            assert (patch["spec"]["predictor"].get("scaleMetric") == "concurrency") == (mode == "Knative")
