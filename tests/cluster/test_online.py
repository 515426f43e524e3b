"""The online store of a cluster: predictors are told where it is, the batch's step fills it, rankings come out of it.

KWOK's nodes run no containers, so two of them are run here, each as its pod has it (`tests.cluster.pods`): the
recommend step by its compiled package, and a predictor by the pod that KServe made of the chart's runtime and the
deployer's InferenceService. KServe's storage initializer is not run: the package is laid where it would lay it.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from endcap.cluster import connect
from endcap.deploy import CanaryTarget, Deployment, Target
from endcap.deploy.ownership import delete_objects
from endcap.deploy.reconcile import reconcile
from endcap.deploy.variants import Mode
from endcap.online import RecentEvent, open_online
from endcap.registry import Registry
from endcap.spec.load import Loaded, load
from endcap.store import Store, open_store
from endcap_pipelines.package import package as compiled
from endcap_serving.local.predictors import find_free_port
from tests.batch.given import log, package, rows
from tests.cluster import pods
from tests.cluster.given import Cluster, eventually, own_namespace
from tests.cluster.inference_services import KNATIVE_CRDS, STANDARD_CRDS
from tests.cluster.object_store import ObjectStore
from tests.online.servers import RedisServer
from tests.pipelines.packages import check_package, container
from tests.serving.conftest import running, wait_until_ready

CHART = str(Path(__file__).parents[2] / "charts" / "endcap")
SECRET, KEY = "online", "ENDCAP_ONLINE"
VALUES = [
    "--set=mlflow.enabled=false,gateway.enabled=false,kfp.enabled=false,serving.createNamespace=false",
    f"--set=tests.enabled=false,serving.runtime.enabled=true,online.secretName={SECRET}",
]
SPEC = {
    "apiVersion": "endcap/v2",
    "kind": "Recommender",
    "name": "shoes",
    "shop": "shop",
    "model": {"name": "vsknn"},
    "batch": {"k": 6},
    "serving": {"kubernetes": {"mode": "Standard", "cpu": "50m", "memory": "64Mi"}},
    # As docs/recommend.md has it.
    "pipeline": {"steps": {"recommend": {"secrets": [{"secret": SECRET, "key": KEY, "env": KEY}]}}},
}
SHOP = {
    "apiVersion": "endcap/v2",
    "kind": "Shop",
    "name": "shop",
    "events": {
        "sources": [{"path": "events.csv"}],
        "columns": {"session": "session", "customer": "customer"},
    },
}
Json = dict[str, Any]


@dataclass(frozen=True)
class Shop:
    """A store in a bucket with a dataset and a package of it, which is version 1 and champion in the registry."""

    loaded: Loaded
    store: Store
    dataset: str
    package: str
    registry: str


@dataclass(frozen=True)
class Release:
    """Of the chart. pipelines, serving: namespaces, each with the Secrets of the stores."""

    pipelines: str
    serving: str


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def release(cluster: Cluster, redis_server: RedisServer, object_store: ObjectStore) -> Iterator[Release]:
    if not cluster.simulated():
        pytest.skip("the cluster's nodes would run the pods, which cannot reach the servers of this machine")
    with own_namespace(cluster, "online-pipelines") as pipelines, own_namespace(cluster, "online-serving") as serving:
        for namespace in (pipelines, serving):
            stores = {SECRET: {KEY: redis_server.url}, "endcap-store": object_store.environment()}
            secrets = [
                {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": keys}
                for name, keys in stores.items()
            ]
            cluster.apply(*secrets, namespace=namespace)
        helm = ("-n", pipelines)
        cluster.helm(*helm, "install", "endcap", CHART, *VALUES, f"--set=serving.namespace={serving}")
        yield Release(pipelines, serving)
        cluster.helm(*helm, "uninstall", "endcap")


@pytest.fixture(scope="module")
def shop(object_store: ObjectStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("shop")
    (folder / "shops").mkdir()
    (folder / "shops" / "shop.yaml").write_text(json.dumps(SHOP))
    (folder / "shoes.yaml").write_text(json.dumps(SPEC))
    loaded = load(folder / "shoes.yaml")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**object_store.environment(), "ENDCAP_CACHE": str(folder / "cache")}.items():
            patch.setenv(name, value)
        store = open_store(f"{object_store.make_bucket('online')}/endcap")
        dataset = log(store)
        made = package(store, loaded.recommender, dataset)
        registry = Registry(f"sqlite:///{folder}/mlflow.db")
        registry.add_version("shoes", made, "approved", "a test", {})
        yield Shop(loaded, store, dataset, made, registry.uri)


def test_the_batchs_lists_and_recent_events_reach_a_deployed_predictor(
    cluster: Cluster, release: Release, redis_server: RedisServer, shop: Shop, tmp_path: Path
) -> None:
    cluster.needs(*STANDARD_CRDS)
    lists = rows(shop.store, lists_of_the_step(cluster, release, shop, tmp_path))
    assert len(lists) == 12  # one a customer of the log
    with (
        deployed(cluster, release, shop.loaded.recommender, state("shoes", shop.package)),
        predictor(cluster, release, shop, tmp_path) as client,
    ):
        listed = ask(client, customer="c3", precomputed=True, k=4)
        assert listed["precomputed"]
        assert names(listed) == lists["c3"]["items"][:4]

        before = ask(client, customer="c3", k=4)
        now = int(datetime.now(UTC).timestamp() * 1000)
        seen = [RecentEvent("x", now - 1000), RecentEvent("w", now)]
        with open_online(redis_server.url, shop="shop", timeout=5.0) as online:
            online.append({"customer:c3": seen}, keep=timedelta(days=7))
        after = ask(client, customer="c3", k=4)
        assert names(after) == names(ask(client, items=["x", "w"], k=4))
        assert names(after) != names(before)


@pytest.mark.parametrize(("mode", "crds"), [("Standard", STANDARD_CRDS), ("Knative", KNATIVE_CRDS)])
def test_every_predictor_that_the_deployer_makes_is_told_of_the_store(
    cluster: Cluster, release: Release, redis_server: RedisServer, shop: Shop, mode: Mode, crds: tuple[str, ...]
) -> None:
    cluster.needs(*crds)
    spec, name = shop.loaded.recommender, f"told-{mode.lower()}"
    kubernetes = spec.serving.kubernetes.model_copy(update={"mode": mode})
    serving = spec.serving.model_copy(update={"kubernetes": kubernetes})
    spec = spec.model_copy(update={"name": name, "serving": serving})
    with deployed(cluster, release, spec, state(name, shop.package), state(name, shop.package, canary=True)):
        started = containers(cluster, release, name)
        assert sorted(started) == ["1", "2"]
        for one in started.values():
            assert pods.environment(cluster, release.serving, one["env"])[KEY] == redis_server.url


def lists_of_the_step(cluster: Cluster, release: Release, shop: Shop, folder: Path) -> str:
    """Run the recommend step of the compiled pipeline as its pod would; the address of the lists that it says."""
    pipeline = check_package(compiled("recommend", shop.loaded))
    run, platform = container(pipeline, "recommend"), pipeline["platform"]["recommend"]
    defaults = {
        name: one.get("defaultValue", "") for name, one in pipeline["root"]["inputDefinitions"]["parameters"].items()
    }
    given = {**defaults, "store": shop.store.root, "registry": shop.registry, "dataset": shop.dataset, "run": "a-run"}
    takes = pipeline["components"]["comp-recommend"]["inputDefinitions"]["parameters"]
    told = folder / "told.json"
    executor_input = {
        "inputs": {"parameterValues": {name: given[name] for name in takes if name in given}},
        "outputs": {"parameters": {"Output": {"outputFile": str(folder / "output")}}, "outputFile": str(told)},
    }
    words = [json.dumps(executor_input) if word == "{{$}}" else word for word in [*run["command"], *run["args"]]]
    entries = [*run["env"], *pods.step_environment(platform)]
    mounts = {one["mountPath"]: folder / one["secretName"] for one in platform["secretAsVolume"]}
    for one in mounts.values():
        one.mkdir()
        for key, value in pods.secret(cluster, release.pipelines, one.name).items():
            (one / key).write_text(value)
    command = pods.command(words, pods.environment(cluster, release.pipelines, entries), mounts, folder)
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return str(json.loads(told.read_text())["parameterValues"]["Output"])


def state(name: str, package: str, *, canary: bool = False) -> Deployment:
    """Version 1 for everyone, or version 2 beside it."""
    beside = CanaryTarget(version="2", package=package, share=0.5) if canary else None
    stable = Target(version="1", package=package)
    return Deployment(recommender=name, stable=stable, canary=beside, salt="ab12", changed=datetime.now(UTC))


@contextmanager
def deployed(cluster: Cluster, release: Release, spec: Any, *states: Deployment) -> Iterator[None]:
    """What the deployer makes of a recommender's states, one after the other, until the block ends."""
    client = connect(str(cluster.kubeconfig))
    try:
        for desired in states:
            reconcile(spec, lambda desired=desired: desired, client, release.serving)
        yield
    finally:
        delete_objects(spec.name, client, release.serving)


def containers(cluster: Cluster, release: Release, name: str) -> dict[str, Json]:
    """The predictors' containers as they stand in the pods, by version."""
    found = {}
    for pod in cluster.list("pods", release.serving, f"serving.kserve.io/inferenceservice={name}"):
        version = pod["metadata"]["annotations"]["endcap.dev/version"]
        found[version] = next(one for one in pod["spec"]["containers"] if one["name"] == "kserve-container")
    return found


@contextmanager
def predictor(cluster: Cluster, release: Release, shop: Shop, folder: Path) -> Iterator[httpx.Client]:
    """The container of the pod of version 1, started and ready."""
    run = containers(cluster, release, "shoes")["1"]
    port, logged = find_free_port(), folder / "predictor.log"
    # The last of an option counts. A pod has an address of its own, here it is a port; nobody must hear of its end.
    here = ["--host", "127.0.0.1", "--port", str(port), "--drain-wait", "0"]
    command = pods.command(
        [*run["command"], *run["args"], *here],
        pods.environment(cluster, release.serving, run["env"]),
        {"/mnt/models": shop.store.fetch(shop.package)},
        folder,
    )
    with (
        running(command, logged) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client,
    ):
        wait_until_ready(client, process, logged)
        yield client


def ask(client: httpx.Client, **instance: Any) -> Json:
    """A ranking, once the online store has answered in the little time that it is given."""

    def ranking() -> Json:
        answer = client.post("/v1/models/shoes:predict", json={"instances": [instance]})
        assert answer.status_code == 200, answer.text
        (made,) = answer.json()["predictions"]
        assert "degraded" not in made
        return dict(made)

    return dict(eventually(ranking, 20))


def names(ranking: Json) -> list[str]:
    return [one["item"] for one in ranking["items"]]
