"""Addresses that say nothing, behind the real gateway of a cluster: another predictor answers, or the list, in time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest

from endcap_serving.gateway.routes import SHOPPER_HEADER, VARIANT_HEADER, GatewaySettings
from endcap_serving.local.predictors import find_free_port
from tests.serving.api_server import ApiServer, inference_service, shadow_service
from tests.serving.backends import Backend
from tests.serving.black_hole import BlackHole
from tests.serving.name_server import NameServer
from tests.serving.pod import Gateway, wait_for

PORT = find_free_port()
WELL, SILENT = "127.0.8.1", "127.0.8.2"
LIST = ("p1", "p2")
INTAKE = "intake-pods.shop.svc"
SILENCE = {
    "no connection": lambda: BlackHole(SILENT, PORT),
    "no answer": lambda: Backend("silent", delay=60.0, host=SILENT, port=PORT),
}


@pytest.fixture(scope="module")
def api() -> ApiServer:
    return ApiServer()


@pytest.fixture(scope="module")
def names() -> Iterator[NameServer]:
    with NameServer() as server:
        yield server
        server.shutdown()


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory, api: ApiServer, names: NameServer) -> Iterator[Gateway]:
    with ExitStack() as stack:
        well = stack.enter_context(Backend("well", host=WELL, port=PORT))
        stack.callback(well.shutdown)
        config = api.kubeconfig(tmp_path_factory.mktemp("api") / "kubeconfig")
        gateway = Gateway(tmp_path_factory.mktemp("gateway"), config, "shop", stack, names.port)
        names.addresses[INTAKE] = [WELL, SILENT]
        (access := gateway.folder / "access.yaml").write_text("anonymous: [rank, events]")
        gateway.options = ["--intake", f"{INTAKE}:{PORT}", "--access", str(access)]
        yield gateway.start()


def serve(
    gate: Gateway, api: ApiServer, names: NameServer, name: str, terms: GatewaySettings, addresses: list[str]
) -> None:
    """A recommender that Envoy has nothing against yet."""
    names.addresses[f"{name}-v1-predictor.shop.svc"] = addresses
    api.put(inference_service(name, port=PORT, terms=terms))
    wait_for(lambda: gate.shares(name) != {}, f"{name} is routed")
    wait_for(lambda: gate.addresses(name) == len(addresses), f"{name} has its addresses")


def ask(gate: Gateway, name: str, count: int) -> list[httpx.Response]:
    return [gate.ask(name) for _ in range(count)]


@pytest.mark.parametrize("silence", SILENCE)
@pytest.mark.parametrize(
    "terms",
    [GatewaySettings(1.2, 20, LIST), GatewaySettings(0.3, 20, LIST), GatewaySettings(1.2), GatewaySettings(0.4)],
    ids=["listed", "listed, little time", "refused", "refused, little time"],
)
def test_one_of_two_addresses_is_silent(
    gate: Gateway, api: ApiServer, names: NameServer, terms: GatewaySettings, silence: str
) -> None:
    name = f"shop-{time.monotonic_ns()}"
    with SILENCE[silence]() as silent:
        serve(gate, api, names, name, terms, [WELL, SILENT])
        answers = ask(gate, name, 12)
        wait_for(lambda: gate.passed_over(name) == 1 or not ask(gate, name, 1), "it is passed over")
        if isinstance(silent, Backend):
            silent.shutdown()
    api.delete(name)
    assert {answer.status_code for answer in answers} == {200}
    # On a busy machine the one that is well may be late, too.
    assert [answer.json().get("by") for answer in answers].count("well") >= (10 if terms.popular else 12)
    assert max(answer.elapsed.total_seconds() for answer in answers) < terms.timeout + 0.1


@pytest.mark.parametrize("silence", SILENCE)
@pytest.mark.parametrize("timeout", [1.2, 0.3])
def test_the_list_answers_if_every_address_is_silent(
    gate: Gateway, api: ApiServer, names: NameServer, timeout: float, silence: str
) -> None:
    name = f"shop-{time.monotonic_ns()}"
    with SILENCE[silence]() as silent:
        serve(gate, api, names, name, GatewaySettings(timeout, 20, LIST), [SILENT])
        answers = ask(gate, name, 8)
        if isinstance(silent, Backend):
            silent.shutdown()
    api.delete(name)
    assert {(answer.status_code, answer.headers[VARIANT_HEADER]) for answer in answers} == {(200, "fallback")}
    assert max(answer.elapsed.total_seconds() for answer in answers) < timeout + 0.1


def test_events_go_to_another_intake_and_copies_to_a_silent_shadow_cost_nothing(
    gate: Gateway, api: ApiServer, names: NameServer
) -> None:
    name = f"shop-{time.monotonic_ns()}"
    with BlackHole(SILENT, PORT):
        serve(gate, api, names, name, GatewaySettings(1.2, 20, LIST), [WELL])
        names.addresses[f"{name}--shadow-predictor.shop.svc"] = [SILENT]
        api.put(shadow_service(name, 1.0, port=PORT))
        wait_for(lambda: gate.copies(name) != {}, "everything is copied")
        answers = ask(gate, name, 20)
        # Each shopper has an intake of his own: half of them the silent one.
        events = [
            gate.client.post("/v1/events", json={}, headers={SHOPPER_HEADER: f"s{number}"}) for number in range(20)
        ]
    api.delete(f"{name}--shadow")
    api.delete(name)
    assert {answer.json()["by"] for answer in [*answers, *events]} == {"well"}
    assert max(answer.elapsed.total_seconds() for answer in answers) < 0.5
    assert max(answer.elapsed.total_seconds() for answer in events) < 1.0


def test_while_the_names_are_not_answered_the_known_addresses_stay(
    gate: Gateway, api: ApiServer, names: NameServer
) -> None:
    name = f"shop-{time.monotonic_ns()}"
    serve(gate, api, names, name, GatewaySettings(10.0, 20, LIST), [WELL])
    names.silent = True
    try:
        answers = []
        for _ in range(10):
            answers += ask(gate, name, 1)
            time.sleep(0.3)
    finally:
        names.silent = False
        api.delete(name)
    assert {answer.json().get("by") for answer in answers} == {"well"}
