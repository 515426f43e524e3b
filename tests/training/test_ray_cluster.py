"""A Ray cluster of the search's own, as it is asked for; with Kubernetes played by a few dictionaries."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from endcap.cluster import own_pod
from endcap.devices import GpuRequest, read_gpu_request
from endcap.errors import UserError
from endcap.ray_driver import cluster, kuberay
from endcap.ray_driver.child import _count_workers
from endcap.ray_driver.jobs import Connection
from endcap.spec.search import RayCluster
from endcap.spec.settings import TrainSettings
from endcap.store import Store
from endcap.training import train
from tests.features.logs import recommender
from tests.refusals import refused
from tests.training.datasets import SPLIT, little_dataset

HOUR = timedelta(hours=1)
POD = "shoes-training-with-a-name-longer-than-any-host-may-have-x7k2p-1234567"


class Kubernetes:
    """Objects by name, and pods; RayClusters are ready at once."""

    def __init__(self, *pods: dict[str, Any], at_delete: Callable[[], None] = lambda: None) -> None:
        self.there: dict[str, Any] = {pod["metadata"]["name"]: pod for pod in pods}
        self.made: list[dict[str, Any]] = []
        self._at_delete = at_delete

    def apply(self, thing: dict[str, Any], force: bool = False) -> None:
        status = {"state": "ready", "readyWorkerReplicas": 100}
        self.made.append(thing)
        self.there[thing["metadata"]["name"]] = {**thing, "status": status}

    def find(self, kind: Any, name: str, namespace: str) -> Any:
        return self.there.get(name)

    get = find

    def list_objects(self, kind: Any, namespace: str, labels: str = "") -> list[Any]:
        return [one for one in self.there.values() if one["kind"] == kind.name]

    def delete(self, kind: Any, name: str, namespace: str) -> bool:
        known = self.there.get(name)
        if known is None:
            return False
        self._at_delete()
        del self.there[name]
        return True


def make_settings(**cluster: Any) -> TrainSettings:
    return TrainSettings.of(recommender(search={"cluster": {"image": "endcap:1", **cluster}}))


def describe_cluster(spec: TrainSettings) -> RayCluster:
    assert spec.search is not None
    assert spec.search.cluster is not None
    return spec.search.cluster


def use_cluster(there: Kubernetes, spec: TrainSettings) -> str:
    with cluster.make_cluster(there, spec, describe_cluster(spec), "0" * 20, HOUR, lambda line: None) as address:  # type: ignore[arg-type]
        return address


def test_its_workers_give_way_as_the_search_says() -> None:
    there, spec = Kubernetes(), make_settings(namespace="rays")
    with cluster.make_cluster(there, spec, describe_cluster(spec), "0" * 20, HOUR, lambda line: None, nice=7):  # type: ignore[arg-type]
        (made,) = there.made
    pods = [made["spec"]["headGroupSpec"], *made["spec"]["workerGroupSpecs"]]
    said = [variable for pod in pods for variable in pod["template"]["spec"]["containers"][0]["env"]]
    assert [variable["value"] for variable in said if variable["name"] == "RAY_worker_niceness"] == ["7", "7"]


def step_pod(name: str, address: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "kubeflow", "uid": f"uid-of-{name}"}
    return {"kind": "Pod", "metadata": metadata, "status": {"podIP": address}}


@pytest.fixture
def in_a_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kuberay, "read_own_namespace", lambda: "kubeflow")
    monkeypatch.setattr(own_pod, "read_own_namespace", lambda: "kubeflow")
    monkeypatch.setattr("socket.gethostname", lambda: POD[:63])
    monkeypatch.setattr("socket.gethostbyname", lambda name: "10.0.0.7")


@pytest.mark.usefixtures("in_a_pod")
def test_it_is_made_in_the_step_s_namespace_and_its_pod_owns_it_however_long_its_name() -> None:
    before = step_pod(f"{POD[:-1]}9", "10.0.0.6")
    there = Kubernetes(before, step_pod(POD, "10.0.0.7"))
    assert use_cluster(there, make_settings()).endswith(".kubeflow.svc:10001")
    (made,) = there.made
    assert made["metadata"]["namespace"] == "kubeflow"
    assert [one["name"] for one in made["metadata"]["ownerReferences"]] == [POD]
    elsewhere = Kubernetes(step_pod(POD, "10.0.0.7"))
    assert use_cluster(elsewhere, make_settings(namespace="rays")).endswith(".rays.svc:10001")
    assert "ownerReferences" not in elsewhere.made[0]["metadata"]


def test_outside_of_pods_the_namespace_must_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kuberay, "read_own_namespace", lambda: None)
    with refused(UserError, "search.no-namespace", setting="cluster.namespace"):
        use_cluster(Kubernetes(), make_settings())


def test_its_pods_are_what_a_restricted_namespace_takes() -> None:
    spec = make_settings(namespace="rays")
    groups = kuberay.build_ray_cluster(spec, describe_cluster(spec), "0" * 20, None, HOUR, {})["spec"]
    for group in (groups["headGroupSpec"], *groups["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        # Ray's own files, and the store's cache.
        assert "/tmp" in [one["mountPath"] for one in container["volumeMounts"]]
        assert {one["name"] for one in container["volumeMounts"]} == {one["name"] for one in pod["volumes"]}


def test_its_workers_learn_what_they_were_given_and_come_by_it() -> None:
    spec = make_settings(
        namespace="rays", worker={"gpu": {"count": 2, "fallback": "cpu"}, "runtimeClassName": "nvidia"}
    )
    groups = kuberay.build_ray_cluster(spec, describe_cluster(spec), "0" * 20, None, HOUR, {})["spec"]
    pods = [group["template"]["spec"] for group in (groups["headGroupSpec"], *groups["workerGroupSpecs"])]
    said = [{one["name"]: one.get("value", "") for one in pod["containers"][0]["env"]} for pod in pods]
    assert [read_gpu_request(environment) for environment in said] == [None, GpuRequest(2, fallback="cpu")]
    assert [pod.get("runtimeClassName") for pod in pods] == [None, "nvidia"]


def test_a_second_request_to_end_does_not_leave_it() -> None:
    there = Kubernetes(at_delete=lambda: os.kill(os.getpid(), signal.SIGTERM))
    spec = make_settings(namespace="rays")
    before = signal.getsignal(signal.SIGTERM)
    with (
        pytest.raises(SystemExit),
        cluster.make_cluster(there, spec, describe_cluster(spec), "0" * 20, HOUR, lambda line: None),  # type: ignore[arg-type]
    ):
        os.kill(os.getpid(), signal.SIGTERM)
    assert there.there == {}
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("section", ["search", "training"])
@pytest.mark.parametrize("where", [{"address": "ray://head:10001"}, {"cluster": {"image": "endcap:1"}}])
def test_other_machines_do_not_get_a_store_that_they_cannot_read(
    section: str, where: dict[str, Any], store: Store
) -> None:
    model = {"name": "gru4rec", "width": 8, "batch_size": 8, "max_epochs": 1}
    sections: dict[str, dict[str, Any]] = {"search": {}, "training": {"workers": 2}}
    sections[section] |= where
    spec = recommender(model=model, split=SPLIT, **sections)
    setting = f"{section}.{next(iter(where))}"
    with refused(UserError, "search.store-is-a-folder", setting=setting, store=store.root):
        train(spec, little_dataset(store), store)


@pytest.mark.parametrize(
    ("address", "here"),
    [
        ("ray://127.0.0.1:10001", True),
        ("localhost:6379", True),
        ("ray://[::1]:10001", True),
        ("auto", True),
        ("local", True),
        ("ray://head:10001", False),
        ("10.0.0.1:6379", False),
    ],
)
def test_an_address_of_this_machine_is_told_from_others(address: str, here: bool) -> None:
    assert cluster.is_here(address) is here


@pytest.mark.parametrize(
    ("cpu", "gpu", "there", "limit"),
    [
        (1.0, 0.0, {"CPU": 4.0, "GPU": 1.0}, 4),
        (0.1, 0.0, {"CPU": 0.3, "GPU": 0.0}, 3),
        (1.0, 0.5, {"CPU": 8.0, "GPU": 1.0}, 2),
        (1.0, 2.0, {"CPU": 8.0, "GPU": 1.0}, 0),
        (2.0, 0.0, {"CPU": 1.0, "GPU": 0.0}, 0),
    ],
    ids=["cores", "shares-of-cores", "shares-of-gpus", "no-gpus", "no-cores"],
)
def test_so_many_trials_run_at_once_as_cores_and_gpus_allow(
    cpu: float, gpu: float, there: dict[str, float], limit: int
) -> None:
    assert _count_workers(there, Connection(None, 1, "", "", cpu, gpu, "", {})) == limit
