"""A search's own Ray cluster, on a real API server that has KubeRay's definition of it. What KubeRay's operator and
nodes would do to it, its status and its pods, the test does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from endcap.cluster import connect
from endcap.cluster.own_pod import build_owner_reference
from endcap.errors import ClusterError
from endcap.ray_driver.cluster import make_cluster
from endcap.ray_driver.kuberay import build_ray_cluster
from endcap.spec import Recommender
from endcap.spec.settings import TrainSettings
from tests.cluster.build import module_folder
from tests.cluster.given import Cluster, defined_cluster, eventually, own_namespace
from tests.cluster.manifests import documents
from tests.conftest import ROOT

_KUBERAY = "github.com/ray-project/kuberay/ray-operator"
_CRD = "rayclusters.ray.io"
KEY = "0123456789abcdef0123"


@pytest.fixture(scope="module")
def control_plane() -> Iterator[Cluster]:
    """A cluster that knows RayClusters, and no operator that makes them."""
    file = Path("config", "crd", "bases", "ray.io_rayclusters.yaml")
    with defined_cluster(_CRD, lambda: documents(module_folder("kuberay", _KUBERAY) / file)) as cluster:
        yield cluster


@pytest.fixture
def namespace(control_plane: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    with own_namespace(control_plane, "ray") as made:
        yield made


def recommender(namespace: str, **cluster: Any) -> TrainSettings:
    head = {"apiVersion": "endcap/v2", "kind": "Recommender", "name": "shoes", "shop": "shoes"}
    wanted = {"namespace": namespace, "image": "endcap:1", "workers": 2, "worker": {"gpu": {"count": 1}}, **cluster}
    found = Recommender.model_validate({**head, "model": {"name": "vsknn"}, "search": {"cluster": wanted}})
    return TrainSettings.of(found)


def says(cluster: Cluster, namespace: str, status: dict[str, Any]) -> None:
    """What KubeRay's operator would say of the cluster."""
    patch = json.dumps({"status": status})
    name = names(cluster, namespace)[0]
    cluster.kubectl("-n", namespace, "patch", "raycluster", name, "--subresource=status", "--type=merge", "-p", patch)


def names(cluster: Cluster, namespace: str) -> list[str]:
    return [one["metadata"]["name"] for one in cluster.list("rayclusters", namespace)]


# Makes the cluster, tells what it is told, and stays in it until it is ended.
HOLDER = """
import sys, time
from datetime import timedelta
from endcap.cluster import connect
from endcap.cluster.own_pod import build_owner_reference
from endcap.spec.settings import TrainSettings
from endcap.ray_driver.cluster import make_cluster
spec = TrainSettings.model_validate_json(sys.argv[1])
tell = lambda line: print(line, flush=True)
lives = timedelta(hours=1)
with make_cluster(connect(sys.argv[2]), spec, spec.search.cluster, sys.argv[3], lives, tell, 0.2) as address:
    tell(address)
    if sys.argv[4] == "fail":
        raise RuntimeError("the search failed")
    time.sleep(float(sys.argv[4]))
"""


def held(cluster: Cluster, spec: TrainSettings, then: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLDER, spec.model_dump_json(), str(cluster.kubeconfig), KEY, then]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment, cwd=ROOT)


@pytest.mark.parametrize(("then", "ended_by"), [("0", None), ("fail", None), ("600", signal.SIGTERM)])
def test_it_is_made_waited_for_and_removed(
    control_plane: Cluster, namespace: str, then: str, ended_by: signal.Signals | None
) -> None:
    with held(control_plane, recommender(namespace), then) as process:
        eventually(lambda: names(control_plane, namespace) == ["shoes-search-01234567"])
        made = control_plane.list("rayclusters", namespace)[0]
        assert made["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "endcap"
        workers = made["spec"]["workerGroupSpecs"][0]
        assert workers["replicas"] == 2
        container = workers["template"]["spec"]["containers"][0]
        assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
        assert len({one["name"]: one for one in container["env"]}["RAY_AUTH_TOKEN"]["value"]) == 64
        assert "/var/run/secrets/endcap/store" in [one["mountPath"] for one in container["volumeMounts"]]
        says(control_plane, namespace, {"state": "ready", "readyWorkerReplicas": 2})
        assert process.stdout is not None
        lines = [process.stdout.readline(), process.stdout.readline()]
        assert lines[1].strip() == f"ray://shoes-search-01234567-head-svc.{namespace}.svc:10001"
        if ended_by is not None:
            process.send_signal(ended_by)
        process.communicate(timeout=60)
    eventually(lambda: names(control_plane, namespace) == [])
    assert (process.returncode == 0) == (then == "0")


def test_a_cluster_that_is_not_ready_in_time_is_removed_and_the_reason_said(
    control_plane: Cluster, namespace: str
) -> None:
    spec = recommender(namespace, ready_within="3s", worker={"nodeSelector": {"accelerator": "none-has-it"}})
    assert spec.search is not None
    assert spec.search.cluster is not None
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "worker-1", "labels": {"ray.io/cluster": "shoes-search-01234567"}},
        "spec": {"nodeSelector": {"accelerator": "none-has-it"}, "containers": [{"name": "ray", "image": "endcap:1"}]},
    }
    eventually(lambda: control_plane.kubectl("-n", namespace, "get", "serviceaccount", "default"))
    control_plane.apply(pod, namespace=namespace)
    api = connect(str(control_plane.kubeconfig))
    with (
        pytest.raises(ClusterError, match=r"not ready within 3s.*worker-1: no node takes it"),
        make_cluster(api, spec, spec.search.cluster, KEY, timedelta(hours=1), lambda line: None, 0.2),
    ):
        pass
    assert names(control_plane, namespace) == []


def test_kubernetes_removes_it_with_the_step_s_pod_and_the_next_search_what_has_expired(
    control_plane: Cluster, namespace: str
) -> None:
    spec, api = recommender(namespace, ready_within="1s"), connect(str(control_plane.kubeconfig))
    assert spec.search is not None
    assert spec.search.cluster is not None
    step = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "step"}}
    eventually(lambda: control_plane.kubectl("-n", namespace, "get", "serviceaccount", "default"))
    control_plane.apply({**step, "spec": {"containers": [{"name": "main", "image": "endcap:1"}]}}, namespace=namespace)
    pod = control_plane.get("pod", "step", namespace)
    owner = build_owner_reference(pod, namespace)
    assert owner is not None
    assert build_owner_reference(pod, "elsewhere") is None
    api.apply(build_ray_cluster(spec, spec.search.cluster, KEY, owner, timedelta(hours=1), {}))
    control_plane.kubectl("-n", namespace, "delete", "pod", "step", "--grace-period=0", "--force")
    eventually(lambda: names(control_plane, namespace) == [])
    api.apply(build_ray_cluster(spec, spec.search.cluster, "f" * 20, None, timedelta(hours=-1), {}))
    with (
        pytest.raises(ClusterError),
        make_cluster(api, spec, spec.search.cluster, KEY, timedelta(hours=1), lambda line: None, 0.2),
    ):
        pass
    assert names(control_plane, namespace) == []
