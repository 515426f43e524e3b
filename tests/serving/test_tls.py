"""TLS and mTLS between a client, the gateway's Envoy, a predictor and the intake, each a real server."""

from __future__ import annotations

import socket
import ssl
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import httpx
import pytest

from endcap.deploy.gateway_settings import GatewaySettings
from endcap.deploy.variants import TLS, TLS_PORT
from endcap_serving.local.predictors import find_free_port
from tests.cluster.certificates import Authority, Pair
from tests.serving.api_server import ApiServer, inference_service
from tests.serving.backends import Backend
from tests.serving.conftest import Shop, running
from tests.serving.mounted import Mounted
from tests.serving.name_server import NameServer
from tests.serving.pod import Gateway, wait_for

HOST, INTAKE, GATEWAY = "shoes-v1-predictor.shop.svc", "intake-pods.shop.svc", "gateway.shop.svc"
PREDICTORS = ("*.shop.svc",)
EXPIRED = timedelta(minutes=-5)
LOOPBACK = "127.0.8.1"


@dataclass
class Wire:
    """All of it: who certifies whom, what is mounted where, and who listens."""

    authority: Authority
    stranger: Authority
    gateway: Mounted
    predictor: Mounted
    intake: Mounted
    gate: Gateway
    api: ApiServer
    names: NameServer
    port: int
    health_port: int

    def issue(self, name: str, hosts: tuple[str, ...], **more: timedelta) -> Pair:
        return self.authority.issue(name, name, hosts=hosts, **more)

    def client(self, pair: Pair | None, trusted: Authority | None = None) -> httpx.Client:
        context = ssl.create_default_context(cafile=str((trusted or self.authority).certificate))
        if pair is not None:
            context.load_cert_chain(pair.certificate, pair.key)
        return httpx.Client(base_url=f"https://localhost:{self.gate.port}", verify=context, timeout=10)

    def ask_predictor(self, pair: Pair | None) -> httpx.Response:
        """Around the gateway."""
        context = ssl.create_default_context(cafile=str(self.authority.certificate))
        context.check_hostname = False
        if pair is not None:
            context.load_cert_chain(pair.certificate, pair.key)
        return httpx.get(f"https://{LOOPBACK}:{self.port}/v2/models/shoes", verify=context, timeout=5)


@pytest.fixture(scope="module")
def wire(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wire]:
    folder = tmp_path_factory.mktemp("wire")
    authority, stranger = Authority(folder / "authority"), Authority(folder / "stranger")
    gateway = authority.issue("gateway", "gateway", hosts=(GATEWAY, "localhost"))
    mounted = {
        "gateway": Mounted(folder / "gateway", gateway, authority),
        "predictor": Mounted(
            folder / "predictor", authority.issue("predictor", "predictor", hosts=PREDICTORS), authority
        ),
        "intake": Mounted(folder / "intake", authority.issue("intake", "intake", hosts=(INTAKE,)), authority),
    }
    port, health_port, api = TLS_PORT, find_free_port(), ApiServer()
    with ExitStack() as stack:
        package = shop.store.fetch(shop.packages["popularity"])
        words = ["--package", str(package), "--model-name", "shoes", "--version", "1", "--host", LOOPBACK]
        words += ["--port", str(health_port), "--tls-port", str(port), "--online", "none", "--workers", "2"]
        words += ["--tls", str(mounted["predictor"].folder), "--tls-clients", GATEWAY]
        stack.enter_context(running(build_command("predictor", words), folder / "predictor.log"))
        words = ["--folder", str(folder / "segments"), "--out", str(folder / "out"), "--reserve-mib", "0"]
        words += ["--host", LOOPBACK, "--port", str(find_free_port()), "--tls-port", str(find_free_port())]
        words += ["--tls", str(mounted["intake"].folder), "--tls-clients", GATEWAY]
        stack.enter_context(running(build_command("intake", words), folder / "intake.log"))
        names = stack.enter_context(NameServer())
        stack.callback(names.shutdown)
        names.addresses = {HOST: [LOOPBACK], INTAKE: [LOOPBACK]}
        config = api.kubeconfig(folder / "kubeconfig")
        gate = Gateway(folder, config, "shop", stack, names.port)
        intake_port = words[words.index("--tls-port") + 1]
        (access := gate.folder / "access.yaml").write_text("anonymous: [rank, events]")
        gate.options = ["--intake", f"{INTAKE}:{intake_port}", "--intake-tls", "--access", str(access)]
        api.put(service())
        own = str(mounted["gateway"].folder)
        gate.begin(tls=own, client_ca=own, upstream_tls=own, secrets=str(folder / "sds"))
        made = Wire(authority, stranger, **mounted, gate=gate, api=api, names=names, port=port, health_port=health_port)
        with made.client(gateway) as client:
            gate.client = client
            gate.wait_until_ready()
            wait_for(lambda: gate.ask("shoes").status_code == 200, (folder / "predictor.log").read_text(), 60)
            yield made


def build_command(module: str, words: list[str]) -> list[str]:
    return [sys.executable, "-m", f"endcap_serving.{module}", *words]


def service(name: str = "shoes") -> dict[str, object]:
    made = inference_service(name, terms=GatewaySettings(timeout=2.0))
    made["spec"]["predictor"].setdefault("annotations", {})[TLS] = "mtls"
    return made


def test_a_ranking_and_an_event_pass_every_hop_by_tls(wire: Wire) -> None:
    answer = wire.gate.ask("shoes", "s1")
    assert answer.status_code == 200
    assert answer.json()["predictions"]
    event = {"id": "e1", "item": "p1", "session": "s1", "type": "view"}
    assert wire.gate.client.post("/v1/events", json=event).status_code == 200


def test_the_kubelet_and_prometheus_need_no_certificate(wire: Wire) -> None:
    plain = f"http://127.0.0.1:{wire.gate.metrics_port}"
    assert [httpx.get(f"{plain}{path}").status_code for path in ("/ready", "/stats/prometheus")] == [200, 200]
    assert httpx.get(f"{plain}/v1/models/shoes").status_code == 404
    told = f"http://{LOOPBACK}:{wire.health_port}"
    assert [httpx.get(f"{told}{path}").status_code for path in ("/v2/models/shoes/ready", "/metrics")] == [200, 200]
    for refused in (
        httpx.get(f"{told}/v2/models/shoes"),
        httpx.post(f"{told}/v1/models/shoes:predict", json={"instances": [{}]}),
    ):
        assert (refused.status_code, refused.json()["code"]) == (403, "serving.tls-only")


def test_a_gateway_lets_in_only_clients_of_its_authority(wire: Wire) -> None:
    own = wire.stranger.issue("client", "client")
    old = wire.issue("old-client", (), life=EXPIRED)
    for pair in (None, own, old):
        with wire.client(pair) as client, pytest.raises(httpx.TransportError):
            client.get("/ready")
    with wire.client(own, wire.stranger) as client, pytest.raises(httpx.ConnectError):
        client.get("/ready")


def test_a_predictor_lets_in_the_gateway_alone(wire: Wire) -> None:
    gateway = wire.issue("gateway-again", (GATEWAY,))
    assert wire.ask_predictor(gateway).status_code == 200
    refused = wire.ask_predictor(wire.issue("neighbour", ("neighbour.shop.svc",)))
    assert (refused.status_code, refused.json()["code"]) == (403, "serving.client-unknown")
    for pair in (None, wire.stranger.issue("gateway", "gateway", hosts=(GATEWAY,)), wire.issue("o", (), life=EXPIRED)):
        with pytest.raises(httpx.TransportError):
            wire.ask_predictor(pair)


@pytest.mark.parametrize(
    ("name", "host", "status"),
    [
        ("right", "127.0.8.2", 200),
        ("authority", "127.0.8.3", 503),
        ("name", "127.0.8.4", 503),
        ("expired", "127.0.8.5", 503),
        ("plain", "127.0.8.6", 503),
    ],
)
def test_a_gateway_asks_only_predictors_whose_certificate_is_valid(
    wire: Wire, name: str, host: str, status: int
) -> None:
    pair = {
        "right": lambda: wire.issue("right", PREDICTORS),
        "authority": lambda: wire.stranger.issue("predictor", "predictor", hosts=PREDICTORS),
        "name": lambda: wire.issue("other", ("shoes-v1-predictor.other.svc",)),
        "expired": lambda: wire.issue("expired", PREDICTORS, life=EXPIRED),
        "plain": lambda: None,
    }[name]()
    backend = Backend(name, host=host, port=TLS_PORT)
    if pair is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(pair.certificate, pair.key)
        backend.socket = context.wrap_socket(backend.socket, server_side=True)
    wire.names.addresses[f"{name}-v1-predictor.shop.svc"] = [host]
    wire.api.put(service(name))
    try:
        wait_for(lambda: wire.gate.ask(name).status_code == status, f"answers {status}")
        assert bool(backend.seen) == (status == 200)
    finally:
        wire.api.delete(name)
        backend.shutdown()
        backend.server_close()


@pytest.mark.slow
def test_certificates_are_renewed_without_a_restart_or_a_lost_request(wire: Wire) -> None:
    stop, failed, count = threading.Event(), [], [0]

    def ask() -> None:
        pair = wire.issue("shopper", ())
        while not stop.is_set():
            # A connection of its own for each, so that each is made with what is there now.
            with wire.client(pair) as client:
                answer = client.post("/v1/models/shoes:predict", json={"instances": [{"items": []}]})
            count[0] += 1
            if answer.status_code != 200:
                failed.append(answer.text)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for number in range(2):
            gateway = wire.issue(f"gateway-{number}", (GATEWAY, "localhost"))
            predictor = wire.issue(f"predictor-{number}", PREDICTORS)
            wire.gateway.put(gateway, wire.authority)
            wire.predictor.put(predictor, wire.authority)
            wait_for(partial(shows_certificate, "127.0.0.1", wire.gate.port, gateway), "the gateway's")
            wait_for(partial(shows_certificate, LOOPBACK, wire.port, predictor), "the predictor's")
    finally:
        stop.set()
        asking.join()
    assert (failed, count[0] > 10) == ([], True)


def shows_certificate(host: str, port: int, pair: Pair) -> bool:
    """Whether a server shows this certificate, whoever asks."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection((host, port)) as plain, context.wrap_socket(plain) as connection:
        return connection.getpeercert(binary_form=True) == ssl.PEM_cert_to_DER_cert(pair.certificate.read_text())
