"""The deployer on the real controllers: canaries, promotion and rollback in both modes, and who may do it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from endcap.cluster import connect
from endcap.deploy import Deployment, read_state
from endcap.deploy.ownership import delete_objects
from endcap.deploy.reconcile import ReconcileReport, preview_next_transition, reconcile
from endcap.deploy.runtime_manifests import render_service_account, render_serving_runtime
from endcap.deploy.state import write_state
from endcap.deploy.variants import Mode, read_variants
from endcap.errors import ClusterError, UserError
from endcap.registry import Registry, get_default_uri
from endcap.spec import Recommender
from endcap.store import open_store
from tests.cluster.given import Cluster
from tests.cluster.inference_services import KNATIVE_CRDS, STANDARD_CRDS, traffic
from tests.deploy.fake_kserve import recommender, state
from tests.refusals import refused

ROUTE = {"gateway": "kserve/kserve-ingress-gateway", "hostname": "shoes.shop.example"}
GPU = {
    "gpu": {"count": 1},
    "nodeSelector": {"nvidia.com/gpu.present": "true"},
    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
    "cpu": "100m",
    "memory": "64Mi",
}
SMALL = {"cpu": "50m", "memory": "64Mi"}
BOTH = [("Standard", STANDARD_CRDS), ("Knative", KNATIVE_CRDS)]
SECRET = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "endcap-store"},
    "stringData": {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "S3_ENDPOINT": "s3.test:9000"},
}


def prepare(cluster: Cluster, namespace: str) -> None:
    """What the chart or manifests/base bring; pods must keep to the restricted standard."""
    cluster.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    serving = recommender().serving.kubernetes
    runtime, account = render_serving_runtime(namespace, "endcap:test"), render_service_account(namespace, serving)
    cluster.apply(runtime, account, SECRET, namespace=namespace)


@pytest.fixture
def deploying(cluster: Cluster, namespace: str) -> Iterator[Callable[..., ReconcileReport]]:
    """Deploys to a prepared namespace: `deploying(spec, state)`."""
    prepare(cluster, namespace)
    client = connect(str(cluster.kubeconfig))

    def deploy(spec: Recommender, desired: Deployment, **options: Any) -> ReconcileReport:
        return reconcile(spec, lambda: desired, client, namespace, **options)

    yield deploy
    delete_objects("shoes", client, namespace)


def weights(cluster: Cluster, namespace: str, route: str = "endcap-shoes") -> dict[str, int]:
    rules = cluster.get("httproute", route, namespace)["spec"]["rules"]
    return {one["name"]: one["weight"] for one in rules[-1]["backendRefs"]}


def needs_gateway(cluster: Cluster) -> None:
    """A controller must really follow our route: what stands in it is only what was asked for."""
    namespace, name = ROUTE["gateway"].split("/")
    cluster.needs("gateways.gateway.networking.k8s.io")
    if cluster.kubectl("-n", namespace, "get", "gateway", name, check=False).returncode:
        pytest.skip(f"the cluster has no Gateway {ROUTE['gateway']}")


def started(cluster: Cluster, namespace: str) -> dict[str, str]:
    """The pods by their version."""
    pods = cluster.list("pods", namespace, "serving.kserve.io/inferenceservice=shoes")
    going = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
    return {pod["metadata"]["annotations"]["endcap.dev/version"]: pod["metadata"]["uid"] for pod in going}


def test_a_canary_in_knative_mode_shows_in_the_route(
    cluster: Cluster, namespace: str, deploying: Callable[..., ReconcileReport]
) -> None:
    cluster.needs(*KNATIVE_CRDS)
    spec = recommender(mode="Knative", **SMALL)

    def route() -> dict[str, int]:
        return traffic(cluster.get("routes.serving.knative.dev", "shoes-predictor", namespace))

    deploying(spec, state("1"))
    assert route() == {"latest": 100}
    for share in (0.1, 0.5):
        assert deploying(spec, state("1", "2", share)).traffic[0].shares == {"2": 100 * share, "1": 100 - 100 * share}
        assert route() == {"latest": 100 * share, "prev": 100 - 100 * share}
    deploying(spec, state("1", "2", 1.0))
    assert route() == {"latest": 100}
    before = started(cluster, namespace)
    deploying(spec, state("2"))
    assert route() == {"latest": 100}
    assert started(cluster, namespace)["2"] == before["2"], "promotion starts no pod"
    deploying(spec, state("2", "3", 0.2))
    assert route() == {"latest": 20, "prev": 80}
    outcome = deploying(spec, state("2"))
    assert outcome.traffic[0].shares == {"2": 100}
    variants = read_variants(cluster.get("inferenceservice", "shoes", namespace))
    assert variants is not None
    assert variants.canary is None
    assert variants.stable is not None
    assert (variants.stable.version, variants.stable.ready) == ("2", True)


@pytest.mark.parametrize("mode", ["Knative", "Standard"])
def test_no_pod_starts_anew_because_the_store_was_moved_until_the_old_place_is_gone(
    cluster: Cluster, namespace: str, deploying: Callable[..., ReconcileReport], mode: str
) -> None:
    cluster.needs(*(KNATIVE_CRDS if mode == "Knative" else STANDARD_CRDS))
    spec, before = recommender(mode=mode, **SMALL), state("1")
    old, new = before.stable.package, before.stable.package.replace("s3://endcap/", "s3://restored/")
    moved = before.model_copy(update={"stable": before.stable.model_copy(update={"package": new})})

    def read_from() -> str:
        predictor = cluster.get("inferenceservice", "shoes", namespace)["spec"]["predictor"]
        return str(predictor["model"]["storageUri"])

    deploying(spec, before)
    pods = started(cluster, namespace)
    outcome = deploying(spec, moved, lies_at=lambda address: address == old)
    assert (started(cluster, namespace), read_from()) == (pods, old)
    assert any(old in note for note in outcome.notes)
    deploying(spec, moved)
    assert read_from() == new
    assert started(cluster, namespace) != pods


def test_a_canary_in_standard_mode_shows_in_our_own_route(
    cluster: Cluster, namespace: str, deploying: Callable[..., ReconcileReport]
) -> None:
    cluster.needs(*STANDARD_CRDS)
    needs_gateway(cluster)
    spec = recommender(mode="Standard", route=ROUTE, **SMALL)
    deploying(spec, state("1"))
    assert weights(cluster, namespace) == {"shoes-v1-predictor": 10_000}
    for share in (0.1, 0.5):
        outcome = deploying(spec, state("1", "2", share))
        assert outcome.traffic[0].shares == pytest.approx({"1": 100 - 100 * share, "2": 100 * share})
        assert weights(cluster, namespace)["shoes-v2-predictor"] == 10_000 * share
    assert any("does not follow the share" in note for note in outcome.notes) == (
        outcome.traffic[-1].shares == {"1": 100}
    )
    deploying(spec, state("1", "2", 1.0))
    variants = read_variants(cluster.get("inferenceservice", "shoes", namespace))
    assert variants is not None
    assert variants.stable is not None
    assert variants.canary is not None
    assert (variants.stable.ready, variants.canary.ready, variants.share) == (True, True, 1.0)
    before = started(cluster, namespace)
    deploying(spec, state("2"))
    assert weights(cluster, namespace) == {"shoes-v2-predictor": 10_000}
    assert started(cluster, namespace)["2"] == before["2"], "promotion starts no pod"
    deploying(spec, state("2", "3", 0.2))
    deploying(spec, state("2"))
    assert weights(cluster, namespace) == {"shoes-v2-predictor": 10_000}


def test_a_route_that_its_gateway_does_not_take_is_no_success(
    cluster: Cluster, namespace: str, deploying: Callable[..., ReconcileReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.needs(*STANDARD_CRDS)
    needs_gateway(cluster)
    monkeypatch.setattr("endcap.deploy.read_back.SPLIT_WITHIN", 8.0)

    def at(gateway: str) -> Recommender:
        return recommender(mode="Standard", route={**ROUTE, "gateway": gateway}, **SMALL)

    with pytest.raises(ClusterError, match=r"not in force: Gateway kserve/nowhere says nothing of it"):
        deploying(at("kserve/nowhere"), state("1"))
    offered = cluster.get("gateway", "kserve-ingress-gateway", "kserve")["spec"]["gatewayClassName"]
    listener = {"name": "http", "protocol": "HTTP", "port": 80, "hostname": "elsewhere.example"}
    edge = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "edge"}}
    cluster.apply({**edge, "spec": {"gatewayClassName": offered, "listeners": [listener]}}, namespace=namespace)
    with pytest.raises(
        ClusterError, match=rf"Gateway {namespace}/edge: Accepted is False \(NoMatchingListenerHostname"
    ):
        deploying(at(f"{namespace}/edge"), state("1"))
    told = deploying(at(ROUTE["gateway"]), state("1")).traffic[0]
    assert (told.source, told.shares, told.missing) == ("HTTPRoute endcap-shoes", {"1": 100}, "")
    status = cluster.get("httproute", "endcap-shoes", namespace)["status"]
    assert {one["parentRef"]["name"] for one in status["parents"]} >= {"kserve-ingress-gateway"}


def test_a_route_of_someone_elses_is_not_taken_even_by_force(
    cluster: Cluster, namespace: str, deploying: Callable[..., ReconcileReport]
) -> None:
    cluster.needs(*STANDARD_CRDS)
    theirs = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "endcap-shoes"}}
    parents = [{"name": "edge", "namespace": "infra"}]
    spec = {"parentRefs": parents, "hostnames": ["theirs.example"]}
    cluster.apply({**theirs, "spec": spec}, namespace=namespace)
    with pytest.raises(ClusterError, match=r"HTTPRoute endcap-shoes in namespace .* that Endcap did not make"):
        deploying(recommender(mode="Standard", route=ROUTE, **SMALL), state("1"), force=True)
    assert cluster.get("httproute", "endcap-shoes", namespace)["spec"]["hostnames"] == ["theirs.example"]
    assert cluster.list("inferenceservices", namespace) == []


def test_pods_run_on_gpu_nodes_and_a_second_one_is_told_that_no_gpu_is_free(
    cluster: Cluster, namespace: str, deploying: Callable[..., ReconcileReport], gpu_nodes: dict[str, int]
) -> None:
    cluster.needs(*STANDARD_CRDS)
    most = max(gpu_nodes.values())
    told: list[str] = []
    deploying(recommender(mode="Standard", **GPU), state("1"))
    nodes = {pod["spec"]["nodeName"] for pod in cluster.list("pods", namespace)}
    assert nodes <= set(gpu_nodes)
    greedy = recommender(mode="Standard", ready_within="8s", **GPU, canary={**GPU, "gpu": {"count": most + 1}})
    with pytest.raises(Exception, match=r"version 2 of shoes does not become ready within .*: no node takes the pod"):
        deploying(greedy, state("1", "2"), progress=told.append)
    assert any(f"{most + 1} nvidia.com/gpu, and the nodes with nvidia.com/gpu.present=true" in line for line in told)
    variants = read_variants(cluster.get("inferenceservice", "shoes", namespace))
    assert variants is not None
    assert variants.share == 0


def test_a_trial_that_no_node_is_large_enough_for_is_said_before_it_starts(
    cluster: Cluster, namespace: str, deploying: Callable[..., ReconcileReport]
) -> None:
    cluster.needs(*STANDARD_CRDS)
    client = connect(str(cluster.kubeconfig))
    deploying(recommender(mode="Standard", **SMALL), state("1"))
    large = recommender(mode="Standard", **SMALL, canary={**SMALL, "cpu": "1000"})
    said = preview_next_transition(large, state("1", "2"), client, namespace)
    assert "version 2: a pod needs 1000 cpu" in said
    assert "no node is large enough" in said
    assert preview_next_transition(large, state("1"), client, namespace) == "nothing would change"


@contextmanager
def default_mode(cluster: Cluster, mode: Mode) -> Iterator[None]:
    """KServe's own default, which one who installs it chooses for the whole cluster."""
    found = cluster.get("configmap", "inferenceservice-config", "kserve")["data"]["deploy"]
    if json.loads(found)["defaultDeploymentMode"] == mode:
        yield
        return
    if cluster.plane is None:
        pytest.skip(f"the default mode is not {mode}, and changing it is for a control plane of the tests' own")

    def set_to(deploy: str) -> None:
        patch = json.dumps({"data": {"deploy": deploy}})
        cluster.kubectl("-n", "kserve", "patch", "configmap", "inferenceservice-config", "--type=merge", "-p", patch)

    set_to(json.dumps(json.loads(found) | {"defaultDeploymentMode": mode}))
    try:
        yield
    finally:
        set_to(found)


@pytest.mark.parametrize(("mode", "crds"), BOTH)
def test_mode_auto_is_the_clusters_default_and_stays(
    cluster: Cluster, namespace: str, deploying: Callable[..., ReconcileReport], mode: Mode, crds: tuple[str, ...]
) -> None:
    cluster.needs(*crds)
    spec = recommender(**SMALL)
    assert spec.serving.kubernetes.mode == "auto"
    with default_mode(cluster, mode):
        outcome = deploying(spec, state("1"))
    assert (outcome.mode, outcome.expected) == (mode, {"1": 100})
    service = cluster.get("inferenceservice", "shoes", namespace)
    assert service["status"]["deploymentMode"] == mode
    # Only Standard mode may need a route of our own, and it is said while there are no clients yet.
    assert any("serving.kubernetes.route is not set" in note for note in outcome.notes) == (mode == "Standard")
    with default_mode(cluster, "Standard"):
        outcome = deploying(spec, state("1", "2", 0.5))
    assert (outcome.mode, outcome.expected) == (mode, {"1": 50, "2": 50})
    assert not any("serving.kubernetes.route is not set" in note for note in outcome.notes)


def test_a_dry_run_says_what_would_change_and_changes_nothing(
    cluster: Cluster, namespace: str, deploying: Callable[..., ReconcileReport]
) -> None:
    cluster.needs(*STANDARD_CRDS)
    spec, client = recommender(mode="Standard", **SMALL), connect(str(cluster.kubeconfig))
    text = preview_next_transition(spec, state("1"), client, namespace)
    assert "+    storageUri: s3://endcap/packages/shoes/1" in text.replace("      ", "    ")
    assert cluster.list("inferenceservices", namespace) == []
    deploying(spec, state("1"))
    before = cluster.get("inferenceservice", "shoes", namespace)
    text = preview_next_transition(spec, state("1", "2"), client, namespace)
    assert "+    endcap.dev/canary-version: '2'" in text
    after = cluster.get("inferenceservice", "shoes", namespace)
    assert (after["spec"], after["metadata"]["annotations"]) == (before["spec"], before["metadata"]["annotations"])


def test_two_deployers_at_once_end_in_one_whole_state(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    cluster.needs(*STANDARD_CRDS)
    prepare(cluster, namespace)
    store, spec = open_store(str(tmp_path)), recommender(mode="Standard", **SMALL)
    write_state(state("1"), store)
    ended: list[object] = []

    def one(version: str) -> None:
        write_state(state("1", version, 0.1), store)
        try:
            client = connect(str(cluster.kubeconfig))
            ended.append(reconcile(spec, lambda: read_state("shoes", store), client, namespace))
        except Exception as error:
            ended.append(error)

    threads = [threading.Thread(target=one, args=(version,)) for version in ("2", "3")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(150)
    wanted = read_state("shoes", store)
    assert wanted.canary is not None
    assert any(isinstance(one, ReconcileReport) for one in ended), ended
    assert all(isinstance(one, ReconcileReport) or one.code == "deploy.superseded" for one in ended), ended
    variants = read_variants(cluster.get("inferenceservice", "shoes", namespace))
    assert variants is not None
    assert variants.canary is not None
    assert (variants.canary.version, variants.share) == (wanted.canary.version, 0.1)


def test_a_state_that_is_replaced_before_the_first_step_is_not_carried_out(
    cluster: Cluster, namespace: str, deploying: Callable[..., ReconcileReport]
) -> None:
    cluster.needs(*STANDARD_CRDS)
    spec = recommender(mode="Standard", **SMALL)
    deploying(spec, state("1", "2", 0.5))
    before = cluster.get("inferenceservice", "shoes", namespace)
    old, new = state("1", "3", 0.5), state("1", "2", 0.5)
    read = iter([old])
    with refused(UserError, "deploy.superseded", recommender="shoes"):
        reconcile(spec, lambda: next(read, new), connect(str(cluster.kubeconfig)), namespace, wait=False)
    assert cluster.get("inferenceservice", "shoes", namespace)["spec"] == before["spec"]


def test_the_pipelines_deploy_step_runs_with_the_right_to_inference_services_only(
    cluster: Cluster, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from endcap_components.deploy import deploy

    cluster.needs(*STANDARD_CRDS)
    prepare(cluster, namespace)
    monkeypatch.setenv("KUBECONFIG", str(_account(cluster, namespace, tmp_path, ["get", "list", "watch"])))
    store = open_store(str(tmp_path / "store"))
    registry = Registry(get_default_uri(store))
    for version in "12":
        registry.add_version("shoes", f"s3://endcap/packages/shoes/{version}", "approved", "a test", {})
    document = recommender(mode="Standard", **SMALL).model_dump(mode="json")
    document["serving"]["fallback"] = "refuse"  # there are no packages to make a list of popular items of
    with pytest.raises(Exception, match=r"runner may not patch inferenceservices\.serving\.kserve\.io in namespace"):
        deploy.python_func(document, "1", str(tmp_path / "store"), registry.uri, namespace=namespace)
    verbs = ["get", "list", "watch", "create", "patch"]
    monkeypatch.setenv("KUBECONFIG", str(_account(cluster, namespace, tmp_path, verbs)))
    for version in "12":
        said = deploy.python_func(document, version, str(tmp_path / "store"), registry.uri, namespace=namespace)
    assert said == "version 1 serves 0.9 of the shoppers, 2 0.1"
    variants = read_variants(cluster.get("inferenceservice", "shoes", namespace))
    assert variants is not None
    assert variants.share == 0.1


def _account(cluster: Cluster, namespace: str, folder: Path, verbs: list[str]) -> Path:
    """The kubeconfig of a service account with these rights on InferenceServices of the namespace."""
    rule = {"apiGroups": ["serving.kserve.io"], "resources": ["inferenceservices"], "verbs": verbs}
    subject = {"kind": "ServiceAccount", "name": "runner", "namespace": namespace}
    bound = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "runner"}
    rbac = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": "runner"}}
    cluster.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "runner"}},
        {**rbac, "kind": "Role", "rules": [rule]},
        {**rbac, "kind": "RoleBinding", "subjects": [subject], "roleRef": bound},
        namespace=namespace,
    )
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    token = cluster.kubectl("-n", namespace, "create", "token", "runner").stdout.strip()
    config["users"] = [{"name": one["name"], "user": {"token": token}} for one in config["users"]]
    file = folder / "runner.kubeconfig"
    file.write_text(yaml.safe_dump(config))
    return file


@pytest.mark.parametrize(("mode", "crds"), BOTH)
def test_the_api_server_is_killed_during_a_canary(
    cluster: Cluster, namespace: str, mode: Mode, crds: tuple[str, ...]
) -> None:
    cluster.needs(*crds)
    prepare(cluster, namespace)
    client, spec = connect(str(cluster.kubeconfig)), recommender(mode=mode, **SMALL)
    one = state("1")
    reconcile(spec, lambda: one, client, namespace)
    two = state("1", "2", 0.5)
    killed: list[bool] = []

    def kill(line: str) -> None:
        if not killed:
            killed.append(True)
            cluster.kill_api_server()
            threading.Timer(3, cluster.restart_api_server).start()

    outcome = reconcile(spec, lambda: two, client, namespace, progress=kill)
    assert killed
    assert (outcome.mode, outcome.expected) == (mode, {"1": 50, "2": 50})
    assert outcome.traffic[0].shares == ({"1": 50, "2": 50} if mode == "Knative" else {"1": 100})
    variants = read_variants(cluster.get("inferenceservice", "shoes", namespace))
    assert variants is not None
    assert variants.canary is not None
    assert (variants.canary.version, variants.canary.ready, variants.share) == ("2", True, 0.5)


def test_answers_of_429_and_500_and_dropped_watches_are_gone_through(
    cluster: Cluster, namespace: str, flaky_api: tuple[Path, Any]
) -> None:
    cluster.needs(*STANDARD_CRDS)
    prepare(cluster, namespace)
    kubeconfig, faults = flaky_api
    client, spec = connect(str(kubeconfig)), recommender(mode="Standard", **SMALL)
    faults.answer(429, 2, retry_after=1)
    faults.answer(500, 2, methods=("PATCH",))
    desired = state("1")
    dropped: list[int] = []
    done = threading.Event()

    def drop() -> None:
        while not done.wait(0.05):
            if faults.watches():
                dropped.append(faults.drop_watches())

    dropping = threading.Thread(target=drop)
    dropping.start()
    try:
        assert reconcile(spec, lambda: desired, client, namespace).expected == {"1": 100}
    finally:
        done.set()
        dropping.join()
    assert faults.left() == 0
    assert sum(dropped) > 0


def test_what_endcap_made_is_removed_and_nothing_else(
    cluster: Cluster, namespace: str, deploying: Callable[..., ReconcileReport]
) -> None:
    cluster.needs(*STANDARD_CRDS)
    needs_gateway(cluster)
    deploying(recommender(mode="Standard", route=ROUTE, **SMALL), state("1"))
    client = connect(str(cluster.kubeconfig))
    assert delete_objects("shoes", client, namespace) == ["HTTPRoute endcap-shoes", "InferenceService shoes"]
    assert delete_objects("shoes", client, namespace) == []
    kept = json.loads(cluster.kubectl("-n", namespace, "get", "secret,servingruntime", "-o", "json").stdout)["items"]
    assert {one["metadata"]["name"] for one in kept} == {"endcap-store", "endcap"}
