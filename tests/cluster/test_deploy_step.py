"""The training pipeline's deploy step, run as its pod runs it.

The command is the compiled package's own; the identity is the account that KFP runs under, bound by the chart: its
token and the cluster's certificate lie where a pod finds them (in a mount namespace of the test), and nothing else says
where the cluster is. What is not the pod's: its image (the packages of this environment stand for it), and its node.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from endcap.deploy import find_state
from endcap.registry import Registry
from endcap.registry.package import SPEC
from endcap.spec import Recommender
from endcap.spec.rollout import RolloutSpec
from endcap.store import open_store
from tests.cluster.given import Cluster, own_namespace
from tests.cluster.object_store import ObjectStore

ROOT = Path(__file__).parents[2]
SERVING = ("serving/servingruntime", "serving/serviceaccount")
"""What the chart brings into the serving namespace beside rights."""
MOUNTED = "/var/run/secrets/kubernetes.io/serviceaccount"
Json = dict[str, Any]


@pytest.fixture(scope="module")
def namespaces(cluster: Cluster) -> Iterator[tuple[str, str]]:
    """Of KFP's account, and of serving; the account has the rights that the chart gives it."""
    with own_namespace(cluster, "deploy-step-kfp") as kfp, own_namespace(cluster, "deploy-step-serving") as serving:
        cluster.kubectl("-n", kfp, "create", "serviceaccount", "pipeline-runner")
        rights = cluster.helm(
            *("template", "endcap", str(ROOT / "charts" / "endcap"), "--namespace", kfp),
            *("--set", f"serving.namespace={serving}", "--set", f"kfp.serviceAccount.namespace={kfp}"),
            *("--set", "rollouts.enabled=true", "--set", "rollouts.store=s3://endcap/store"),
            *(f"--show-only=templates/{name}.yaml" for name in ("deployer/rbac", "rollouts/crd", *SERVING)),
        )
        cluster.kubectl("apply", "--server-side", "-f", "-", stdin=rights.stdout)
        cluster.kubectl("-n", serving, "create", "secret", "generic", "endcap-store")
        yield kfp, serving


@pytest.fixture(scope="module")
def version(
    object_store: ObjectStore, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Recommender, str, str, dict[str, str]]]:
    """A recommender, its store in a bucket, its registry with version 1 as champion, and the store's environment."""
    environment = object_store.environment()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        store = open_store(f"{object_store.make_bucket('deploy-step')}/endcap")
        with store.publish("packages/shoes", "one") as draft:
            (draft.path / "info.json").write_text("{}")
        registry = Registry(f"sqlite:///{tmp_path_factory.mktemp('registry')}/mlflow.db")
        registry.add_version("shoes", draft.address, "approved", "a test", {})
        spec = Recommender.model_validate(
            {
                "apiVersion": "endcap/v2",
                "kind": "Recommender",
                "name": "shoes",
                "shop": "demo",
                "model": {"name": "popularity"},
                # Its package is a stand-in: there is no list of popular items in it.
                "serving": {"fallback": "refuse", "kubernetes": {"mode": "Standard", "ready_within": "3m"}},
            }
        )
        yield spec, store.root, registry.uri, environment


def test_the_deploy_step_makes_the_inference_service_with_its_accounts_rights(
    cluster: Cluster,
    namespaces: tuple[str, str],
    version: tuple[Recommender, str, str, dict[str, str]],
    tmp_path: Path,
) -> None:
    if not cluster.simulated():
        pytest.skip("pods would fetch the package from an S3 server of this machine: unset KUBECONFIG")
    kfp, serving = namespaces
    done, said = run_step(cluster, kfp, serving, version, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert said == "version 1 serves everyone"
    service = cluster.get("inferenceservice", "shoes", serving)
    assert service["spec"]["predictor"]["model"]["storageUri"] == f"{version[1]}/packages/shoes/one"
    assert service["metadata"]["annotations"]["endcap.dev/stable-version"] == "1"
    assert service["status"]["deploymentMode"] == "Standard"


def test_without_the_charts_rights_it_says_which_are_missing(
    cluster: Cluster,
    namespaces: tuple[str, str],
    version: tuple[Recommender, str, str, dict[str, str]],
    tmp_path: Path,
) -> None:
    kfp, _ = namespaces
    with own_namespace(cluster, "deploy-step-elsewhere") as elsewhere:
        done, _ = run_step(cluster, kfp, elsewhere, version, tmp_path)
        assert done.returncode != 0
        assert f"system:serviceaccount:{kfp}:pipeline-runner may not" in done.stderr
        assert f"inferenceservices.serving.kserve.io in namespace {elsewhere}" in done.stderr
        assert cluster.list("inferenceservices", elsewhere) == []


def test_a_challenger_with_a_rollout_is_asked_for_and_nothing_else_changes(
    cluster: Cluster,
    namespaces: tuple[str, str],
    version: tuple[Recommender, str, str, dict[str, str]],
    tmp_path: Path,
) -> None:
    kfp, serving = namespaces
    spec, address, registry_uri, environment = version
    store, registry = open_store(address), Registry(registry_uri)
    spec = spec.model_copy(update={"name": "boots", "rollout": RolloutSpec()})
    for number in ("1", "2"):
        with store.publish("packages/boots", number) as draft:
            (draft.path / SPEC).write_text(spec.model_dump_json())
        registry.add_version("boots", draft.address, "approved", "a test", {})
    registry.promote("boots", "1")
    boots = (spec, address, registry_uri, environment)
    # A namespace that the chart knows nothing of: no rights there, and no controller.
    with own_namespace(cluster, "deploy-step-elsewhere") as elsewhere:
        done, _ = run_step(cluster, kfp, elsewhere, boots, tmp_path / "elsewhere", "2")
        assert done.returncode != 0
        assert f"namespace {elsewhere} takes no ModelRollout" in done.stderr
        assert "rollouts.enabled=true" in done.stderr

    done, said = run_step(cluster, kfp, serving, boots, tmp_path / "serving", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ModelRollout boots-2" in said
    (resource,) = cluster.list("modelrollouts", serving)
    assert (resource["metadata"]["name"], resource["spec"]) == ("boots-2", {"recommender": "boots", "version": "2"})
    user = f"system:serviceaccount:{kfp}:pipeline-runner"
    rights = cluster.kubectl("auth", "can-i", "--list", "--as", user, "-n", serving).stdout.splitlines()
    (line,) = (line for line in rights if line.startswith("modelrollouts"))
    assert line.rpartition("[")[2] == "create]"
    # Nobody serves by the request alone.
    assert find_state("boots", store) is None
    assert "boots" not in {thing["metadata"]["name"] for thing in cluster.list("inferenceservices", serving)}


def run_step(
    cluster: Cluster,
    kfp: str,
    serving: str,
    version: tuple[Recommender, str, str, dict[str, str]],
    folder: Path,
    number: str = "1",
) -> tuple[subprocess.CompletedProcess[str], str]:
    """How the step ended, and the line that it returned. number: the version that it deploys."""
    if os.geteuid() != 0:
        pytest.skip("a pod's files under /var/run are mounted by root only")
    spec, store, registry, environment = version
    folder.mkdir(exist_ok=True)
    told = folder / "told.json"
    executor_input = {
        "inputs": {
            "parameterValues": {
                "recommender": spec.model_dump(mode="json", exclude_none=True),
                "version": number,
                "store": store,
                "registry": registry,
                "run": "a-run",
                "namespace": serving,
            }
        },
        "outputs": {"parameters": {"Output": {"outputFile": str(folder / "output")}}, "outputFile": str(told)},
    }
    executor = yaml.safe_load_all((ROOT / "pipelines" / "compiled" / "training.yaml").read_text())
    container = next(iter(executor))["deploymentSpec"]["executors"]["exec-deploy"]["container"]
    command = [*container["command"], *container["args"]]
    command = [json.dumps(executor_input) if word == "{{$}}" else word for word in command]
    server = identity(cluster, kfp, folder / "account")
    # Private to the step, as a pod's own file system is; the folder must be there to be mounted upon.
    mount = f"mkdir -p {MOUNTED} && mount --bind '{folder / 'account'}' {MOUNTED} && exec \"$@\""
    inside = ["unshare", "--mount", "sh", "-ec", f"mount -t tmpfs none /var/run && {mount}", "sh", *command]
    done = subprocess.run(
        inside,
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=280,
        env={
            **environment,
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "HOME": str(folder),
            "ENDCAP_CACHE": str(folder / "cache"),
            "KUBERNETES_SERVICE_HOST": str(server.hostname),
            "KUBERNETES_SERVICE_PORT": str(server.port),
        },
    )
    return done, json.loads(told.read_text())["parameterValues"]["Output"] if told.exists() else ""


def identity(cluster: Cluster, namespace: str, folder: Path) -> Any:
    """Write what a pod of the account finds mounted; where the API server is."""
    folder.mkdir()
    config = json.loads(cluster.kubectl("config", "view", "--minify", "--raw", "--flatten", "-o", "json").stdout)
    described = config["clusters"][0]["cluster"]
    token = cluster.kubectl("-n", namespace, "create", "token", "pipeline-runner").stdout.strip()
    (folder / "token").write_text(token)
    (folder / "ca.crt").write_bytes(base64.b64decode(described["certificate-authority-data"]))
    (folder / "namespace").write_text(namespace)
    return urlsplit(described["server"])
