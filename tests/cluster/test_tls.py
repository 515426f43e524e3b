"""TLS and keys from a shop's client to a predictor, by the chart and a spec, on a real API server with the real KServe.

KWOK's nodes run no containers, so the gateway's and the predictor's are run here, each with the command line, the
variables and the Secrets of its pod. cert-manager itself is not run: what the chart gives it is held against its CRD.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from endcap.cluster import connect
from endcap.deploy.ownership import delete_objects
from endcap.deploy.reconcile import reconcile
from endcap.deploy.variants import read_variants
from endcap_serving.local.predictors import find_free_port
from tests.access.credentials import make_client
from tests.cluster import pods
from tests.cluster.build import module_folder
from tests.cluster.certificates import Authority, Pair
from tests.cluster.given import Cluster, eventually, own_namespace
from tests.cluster.inference_services import STANDARD_CRDS
from tests.cluster.manifests import documents
from tests.cluster.object_store import ObjectStore
from tests.deploy.fake_kserve import recommender, state
from tests.serving.conftest import running
from tests.serving.conftest import shop as shop  # a fixture
from tests.serving.name_server import NameServer

CHART = str(Path(__file__).parents[2] / "charts" / "endcap")
VALUES = [
    "--set=mlflow.enabled=false,kfp.enabled=false,serving.createNamespace=false,tests.enabled=false",
    "--set=tls.gateway=mtls,tls.predictors=mtls",
    "--set=gateway.access.secretName=endcap-access,serving.scopeFrom=gateway",
]
KEYS = {"web": "a key of the shop's pages", "support": "a key of the shop's support"}
SCOPES = {"web": ("rank",), "support": ("rank", "explain")}
HOST = "127.0.9.1"
"""The predictor's, in the place of a pod's address."""
SMALL = {"mode": "Standard", "cpu": "50m", "memory": "64Mi"}
Json = dict[str, Any]


@dataclass(frozen=True)
class Release:
    namespace: str
    serving: str
    authority: Authority

    @property
    def gateway(self) -> str:
        return f"endcap-gateway.{self.namespace}.svc"


@pytest.fixture(scope="module")
def release(cluster: Cluster, object_store: ObjectStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Release]:
    cluster.needs(*STANDARD_CRDS)
    if not cluster.simulated():
        pytest.skip("the cluster's nodes would run the pods, which cannot reach the servers of this machine")
    authority = Authority(tmp_path_factory.mktemp("authority"))
    with own_namespace(cluster, "tls-release") as namespace, own_namespace(cluster, "tls-serving") as serving:
        made = Release(namespace, serving, authority)
        gateway = authority.issue("gateway", "gateway", hosts=(made.gateway, "localhost"))
        predictors = authority.issue("predictors", "predictors", hosts=(f"*.{serving}.svc",))
        cluster.apply(secret("endcap-gateway-tls", gateway, authority), access(), namespace=namespace)
        store = {"metadata": {"name": "endcap-store"}, "stringData": object_store.environment()}
        store |= {"apiVersion": "v1", "kind": "Secret"}
        cluster.apply(store, secret("endcap-predictors-tls", predictors, authority), namespace=serving)
        cluster.helm("-n", namespace, "install", "endcap", CHART, *VALUES, f"--set=serving.namespace={serving}")
        yield made
        cluster.helm("-n", namespace, "uninstall", "endcap")


def secret(name: str, pair: Pair, authority: Authority) -> Json:
    files = {"tls.crt": pair.certificate, "tls.key": pair.key, "ca.crt": authority.certificate}
    keys = {key: file.read_text() for key, file in files.items()}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "metadata": {"name": name},
        "stringData": keys,
    }


def access() -> Json:
    """The access policy, as whoever installs the chart hands it over."""
    policy = {"clients": [make_client(name, key, scopes=SCOPES[name]) for name, key in KEYS.items()]}
    metadata, kept = {"name": "endcap-access"}, {"access.yaml": json.dumps(policy)}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": kept}


def test_a_ranking_by_mtls_from_the_client_to_the_predictor(
    cluster: Cluster, release: Release, shop: Any, tmp_path: Path
) -> None:
    plain, secure = recommender(**SMALL), recommender(**SMALL, tls={"clients": [release.gateway]})
    api, wanted = connect(str(cluster.kubeconfig)), state("1")
    with ExitStack() as stack:
        stack.callback(delete_objects, "shoes", api, release.serving)
        for spec in (plain, secure):
            reconcile(spec, lambda: wanted, api, release.serving)
        service = cluster.get("inferenceservice", "shoes", release.serving)
        variants = read_variants(service)
        assert variants is not None
        assert variants.stable is not None
        address = variants.stable.address
        ports = {
            port["port"] for port in cluster.get("service", "shoes-v1-predictor", release.serving)["spec"]["ports"]
        }
        assert address.port in ports
        assert (address.host, address.tls) == (f"shoes-v1-predictor.{release.serving}.svc", True)
        eventually(lambda: len(containers(cluster, release.serving, "shoes")) == 1)
        predictor = containers(cluster, release.serving, "shoes")[0]
        probe = predictor[1]["readinessProbe"]["httpGet"]

        package = {"/mnt/models": shop.store.fetch(shop.packages["popularity"])}
        here = ["--host", HOST, "--drain-wait", "0"]
        log = tmp_path / "predictor.log"
        stack.enter_context(running(process(cluster, release.serving, *predictor, tmp_path, here, package), log))
        told = f"http://{HOST}:{probe['port']}{probe['path']}"
        eventually(lambda: answers(told), 60)

        names = stack.enter_context(NameServer())
        stack.callback(names.shutdown)
        names.addresses = {address.host: [HOST]}
        port = start_gateway(cluster, release, tmp_path, names.port, stack)
        context = ssl.create_default_context(cafile=str(release.authority.certificate))
        with pytest.raises(httpx.TransportError):
            httpx.get(f"https://localhost:{port}/ready", verify=context)
        pair = release.authority.issue("shop", "shop")
        context.load_cert_chain(pair.certificate, pair.key)
        with httpx.Client(base_url=f"https://localhost:{port}", verify=context) as shopper:
            answer = eventually(lambda: ranking(shopper, "web"), 60)
            assert answer["predictions"][0]["items"]
            assert status(shopper) == 401
            assert status(shopper, "web", explain=True) == 403
            explained = ranking(shopper, "support", explain=True)
        assert explained is not None
        assert "removed" in explained["predictions"][0]
        with pytest.raises(httpx.TransportError):
            httpx.get(f"https://{HOST}:{address.port}/v2/health/ready", verify=False)


def containers(cluster: Cluster, namespace: str, name: str) -> list[tuple[Json, Json]]:
    """Of the pods that are not about to end: the pod and its container."""
    found = cluster.list("pods", namespace, f"serving.kserve.io/inferenceservice={name}")
    there = [pod["spec"] for pod in found if "deletionTimestamp" not in pod["metadata"]]
    return [(pod, next(one for one in pod["containers"] if one["name"] == "kserve-container")) for pod in there]


def process(
    cluster: Cluster,
    namespace: str,
    pod: Json,
    run: Json,
    folder: Path,
    here: list[str],
    mounts: dict[str, Path] | None = None,
    given: dict[str, str] | None = None,
) -> list[str]:
    """The command line of a container with its mounted Secrets. here: options in the place of what a pod has alone."""
    volumes = {volume["name"]: volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume}
    places = dict(mounts or {})
    for mount in run["volumeMounts"]:
        if (name := volumes.get(mount["name"])) is not None:
            place = folder / name
            place.mkdir(exist_ok=True)
            for key, value in pods.secret(cluster, namespace, name).items():
                (place / key).write_text(value)
            places[mount["mountPath"]] = place
    variables = {**pods.environment(cluster, namespace, run.get("env", [])), **(given or {})}
    return pods.command([*run["command"], *run["args"], *here], variables, places, folder)


def start_gateway(cluster: Cluster, release: Release, folder: Path, dns: int, stack: ExitStack) -> int:
    """The container of the gateway's pod; the port of its listener."""
    pod = cluster.get("deployment", "endcap-gateway", release.namespace)["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    port = find_free_port()
    here = ["--host", "127.0.0.1", "--port", str(port), "--xds-port", str(find_free_port())]
    here += ["--metrics-port", str(find_free_port()), "--drain-wait", "0", "--dns-port", str(dns)]
    files = {"--state": "xds.json", "--admin": "admin.sock", "--secrets": "sds"}
    here += [word for name, file in files.items() for word in (name, str(folder / file))]
    envoy = {**container, "command": ["python", "-m", "tests.serving.envoy_on_loopback"]}
    given = {"PYTHONPATH": str(Path(__file__).parents[2]), "KUBECONFIG": str(cluster.kubeconfig)}
    words = process(cluster, release.namespace, pod, envoy, folder, here, given=given)
    stack.enter_context(running(words, folder / "envoy.log"))
    return port


def answers(address: str) -> bool:
    try:
        return httpx.get(address).status_code == 200
    except httpx.TransportError:
        return False


def ask(client: httpx.Client, name: str, **asked: Any) -> httpx.Response:
    headers = {"x-endcap-key": KEYS[name]} if name else {}
    return client.post(
        "/v1/models/shoes:predict", json={"instances": [{"items": [], "k": 3, **asked}]}, headers=headers
    )


def status(client: httpx.Client, name: str = "", **asked: Any) -> int:
    return ask(client, name, **asked).status_code


def ranking(client: httpx.Client, name: str, **asked: Any) -> Json | None:
    try:
        answer = ask(client, name, **asked)
    except httpx.TransportError:
        return None
    return dict(answer.json()) if answer.status_code == 200 else None


def test_cert_manager_takes_the_certificates(cluster: Cluster, namespace: str) -> None:
    if cluster.plane is None:
        pytest.skip("a CRD would lie outside the tests' namespaces")
    folder = module_folder("knative", "github.com/cert-manager/cert-manager") / "deploy" / "crds"
    (crd,) = documents(folder / "crd-certificates.yaml")
    # Its chart's placeholders.
    del crd["metadata"]["labels"]
    values = "tls.gateway=mtls,tls.predictors=mtls,tls.intake=mtls,tls.mlflow=tls,tls.source=certManager"
    more = "tls.certManager.issuer.name=ca,intake.enabled=true,intake.out=s3://b/intake"
    given = [f"--set={values}", f"--set={more}", f"--set=serving.namespace={namespace}", "-n", namespace]
    rendered = yaml.safe_load_all(cluster.helm("template", "endcap", CHART, *given).stdout)
    certificates = [one for one in rendered if one and one["kind"] == "Certificate"]
    assert len(certificates) == 4
    cluster.plane.define([crd])
    try:
        listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": certificates})
        cluster.kubectl("create", "--validate=strict", "-f", "-", stdin=listed)
    finally:
        cluster.kubectl("delete", "crd", crd["metadata"]["name"])
