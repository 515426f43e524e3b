"""The two processes of a gateway's pod with a policy in a file, as a mounted Secret is: known late, changed, broken."""

from __future__ import annotations

import signal
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from endcap_serving.local.predictors import find_free_port
from tests.access.credentials import hash_key
from tests.serving.api_server import ApiServer, inference_service
from tests.serving.backends import Backend
from tests.serving.name_server import NameServer
from tests.serving.pod import Gateway, wait_for

HOST, INTAKE = "127.0.9.1", "127.0.9.2"
PORT = find_free_port()
PREDICT = "/v1/models/shoes:predict"


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gateway]:
    with ExitStack() as stack:
        for host in (HOST, INTAKE):
            backend = stack.enter_context(Backend(host, host=host, port=PORT))
            stack.callback(backend.shutdown)
        names = stack.enter_context(NameServer())
        stack.callback(names.shutdown)
        names.addresses = {"shoes-v1-predictor.shop.svc": [HOST], "intake.shop.svc": [INTAKE]}
        api = ApiServer()
        api.put(inference_service("shoes", port=PORT))
        gateway = Gateway(tmp_path, api.kubeconfig(tmp_path / "kubeconfig"), "shop", stack, names.port)
        gateway.options = [
            "--intake",
            f"intake.shop.svc:{PORT}",
            "--access",
            str(tmp_path / "secret" / "access.yaml"),
        ]
        yield gateway


def mount(gate: Gateway, *keys: str) -> None:
    """Write the Secret's folder as the kubelet does: a new folder, and a link that is moved onto the old one."""
    text = f"clients: [{{name: web, keys: [{', '.join(map(hash_key, keys))}], scopes: [rank]}}]"
    (gate.folder / "secret").mkdir(exist_ok=True)
    (fresh := gate.folder / f"secret-{time.monotonic_ns()}").mkdir()
    (fresh / "access.yaml").write_text(text)
    (link := gate.folder / "link").symlink_to(fresh, target_is_directory=True)
    link.replace(gate.folder / "secret" / "..data")
    if not (gate.folder / "secret" / "access.yaml").is_symlink():
        (gate.folder / "secret" / "access.yaml").symlink_to("..data/access.yaml")


def ask_status(gate: Gateway, key: str = "") -> int:
    headers = {"x-endcap-key": key} if key else {}
    return gate.client.post(PREDICT, json={}, headers=headers).status_code


def read_health(gate: Gateway) -> dict[str, object]:
    told: dict[str, object] = httpx.get(f"http://127.0.0.1:{gate.xds_port}/healthz").json()["access"]
    return told


@pytest.mark.slow
def test_no_request_is_taken_before_the_policy_is_known_and_keys_may_change(gate: Gateway) -> None:
    gate.begin()
    log = gate.folder / "gateway.log"
    wait_for(lambda: "access.policy-unreadable" in log.read_text(), "it is said that there is no policy")
    wait_for(gate.xds_is_well, "the service answers")
    assert read_health(gate) == {"known": False, "error": "access.policy-unreadable"}
    time.sleep(1)
    assert not gate.ready()
    mount(gate, "first-key")
    gate.wait_until_ready()
    assert (ask_status(gate), ask_status(gate, "first-key"), ask_status(gate, "next-key")) == (401, 200, 401)
    events = gate.client.post("/v1/events", json={}, headers={"x-endcap-key": "first-key"})
    assert (events.status_code, events.json()["code"]) == (403, "gateway.scope-missing")

    mount(gate, "first-key", "next-key")
    wait_for(lambda: ask_status(gate, "next-key") == 200, "the next key is taken")
    assert ask_status(gate, "first-key") == 200
    mount(gate, "next-key")
    wait_for(lambda: ask_status(gate, "first-key") == 401, "the first key is taken no more")

    (gate.folder / "secret" / "..data" / "access.yaml").write_text("anonymous: [rank, everything]")
    wait_for(lambda: read_health(gate) == {"known": True, "error": "access.policy-invalid"}, "it is said what is wrong")
    assert (ask_status(gate), ask_status(gate, "next-key")) == (401, 200), "the last good policy holds"

    lines = log.read_text().count("access.policy-invalid")
    gate.signal_xds(signal.SIGKILL)
    wait_for(lambda: log.read_text().count("access.policy-invalid") > lines, "the one that follows says so too", 60)
    time.sleep(1)
    assert (ask_status(gate), ask_status(gate, "next-key")) == (401, 200), "Envoy goes on by what it has"

    for file in ("gateway.log", "state.json"):
        text = (gate.folder / file).read_text()
        assert "first-key" not in text
        assert "next-key" not in text
    assert stat.S_ISREG((gate.folder / "state.json").stat().st_mode)
