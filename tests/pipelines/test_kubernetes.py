"""What a spec says of pods, as it stands in the package."""

from __future__ import annotations

import shutil
from pathlib import Path

import certifi
import pytest

from endcap.devices import GPU_VARIABLE, GpuRequest, read_gpu_request
from endcap.spec.pod import SPOT
from endcap.store.s3_settings import read_s3_settings
from tests.pipelines.packages import ROOT, Json, compile_spec, container, steps

MINE = "registry.example/mine:2"
SETTINGS = """
  deadline: 6h
  secret: my-store
  image: registry.example/endcap:own
  defaults: {cpu: 500m, memory: 2Gi, nodeSelector: {pool: cpu}}
  steps:
    train:
      cpu: 4
      memory: 1.5Gi
      memory_limit: 16Gi
      gpu: {count: 2, fallback: cpu}
      nodeSelector: {gpu: h100}
      tolerations: [{key: nvidia.com/gpu, operator: Exists, effect: NoSchedule}]
      spot: true
      sharedMemory: 8Gi
      secrets: [{secret: tracker, key: token, env: TRACKER_TOKEN}]
      retries: {count: 5, backoff: 1m, factor: 3.0, max_backoff: 20m}
      deadline: 2h
    evaluate: {image: registry.example/mine:2}
    refit: {deadline: 12h, retries: {count: 0}}
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Json:
    return compile_spec(tmp_path_factory.mktemp("spec"), SETTINGS)


def test_a_step_gets_its_resources_and_the_defaults_where_it_says_nothing(package: Json) -> None:
    train = container(package, "train")["resources"]
    assert (train["resourceCpuRequest"], train["resourceMemoryLimit"]) == ("4", "16Gi")
    assert int(train["resourceMemoryRequest"]) == 1536 * 2**20
    accelerator = train["accelerator"]
    assert (accelerator["resourceType"], accelerator["resourceCount"]) == ("nvidia.com/gpu", "2")
    environment = {one["name"]: one["value"] for one in container(package, "train")["env"]}
    assert read_gpu_request(environment) == GpuRequest(2, "nvidia.com/gpu", "cpu")
    assert GPU_VARIABLE not in {one["name"] for one in container(package, "ingest")["env"]}
    ingest = container(package, "ingest")["resources"]
    assert (ingest["resourceCpuRequest"], ingest["resourceMemoryRequest"]) == ("500m", "2Gi")
    assert ingest["resourceMemoryLimit"] == "2Gi"
    assert "accelerator" not in ingest


def test_a_step_goes_to_its_nodes_and_bears_their_taints(package: Json) -> None:
    train, ingest = package["platform"]["train"], package["platform"]["ingest"]
    assert train["nodeSelector"]["labels"] == {"gpu": "h100"}
    assert ingest["nodeSelector"]["labels"] == {"pool": "cpu"}
    assert train["tolerations"][0] == {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    assert [one["key"] for one in train["tolerations"][1:]] == [one.key for one in SPOT]
    assert "tolerations" not in ingest


def test_every_step_gets_the_stores_secret_and_train_its_own_and_shared_memory(package: Json) -> None:
    for name in steps(package):
        first = package["platform"][name]["secretAsEnv"][0]
        assert (first["secretName"], first["optional"]) == ("my-store", True)
        assert {"secretKey": "AWS_ACCESS_KEY_ID", "envVar": "AWS_ACCESS_KEY_ID"} in first["keyToEnv"]
        # What MLflow's server is shown: an address with a password would be a parameter, which KFP's pages show.
        assert {"secretKey": "MLFLOW_TRACKING_TOKEN", "envVar": "MLFLOW_TRACKING_TOKEN"} in first["keyToEnv"]
    own = package["platform"]["train"]["secretAsEnv"][1]
    assert own["keyToEnv"] == [{"secretKey": "token", "envVar": "TRACKER_TOKEN"}]
    (mount,) = package["platform"]["train"]["emptyDirMounts"]
    assert (mount["mountPath"], mount["medium"], int(mount["sizeLimit"])) == ("/dev/shm", "Memory", 8 * 2**30)


def test_a_step_reads_the_store_by_the_manifests_secret_too_and_its_certificates(package: Json, tmp_path: Path) -> None:
    written = (ROOT / "manifests" / "base" / "store.env").read_text().replace("S3_USE_HTTPS=1", "S3_USE_HTTPS=0")
    secret = dict(line.split("=", 1) for line in written.splitlines() if line and not line.startswith("#"))
    for name in steps(package):
        task = package["platform"][name]
        (mount,) = task["secretAsVolume"]
        assert (mount["secretName"], mount["optional"]) == ("my-store", True)
        environment = {one["name"]: one["value"] for one in container(package, name)["env"]}
        assert environment["ENDCAP_S3_SECRET"] == mount["mountPath"]
        keys = {one["envVar"]: one["secretKey"] for one in task["secretAsEnv"][0]["keyToEnv"]}
        environment |= {variable: secret[key] for variable, key in keys.items() if key in secret}
        settings = read_s3_settings(environment)
        assert (settings.endpoint, settings.region, settings.ca) == ("http://s3.example.com", "us-east-1", None)
        shutil.copy(certifi.where(), tmp_path / "ca.crt")
        settings = read_s3_settings(environment | {"ENDCAP_S3_SECRET": str(tmp_path)})
        assert settings.ca == str(tmp_path / "ca.crt")


def test_a_failed_step_is_tried_again_after_waits_that_grow(package: Json) -> None:
    policy = steps(package)["train"]["retryPolicy"]
    assert policy == {
        "maxRetryCount": 5,
        "backoffDuration": "60s",
        "backoffFactor": 3.0,
        "backoffMaxDuration": "1200s",
    }
    assert steps(package)["ingest"]["retryPolicy"]["maxRetryCount"] == 2
    assert "retryPolicy" not in steps(package)["refit"]


def test_the_deploy_step_is_tried_again_only_where_the_spec_says_so(package: Json, tmp_path: Path) -> None:
    assert "retryPolicy" not in steps(package)["deploy"]
    retry = compile_spec(tmp_path, "  steps: {deploy: {retries: {count: 1}}}\n")
    assert steps(retry)["deploy"]["retryPolicy"]["maxRetryCount"] == 1


def test_no_pod_lives_longer_than_its_step_or_the_whole_run_may(package: Json) -> None:
    limits = {name: one.get("activeDeadlineSeconds") for name, one in package["platform"].items()}
    assert limits["train"] == "7200"
    assert limits["refit"] == limits["ingest"] == "21600"
    assert limits["report"] is None
    assert {"name": "ENDCAP_RUN_DEADLINE", "value": "21600"} in container(package, "ingest")["env"]


def test_the_workflow_is_told_the_runs_deadline_only_on_demand(package: Json, tmp_path: Path) -> None:
    assert package["pipelineConfig"] == {}  # KFP before 2.17 would drop all settings of pods
    config = compile_spec(tmp_path, "  deadline: 6h\n", run_deadline=True)
    assert config["pipelineConfig"] == {"activeDeadlineSeconds": 6 * 3600 + 300}


def test_steps_are_told_run_creation_and_image_and_shown_by_name(package: Json) -> None:
    parameters = package["root"]["inputDefinitions"]["parameters"]
    assert parameters["image"]["defaultValue"] == "registry.example/endcap:own"
    for name, task in steps(package).items():
        inputs = task["inputs"]["parameters"]
        assert inputs["run"]["runtimeValue"]["constant"] == "{{$.pipeline_job_uuid}}"
        if name != "report":
            assert inputs["created"]["runtimeValue"]["constant"] == "{{$.pipeline_job_create_time_utc}}"
        if name not in ("report", "evaluate"):
            assert inputs["image"]["componentInputParameter"] == "pipelinechannel--image"
    assert steps(package)["evaluate"]["inputs"]["parameters"]["image"]["runtimeValue"]["constant"] == MINE
    assert container(package, "evaluate")["image"] == MINE
    assert steps(package)["evaluate"]["taskInfo"]["name"] == "Evaluate and gate"
