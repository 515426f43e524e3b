"""The gateway's two processes against a real API server and the real KServe: InferenceServices in, Envoy's routes out.

The names that Envoy connects to mean something inside of the cluster only, and pods run nothing here. So what is
asserted is what Envoy itself says it routes by (its admin page), and that the Services of those names are there; who
answers is asserted in tests/serving/test_xds.py.
"""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from statistics import median
from typing import Any

import pytest

from endcap.cluster import connect
from endcap.deploy import AbSplit, CanaryTarget, Deployment, ShadowTarget
from endcap.deploy.ownership import delete_objects
from endcap.deploy.reconcile import preview_next_transition, reconcile
from endcap.deploy.variants import CANARY, MANAGED_BY, MASK, MODE, REPLACES, SALT, SHARE, STABLE, STABLE_TAG
from endcap.experiments.layout import Layout
from tests.access.credentials import make_client
from tests.cluster.given import Cluster, eventually
from tests.cluster.inference_services import KNATIVE_CRDS, STANDARD_CRDS
from tests.cluster.test_deployer import BOTH, SMALL, prepare, started
from tests.deploy.fake_kserve import recommender, state, target
from tests.serving.pod import Gateway, wait_for

Json = dict[str, Any]
NAME = "shoes"


@pytest.fixture
def gate(cluster: Cluster, namespace: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    cluster.needs("inferenceservices.serving.kserve.io")
    cluster.apply(runtime(), namespace=namespace)
    with ExitStack() as stack:
        yield Gateway(tmp_path_factory.mktemp("gateway"), cluster.kubeconfig, namespace, stack)


def runtime() -> Json:
    container = {
        "name": "kserve-container",
        "image": "registry.test/predictor:1",
        "resources": {"limits": {"cpu": "1", "memory": "1Gi"}},
    }
    return {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "ServingRuntime",
        "metadata": {"name": "small"},
        "spec": {"supportedModelFormats": [{"name": "small", "version": "1"}], "containers": [container]},
    }


def predictor(version: str, **settings: Any) -> Json:
    model = {"name": "", "modelFormat": {"name": "small"}, "runtime": "small", "storageUri": f"s3://models/{version}"}
    return {"minReplicas": 1, "annotations": dict(MASK), "model": model, **settings}


def service(mode: str, said: dict[str, str], spec: Json) -> Json:
    annotations = {MODE: mode, "serving.kserve.io/enable-tag-routing": "true", SALT: "5a17", STABLE: "1", **said}
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": NAME, "labels": {MANAGED_BY: "endcap"}, "annotations": annotations},
        "spec": spec,
    }


def standard(share: float | None = None) -> Json:
    """Version 1, and version 2 as its canary with a share."""
    if share is None:
        return service("Standard", {}, {"predictor": predictor("1")})
    canary = {"predictor": predictor("2", name="v2"), "trafficPercent": round(100 * share)}
    said = {CANARY: "2", SHARE: str(share)}
    return service("Standard", said, {"predictor": predictor("1"), "canary": [canary]})


def knative(share: float | None = None, replaces: str = "") -> Json:
    if share is None:
        return service("Knative", {STABLE_TAG: "latest"}, {"predictor": predictor("1")})
    said = {CANARY: "2", SHARE: str(share), STABLE_TAG: "prev", REPLACES: replaces}
    settings = {"canaryTrafficPercent": round(100 * share)}
    return service("Knative", said, {"predictor": predictor("2", **settings)})


def hosts_exist(cluster: Cluster, namespace: str, hosts: list[str]) -> bool:
    services = {one["metadata"]["name"] for one in cluster.list("services", namespace)}
    return {f"{name}.{namespace}.svc" for name in services} >= set(hosts)


def test_in_standard_mode_envoy_follows_the_share(cluster: Cluster, namespace: str, gate: Gateway) -> None:
    cluster.needs(*STANDARD_CRDS)
    gate.start()
    stable, canary = f"shoes-predictor.{namespace}.svc", f"shoes-v2-predictor.{namespace}.svc"
    cluster.apply(standard(), namespace=namespace)
    eventually(lambda: gate.shares(NAME) == {stable: 1.0})

    cluster.apply(standard(0.1), namespace=namespace)
    eventually(lambda: gate.shares(NAME) == {canary: 0.1, stable: 0.9})
    assert eventually(lambda: hosts_exist(cluster, namespace, [stable, canary]))

    took = [patched(cluster, namespace, gate, share, canary) for share in (0.3, 0.5, 0.3, 0.1, 0.25)]
    print(f"seconds from the share's patch to Envoy's routes: {', '.join(f'{one:.2f}' for one in took)}")
    assert median(took) < 1.0, took

    cluster.kubectl("-n", namespace, "delete", "inferenceservice", NAME)
    eventually(lambda: gate.shares(NAME) == {} and gate.ask(NAME).status_code == 404)


def patched(cluster: Cluster, namespace: str, gate: Gateway, share: float, canary: str) -> float:
    """The seconds from when the API server has the share, in its annotation alone, to when Envoy has it."""
    wanted = {"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService"}
    wanted["metadata"] = {"name": NAME, "namespace": namespace, "annotations": {SHARE: str(share)}}  # type: ignore[assignment]
    connect(str(cluster.kubeconfig)).apply(wanted, force=True)
    start = time.monotonic()
    wait_for(lambda: gate.shares(NAME).get(canary) == share, f"the canary's share is {share}")
    return time.monotonic() - start


def test_in_knative_mode_envoy_addresses_the_tags_of_the_route(cluster: Cluster, namespace: str, gate: Gateway) -> None:
    cluster.needs(*KNATIVE_CRDS)
    gate.start()
    latest, prev = (f"{tag}-shoes-predictor.{namespace}.svc" for tag in ("latest", "prev"))
    cluster.apply(knative(), namespace=namespace)
    eventually(lambda: gate.shares(NAME) == {latest: 1.0})
    newest = cluster.get("inferenceservice", NAME, namespace)["status"]["components"]["predictor"]

    for share in (0.1, 0.5):
        cluster.apply(knative(share, newest["latestCreatedRevision"]), namespace=namespace)
        expected = {latest: share, prev: 1 - share}
        eventually(lambda expected=expected: gate.shares(NAME) == expected)
    assert hosts_exist(cluster, namespace, [latest, prev])
    # A tag is found by the Host header: whichever the caller sent must not arrive.
    weighted = next(one["route"]["weighted_clusters"] for one in gate.routes() if one["name"] == NAME)
    assert [one["host_rewrite_literal"] for one in weighted["clusters"]] == [latest, prev]

    # With everything the canary is the only one that Knative gives an address.
    cluster.apply(knative(1.0, newest["latestCreatedRevision"]), namespace=namespace)
    eventually(lambda: gate.shares(NAME) == {latest: 1.0})


def test_a_canary_without_a_pod_gets_nobody(cluster: Cluster, namespace: str, gate: Gateway) -> None:
    cluster.needs(*STANDARD_CRDS)
    gate.start()
    stable, canary = f"shoes-predictor.{namespace}.svc", f"shoes-v2-predictor.{namespace}.svc"
    cluster.apply(standard(), namespace=namespace)
    eventually(lambda: gate.shares(NAME) == {stable: 1.0})
    # It asks for a node that is not there.
    there = standard(0.5)
    there["spec"]["canary"][0]["predictor"]["nodeSelector"] = {"endcap.dev/no-such-node": "true"}
    cluster.apply(there, namespace=namespace)
    eventually(lambda: hosts_exist(cluster, namespace, [canary]))
    time.sleep(2)
    assert gate.shares(NAME) == {stable: 1.0}


def test_an_api_server_that_is_killed_changes_no_share(cluster: Cluster, namespace: str, gate: Gateway) -> None:
    cluster.needs(*STANDARD_CRDS)
    gate.start()
    stable, canary = f"shoes-predictor.{namespace}.svc", f"shoes-v2-predictor.{namespace}.svc"
    cluster.apply(standard(0.1), namespace=namespace)
    eventually(lambda: gate.shares(NAME) == {canary: 0.1, stable: 0.9})
    cluster.kill_api_server()
    try:
        time.sleep(3)
        assert gate.shares(NAME) == {canary: 0.1, stable: 0.9}
        gate.process.terminate()
        gate.process.wait()
        gate.start()
        assert gate.shares(NAME) == {stable: 1.0}
    finally:
        cluster.restart_api_server()
    eventually(lambda: gate.shares(NAME) == {canary: 0.1, stable: 0.9})


def test_keys_of_a_secret_hold_and_change(cluster: Cluster, namespace: str, gate: Gateway) -> None:
    """What the kubelet would mount is written here from the Secret as the API server has it; the rest is real."""
    cluster.needs(*STANDARD_CRDS)
    folder = gate.folder / "access"
    folder.mkdir()
    gate.options = ["--access", str(folder / "access.yaml")]

    def hand_over(*keys: str) -> None:
        text = json.dumps({"clients": [make_client("web", *keys)]})
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "endcap-access"}}
        cluster.apply({**secret, "stringData": {"access.yaml": text}}, namespace=namespace)
        data = cluster.get("secret", "endcap-access", namespace)["data"]["access.yaml"]
        (folder / "draft").write_bytes(base64.b64decode(data))
        (folder / "draft").replace(folder / "access.yaml")

    def answered(key: str) -> str:
        headers = {"x-endcap-key": key} if key else {}
        answer = gate.client.post(f"/v1/models/{NAME}:predict", json={}, headers=headers)
        return str(answer.json()["code"])

    cluster.apply(standard(), namespace=namespace)
    hand_over("first-key")
    gate.start()
    eventually(lambda: gate.shares(NAME) == {f"shoes-predictor.{namespace}.svc": 1.0})
    # Nobody is at the name of the Service here: who is let through gets as far as that.
    through = {"gateway.unanswered", "gateway.timeout", "gateway.no-predictor"}
    assert [answered(""), answered("next-key")] == ["gateway.credential-missing", "gateway.credential-invalid"]
    assert answered("first-key") in through
    hand_over("next-key")
    eventually(lambda: answered("first-key") == "gateway.credential-invalid")
    assert answered("next-key") in through
    log = (gate.folder / "gateway.log").read_text()
    assert "first-key" not in log
    assert "next-key" not in log


@pytest.mark.parametrize(("mode", "crds"), BOTH, ids=["Standard", "Knative"])
def test_a_shadow_comes(cluster: Cluster, namespace: str, gate: Gateway, mode: str, crds: tuple[str, ...]) -> None:
    """Beside the version that serves, which notices nothing, and is taken back.

    (The test's name is the namespace's, and a longer one would shorten the shadow's.)
    """
    cluster.needs(*crds)
    prepare(cluster, namespace)
    gate.start()
    client, spec, serves = connect(str(cluster.kubeconfig)), recommender(mode=mode, **SMALL), state("1")
    host = f"{'latest-' * (mode == 'Knative')}shoes--shadow-predictor.{namespace}.svc"

    def deploy(share: float) -> list[str]:
        shadow = ShadowTarget(**target("3").model_dump(), share=share) if share else None
        wanted: Deployment = serves.model_copy(update={"shadow": shadow, "changed": datetime.now(UTC)})
        told = preview_next_transition(spec, wanted, client, namespace)
        assert ("InferenceService shoes--shadow is deleted" in told) == (not share)
        return reconcile(spec, lambda: wanted, client, namespace).notes

    reconcile(spec, lambda: serves, client, namespace)
    before = started(cluster, namespace)
    assert deploy(0.1) == ["0.1 of the requests are copied to version 3 once it is ready"]
    eventually(lambda: gate.copies(NAME) == {host: 0.1})
    assert hosts_exist(cluster, namespace, [host])
    assert started(cluster, namespace) == before, "who serves notices nothing"
    (pod,) = cluster.list("pods", namespace, "serving.kserve.io/inferenceservice=shoes--shadow")
    container = next(one for one in pod["spec"]["containers"] if one["name"] == "kserve-container")
    # The runtime's own come first, and the last one counts.
    assert container["args"][-2:] == ["--model-name", "shoes"]
    assert {"name": "ENDCAP_VARIANT", "value": "shadow"} in container["env"]

    assert deploy(0.5) == ["0.5 of the requests are copied to version 3"]
    eventually(lambda: gate.copies(NAME) == {host: 0.5})
    (same,) = cluster.list("pods", namespace, "serving.kserve.io/inferenceservice=shoes--shadow")
    assert same["metadata"]["uid"] == pod["metadata"]["uid"], "another share starts no pod"

    assert deploy(0.0) == []
    eventually(lambda: gate.copies(NAME) == {} and gate.shares(NAME) != {})
    eventually(lambda: not cluster.list("pods", namespace, "serving.kserve.io/inferenceservice=shoes--shadow"))
    assert started(cluster, namespace) == before
    deploy(0.1)
    if mode == "Standard":
        assert delete_objects(NAME, client, namespace) == ["InferenceService shoes--shadow", "InferenceService shoes"]
        assert cluster.list("inferenceservices", namespace) == []
    else:
        cluster.kubectl("-n", namespace, "delete", "inferenceservice", NAME)
        eventually(lambda: cluster.list("inferenceservices", namespace) == [])


@pytest.mark.parametrize(("mode", "crds"), BOTH, ids=["Standard", "Knative"])
def test_an_arm_comes(cluster: Cluster, namespace: str, gate: Gateway, mode: str, crds: tuple[str, ...]) -> None:
    """After a promotion the version before it goes on for a few shoppers, beside popularity; and leaves again.

    (The test's name is the namespace's, and a longer one would shorten the arms'.)
    """
    cluster.needs(*crds)
    prepare(cluster, namespace)
    gate.start()
    client, spec = connect(str(cluster.kubeconfig)), recommender(mode=mode, **SMALL)
    tag = "latest-" * (mode == "Knative")
    previous, baseline = (f"{tag}shoes--{arm}-predictor.{namespace}.svc" for arm in ("previous", "baseline"))

    def deploy(stable: str, **arms: CanaryTarget) -> list[str]:
        wanted: Deployment = state(stable).model_copy(update={**arms, "changed": datetime.now(UTC)})
        return reconcile(spec, lambda: wanted, client, namespace).notes

    def arm(version: str, share: float) -> CanaryTarget:
        return CanaryTarget(**target(version).model_dump(), share=share)

    def shares() -> dict[str, float]:
        """Of the arms beside the stable version."""
        return {host: share for host, share in gate.shares(NAME).items() if "--" in host}

    def served() -> list[str]:
        pods = cluster.list("pods", namespace, "serving.kserve.io/inferenceservice=shoes--previous")
        going = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
        return [pod["metadata"]["annotations"]["endcap.dev/version"] for pod in going]

    trial = state("1", "2", 0.5)
    reconcile(spec, lambda: trial, client, namespace)
    assert deploy("2", previous=arm("1", 0.02)) == ["0.02 of the shoppers meet the previous version 1 once it is ready"]
    eventually(lambda: shares() == {previous: 0.02})
    assert hosts_exist(cluster, namespace, [previous])
    before = started(cluster, namespace)
    assert deploy("2", previous=arm("1", 0.05)) == ["0.05 of the shoppers meet the previous version 1"]
    eventually(lambda: shares() == {previous: 0.05})
    assert started(cluster, namespace) == before, "who serves notices nothing"

    notes = deploy("2", previous=arm("1", 0.05), baseline=arm("popularity", 0.1))
    assert notes[-1] == "0.1 of all shoppers meet popularity once it is ready"
    # Its routes are those of a matcher, which the lists of routes do not show.
    eventually(lambda: baseline in gate.admin.get("/config_dump?resource=dynamic_route_configs").text)
    # The next promotion: another version is the one before. Pods of two versions never answer for one.
    deploy("3", previous=arm("2", 0.02))
    eventually(lambda: shares() == {previous: 0.02})
    assert served() == ["2"]
    wanted = state("3").model_copy(update={"changed": datetime.now(UTC)})
    assert "InferenceService shoes--previous is deleted" in preview_next_transition(spec, wanted, client, namespace)
    assert deploy("3") == []
    eventually(lambda: shares() == {} and gate.shares(NAME) != {})
    eventually(lambda: not served())
    assert [service["metadata"]["name"] for service in cluster.list("inferenceservices", namespace)] == ["shoes"]


@pytest.mark.parametrize(("mode", "crds"), BOTH, ids=["Standard", "Knative"])
def test_a_return(cluster: Cluster, namespace: str, gate: Gateway, mode: str, crds: tuple[str, ...]) -> None:
    """A promoted version is taken back: everyone meets the previous version's pods at once, and nobody meets it again.

    (The test's name is the namespace's, and a longer one would shorten the arms'.)
    """
    cluster.needs(*crds)
    prepare(cluster, namespace)
    gate.start()
    client, spec = connect(str(cluster.kubeconfig)), recommender(mode=mode, replicas={"min": 2, "max": 3}, **SMALL)
    tag = "latest-" * (mode == "Knative")
    previous = f"{tag}shoes--previous-predictor.{namespace}.svc"
    own = f"latest-shoes-predictor.{namespace}.svc" if tag else f"shoes-v1-predictor.{namespace}.svc"

    def wanted(stable: str, **changes: Any) -> Deployment:
        return state(stable).model_copy(update={**changes, "changed": datetime.now(UTC)})

    for desired in (wanted("2"), wanted("2", previous=CanaryTarget(**target("1").model_dump(), share=0.02))):
        reconcile(spec, lambda desired=desired: desired, client, namespace)
    eventually(lambda: gate.shares(NAME).get(previous) == 0.02)

    back = wanted("1", withdrawn="2")
    begun = time.monotonic()
    carrying_out = threading.Thread(target=reconcile, args=(spec, lambda: back, client, namespace))
    carrying_out.start()
    wait_for(lambda: gate.shares(NAME) == {previous: 1.0}, "everyone meets the previous version's pods", 10)
    print(f"{mode}: {time.monotonic() - begun:.2f} s from the desired state to Envoy's routes")
    seen = [gate.shares(NAME)]
    while carrying_out.is_alive():
        seen += [shares] if (shares := gate.shares(NAME)) != seen[-1] else []
        time.sleep(0.05)
    eventually(lambda: gate.shares(NAME) == {own: 1.0})
    assert [{previous: 1.0}, {own: 1.0}][: len(seen)] == seen
    assert set(started(cluster, namespace)) == {"1"} or tag
    eventually(lambda: [one["metadata"]["name"] for one in cluster.list("inferenceservices", namespace)] == [NAME])


@pytest.mark.parametrize(("mode", "crds"), BOTH, ids=["Standard", "Knative"])
def test_ab(cluster: Cluster, namespace: str, gate: Gateway, mode: str, crds: tuple[str, ...]) -> None:
    """Two challengers share the shoppers with the stable version; one that has no pods leaves its places to stable.

    (The test's name is the namespace's, and a longer one would shorten the challengers'.)
    """
    cluster.needs(*crds)
    prepare(cluster, namespace)
    gate.start()
    client, spec = connect(str(cluster.kubeconfig)), recommender(mode=mode, **SMALL)
    tag = "latest-" * (mode == "Knative")
    hosts = {f"{tag}shoes--challenger-{number}-predictor.{namespace}.svc": f"challenger-{number}" for number in (1, 2)}

    def serve(layout: Layout | None) -> list[str]:
        ab = AbSplit(challengers=(target("2"), target("3")), layout=layout) if layout else None
        wanted: Deployment = state("1").model_copy(update={"ab": ab, "changed": datetime.now(UTC)})
        return reconcile(spec, lambda: wanted, client, namespace).notes

    def places() -> list[tuple[str, int]]:
        """The arms on the hash range, as Envoy itself has them."""
        for route in gate.routes():
            if route["name"] == NAME and (weighted := route["route"].get("weighted_clusters")):
                names = [cluster["name"].split("/")[1].split(":")[0] for cluster in weighted["clusters"]]
                weights = [cluster["weight"] for cluster in weighted["clusters"]]
                return [(hosts.get(name, "stable"), weight) for name, weight in zip(names, weights, strict=True)]
        return []

    def lay_out(layout: Layout) -> list[tuple[str, int]]:
        return [(segment.arm, segment.weight) for segment in layout.segments]

    serve(None)
    before = started(cluster, namespace)
    first = Layout.begin({"stable": 400_000, "challenger-1": 300_000, "challenger-2": 300_000})
    assert len(serve(first)) == 2
    eventually(lambda: places() == lay_out(first))
    assert hosts_exist(cluster, namespace, list(hosts))
    later = first.change({"stable": 200_000, "challenger-1": 600_000, "challenger-2": 200_000})
    serve(later)
    eventually(lambda: places() == lay_out(later))
    dropped = later.change({"stable": 400_000, "challenger-1": 600_000})
    serve(dropped)
    eventually(lambda: places() == lay_out(dropped))
    assert started(cluster, namespace) == before, "who serves notices nothing"
    names = {one["metadata"]["name"] for one in cluster.list("inferenceservices", namespace)}
    assert names == {NAME, "shoes--challenger-1"}
    # The first challenger wins: its shoppers keep it, and the others meet it once it can serve them.
    seen = [places()]
    won = state("2").model_copy(update={"changed": datetime.now(UTC)})
    ending = threading.Thread(target=reconcile, args=(spec, lambda: won, client, namespace))
    ending.start()
    while ending.is_alive():
        seen += [now] if (now := places()) != seen[-1] else []
        time.sleep(0.05)
    own = f"latest-shoes-predictor.{namespace}.svc" if tag else f"shoes-v2-predictor.{namespace}.svc"
    eventually(lambda: gate.shares(NAME) == {own: 1.0})
    assert seen in ([lay_out(dropped)], [lay_out(dropped), []])
    eventually(lambda: [one["metadata"]["name"] for one in cluster.list("inferenceservices", namespace)] == [NAME])
