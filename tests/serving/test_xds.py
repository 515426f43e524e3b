"""The gateway of a cluster on loopback: the real Envoy, the xDS service, a small API server, a small name server.

Predictors are small HTTP servers that say who they are, each on an address of its own, as pods have.
"""

from __future__ import annotations

import asyncio
import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import httpx
import pytest

from endcap.errors import IntegrityError
from endcap.experiments.layout import Layout
from endcap_serving.gateway import last_state, xds_service
from endcap_serving.gateway.last_state import LastState
from endcap_serving.gateway.routes import SHOPPER_HEADER, VARIANT_HEADER, GatewaySettings, Split, Upstream
from endcap_serving.local.predictors import find_free_port
from tests.serving.api_server import ApiServer, inference_service, shadow_service
from tests.serving.backends import Backend
from tests.serving.name_server import NameServer
from tests.serving.pod import Gateway, Shoppers, wait_for

PORT = find_free_port()
"""Of every predictor. Another run of these tests beside this one has another."""
ADDRESSES = {
    "shoes-v1-predictor.shop.svc": "127.0.7.1",
    "shoes-v2-predictor.shop.svc": "127.0.7.2",
    "hats-v1-predictor.shop.svc": "127.0.7.3",
    "shoes--shadow-predictor.shop.svc": "127.0.7.8",
}
PREDICT = "/v1/models/shoes:predict"
INTAKE = "intake-pods.shop.svc"
SHOPPERS = [f"shopper-{number}" for number in range(400)]
LISTED = GatewaySettings(timeout=4.0, popular=("p1", "p2"))


@pytest.fixture(scope="module")
def api() -> ApiServer:
    return ApiServer()


@pytest.fixture(scope="module", autouse=True)
def predictors() -> Iterator[dict[str, Backend]]:
    backends = {name: Backend(name, host=host, port=PORT) for name, host in ADDRESSES.items()}
    yield backends
    for backend in backends.values():
        backend.shutdown()
        backend.server_close()


@pytest.fixture(scope="module")
def names() -> Iterator[NameServer]:
    with NameServer() as server:
        server.addresses = {name: [host] for name, host in ADDRESSES.items()} | {INTAKE: ["127.0.7.6", "127.0.7.7"]}
        yield server
        server.shutdown()


@pytest.fixture(scope="module")
def place(
    tmp_path_factory: pytest.TempPathFactory, api: ApiServer, names: NameServer
) -> Iterator[Callable[[], Gateway]]:
    with ExitStack() as stack:
        config = api.kubeconfig(tmp_path_factory.mktemp("api") / "kubeconfig")
        yield lambda: Gateway(tmp_path_factory.mktemp("gateway"), config, "shop", stack, names.port)


@pytest.fixture(scope="module")
def gate(place: Callable[[], Gateway], api: ApiServer) -> Gateway:
    set_share(api, 0.0)
    api.put(inference_service("hats", port=PORT, terms=LISTED))
    gateway = place()
    (access := gateway.folder / "access.yaml").write_text("anonymous: [rank, events]")
    gateway.options = ["--intake", f"{INTAKE}:{PORT}", "--access", str(access)]
    return gateway.start()


def canary_shoppers(gate: Gateway) -> set[str]:
    """Those that the canary answers; the header and the answering process must say the same."""
    found = set()
    for shopper in SHOPPERS:
        answer = gate.ask("shoes", shopper)
        by = {"stable": "shoes-v1", "canary": "shoes-v2"}[answer.headers[VARIANT_HEADER]]
        assert answer.json()["by"] == f"{by}-predictor.shop.svc"
        found |= {shopper} if answer.headers[VARIANT_HEADER] == "canary" else set()
    return found


def has_share(gate: Gateway, share: float) -> Callable[[], bool]:
    """Whether Envoy itself says that it gives the canary this share."""
    return lambda: gate.shares("shoes").get("shoes-v2-predictor.shop.svc", 0) == share


def set_share(api: ApiServer, value: float, **said: object) -> None:
    api.put(inference_service("shoes", value, port=PORT, **said))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("path", "by", "seen"),
    [
        ("/v1/models/shoes:predict", "shoes-v1", "/v1/models/shoes:predict"),
        ("/shoes/v1/models/shoes:predict", "shoes-v1", "/v1/models/shoes:predict"),
        ("/v2/models/hats/infer", "hats-v1", "/v2/models/hats/infer"),
        ("/hats/v2/models/hats/infer?a=b", "hats-v1", "/v2/models/hats/infer?a=b"),
        ("/hats/v2/health/ready", "hats-v1", "/v2/health/ready"),
        ("/shoes/v1/models", "shoes-v1", "/v1/models"),
    ],
)
def test_a_recommender_is_reached_by_its_own_path_and_by_the_plain_one(
    gate: Gateway, path: str, by: str, seen: str
) -> None:
    said = gate.client.post(path, json={}).json()
    host = f"{by}-predictor.shop.svc"
    assert (said["by"], said["path"], said["host"]) == (host, seen, host)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models/boots:predict",
        "/hats/v1/models/shoes:predict",
        "/shoes/v1/models/hats:predict",
        "/v1/models",  # of which?
        "/v2/repository/models/shoes/unload",
        "/shoes/v2/repository/index",
        "/v2/models/shoes/%2e%2e/%2e%2e/repository/index",
        "/",
    ],
)
def test_anything_else_is_404_in_json(gate: Gateway, path: str) -> None:
    answer = gate.client.post(path, json={})
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/json")
    assert answer.json()["error"]
    assert answer.json()["code"] == "gateway.path-unknown"
    fields = answer.json()["fields"]
    assert (fields["served"], fields["count"]) == (["hats", "shoes"], 2)
    assert "POST /v1/models/NAME:predict" in fields["paths"]


@pytest.mark.slow
def test_a_new_share_arrives_within_a_second_and_keeps_its_shoppers(gate: Gateway, api: ApiServer) -> None:
    set_share(api, 0.1)
    wait_for(has_share(gate, 0.1), "the canary's share is 0.1")
    tenth = canary_shoppers(gate)
    took = []
    for value in (0.2, 0.4, 0.2, 0.4, 0.3):
        set_share(api, value)
        took.append(wait_for(has_share(gate, value), f"the canary's share is {value}"))
    assert median(took) < 1.0, took
    third = canary_shoppers(gate)
    # Four standard deviations of a binomial around its mean, at 400 shoppers: 24 and 37.
    assert abs(len(tenth) - 40) < 24
    assert abs(len(third) - 120) < 37
    assert tenth < third
    assert {gate.ask("shoes").headers[VARIANT_HEADER] for _ in range(20)} == {"stable"}
    # The other recommender has no canary.
    assert gate.ask("hats", "shopper-1").json()["by"] == "hats-v1-predictor.shop.svc"


def test_a_canary_that_is_not_ready_gets_nobody(gate: Gateway, api: ApiServer) -> None:
    set_share(api, 0.5)
    wait_for(has_share(gate, 0.5), "the canary's share is 0.5")
    set_share(api, 0.5, canary_ready=False)
    wait_for(has_share(gate, 0.0), "the canary gets nobody")
    assert canary_shoppers(gate) == set()


@pytest.mark.slow
def test_a_shadow_gets_copies_of_a_share_once_it_is_ready_and_costs_nothing(
    gate: Gateway, api: ApiServer, predictors: dict[str, Backend]
) -> None:
    host = "shoes--shadow-predictor.shop.svc"
    set_share(api, 0.0)
    api.put(shadow_service("shoes", 0.25, ready=False, port=PORT))
    set_share(api, 0.1)
    wait_for(has_share(gate, 0.1), "the canary's share is 0.1")
    assert gate.copies("shoes") == {}
    api.put(shadow_service("shoes", 0.25, port=PORT))
    wait_for(lambda: gate.copies("shoes") == {host: 0.25}, "a quarter is copied")
    answers = [gate.ask("shoes", shopper) for shopper in SHOPPERS]
    assert {answer.headers[VARIANT_HEADER] for answer in answers} == {"stable", "canary"}
    assert not any(host in answer.text for answer in answers)
    # Four standard deviations of a binomial around its mean of 100: 35. Copies are on their way a moment longer.
    seen = predictors[host].seen
    wait_for(lambda: len(seen) > 65, "copies come")
    assert len(seen) < 135
    assert {(one[VARIANT_HEADER], one["host"]) for one in seen} == {("shadow", host)}
    assert gate.ask("shoes--shadow").status_code == 404, "nobody asks it by itself"
    predictors[host].fail(delay=60.0)
    api.put(shadow_service("shoes", 1.0, port=PORT))
    wait_for(lambda: gate.copies("shoes") == {host: 1.0}, "everything is copied")
    begun = time.monotonic()
    assert {gate.ask("shoes").status_code for _ in range(50)} == {200}
    assert time.monotonic() - begun < 50, "nobody waits for the shadow"
    predictors[host].fail()
    api.delete("shoes--shadow")
    wait_for(lambda: gate.copies("shoes") == {}, "nothing is copied")
    assert has_share(gate, 0.1)()


def test_a_change_of_predictors_drops_no_request(gate: Gateway, api: ApiServer) -> None:
    """Canary comes, becomes the stable version, the old one leaves; all the while shoppers ask."""
    stop, failed, asked = threading.Event(), [], []

    def ask() -> None:
        with httpx.Client(base_url=gate.client.base_url, timeout=10) as client:
            while not stop.is_set():
                headers = {SHOPPER_HEADER: f"s{len(asked)}"}
                answer = client.post("/v1/models/shoes:predict", json={}, headers=headers)
                asked.append(answer.json().get("by"))
                failed.extend([answer.text] if answer.status_code != 200 else [])

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        for value in (0.0, 0.5):
            set_share(api, value)
            wait_for(has_share(gate, value), f"the canary's share is {value}")
        promoted = inference_service("shoes", port=PORT)
        promoted["spec"]["predictor"]["name"] = "v2"
        api.put(promoted)
        wait_for(
            lambda: asked[-20:] == ["shoes-v2-predictor.shop.svc"] * 20, "the canary has become the stable version"
        )
    finally:
        stop.set()
        thread.join()
        set_share(api, 0.0)
    assert failed == []
    assert len(asked) > 40


@pytest.mark.slow
def test_a_dropped_or_outdated_watch_starts_again(gate: Gateway, api: ApiServer) -> None:
    for forget, value in ((False, 0.25), (True, 0.35)):
        api.drop_watches(forget=forget)
        set_share(api, value)
        wait_for(has_share(gate, value), f"the canary's share is {value}")
    api.put(inference_service("boots", port=PORT))
    wait_for(lambda: gate.ask("boots").status_code == 503, "boots have a route, and no predictor")
    api.delete("boots")
    wait_for(lambda: gate.ask("boots").status_code == 404, "boots are routed no more")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
def test_envoy_keeps_its_routes_while_the_xds_service_is_replaced(
    gate: Gateway, api: ApiServer, number: signal.Signals
) -> None:
    set_share(api, 0.3)
    wait_for(has_share(gate, 0.3), "the canary's share is 0.3")
    before = canary_shoppers(gate)
    with Shoppers(gate, "shoes") as shoppers:
        gone = gate.signal_xds(number)
        set_share(api, 0.6)
        assert canary_shoppers(gate) == before
        wait_for(lambda: gate.xds() not in (None, gone), "there is another")
        wait_for(has_share(gate, 0.6), "it tells the canary's share")
    assert len(shoppers.answers) > 100
    assert {(path, status) for path, status, _ in shoppers.answers} == {("/ready", 200), (PREDICT, 200)}
    assert gate.process.poll() is None


@pytest.mark.slow
def test_without_an_api_server_a_fresh_gateway_starts_on_stable(
    gate: Gateway, api: ApiServer, names: NameServer
) -> None:
    set_share(api, 0.6)
    wait_for(has_share(gate, 0.6), "the canary's share is 0.6")
    api.leave()
    try:
        gate.process.terminate()
        gate.process.wait()
        gate.start()
        assert canary_shoppers(gate) == set()
        assert gate.ask("hats").json()["by"] == "hats-v1-predictor.shop.svc"
        names.addresses["hats-v1-predictor.shop.svc"] = ["127.0.7.99"]
        wait_for(lambda: gate.ask("hats").headers[VARIANT_HEADER] == "fallback", "hats are listed")
        assert list_items(gate.ask("hats")) == ["p1", "p2"], "the list outlives the xDS service, too"
    finally:
        names.addresses["hats-v1-predictor.shop.svc"] = ["127.0.7.3"]
        api.come_back()
    wait_for(has_share(gate, 0.6), "the canary has its share back")
    assert canary_shoppers(gate) != set()


def list_items(answer: httpx.Response) -> list[str]:
    return [one["item"] for one in answer.json()["predictions"][0]["items"]]


@pytest.mark.slow
def test_after_a_failed_replica_another_is_asked_and_then_the_list(
    gate: Gateway, names: NameServer, predictors: dict[str, Backend]
) -> None:
    name = "hats-v1-predictor.shop.svc"
    first = predictors[name]
    with Backend("another", host="127.0.7.5", port=PORT) as second:
        names.addresses[name] = ["127.0.7.3", "127.0.7.5"]
        wait_for(lambda: {gate.ask("hats").json().get("by") for _ in range(10)} == {name, "another"}, "both answer")
        for failure in ({"status": 503, "retry_after": "1"}, {"breaks": True}):
            first.fail(**failure)  # type: ignore[arg-type]
            assert {gate.ask("hats").json()["by"] for _ in range(30)} == {"another"}
            assert first.seen, "it was asked, too"
        second.fail(status=503, retry_after="1")
        answer = gate.ask("hats")
        assert (answer.headers[VARIANT_HEADER], list_items(answer)) == ("fallback", ["p1", "p2"])
        second.fail()
        wait_for(lambda: gate.ask("hats").json().get("by") == "another", "the other is asked again")
        second.shutdown()
    first.fail()
    names.addresses[name] = ["127.0.7.3"]
    wait_for(lambda: {gate.ask("hats").json().get("by") for _ in range(10)} == {name}, "hats are as before")


def test_events_go_to_one_intake_for_each_client_and_are_sent_once(gate: Gateway) -> None:
    with (
        Backend("intake-0", host="127.0.7.6", port=PORT) as one,
        Backend("intake-1", host="127.0.7.7", port=PORT) as other,
    ):
        for path in ("/v1/events", "/v1/impressions", "/v1/orders"):
            assert gate.client.post(path, json={}).json()["path"] == path
        assert sorted([len(one.seen), len(other.seen)]) == [0, 3]
        shoppers = [gate.client.post("/v1/events", json={}, headers={SHOPPER_HEADER: s}) for s in SHOPPERS[:40]]
        assert {answer.json()["by"] for answer in shoppers} == {"intake-0", "intake-1"}
        for failure, status in (({"breaks": True}, 503), ({"status": 503, "retry_after": "2"}, 503)):
            for backend in (one, other):
                backend.fail(**failure)  # type: ignore[arg-type]
            assert gate.client.post("/v1/orders", json={}).status_code == status
            assert len(one.seen) + len(other.seen) == 1, "it may have been written down"
        one.shutdown()
        other.shutdown()
    assert gate.client.get("/v1/eventsx").status_code == 404


@pytest.mark.slow
def test_envoy_answers_running_requests_before_it_ends(gate: Gateway, names: NameServer) -> None:
    with Backend("slow", delay=1.5, host="127.0.7.4", port=PORT) as slow:
        wait_for(lambda: gate.ask("hats").status_code == 200, "hats are served")
        names.addresses["hats-v1-predictor.shop.svc"] = ["127.0.7.4"]
        wait_for(lambda: gate.ask("hats").json()["by"] == "slow", "hats are served slowly")
        seen = len(slow.seen)
        answers: list[httpx.Response] = []
        thread = threading.Thread(target=lambda: answers.append(gate.ask("hats")))
        thread.start()
        wait_for(lambda: len(slow.seen) > seen, "it is asked")
        gate.process.send_signal(signal.SIGTERM)
        thread.join()
        assert gate.process.wait(60) == 0
        assert answers[0].json()["by"] == "slow"
        names.addresses["hats-v1-predictor.shop.svc"] = ["127.0.7.3"]
        slow.shutdown()
    gate.start(drain_wait=2)
    gate.process.send_signal(signal.SIGTERM)
    wait_for(lambda: not gate.ready(), "it says that it is not ready")
    assert gate.ask("shoes").status_code == 200, "it answers while others notice"
    assert gate.process.wait(60) == 0


def test_a_gateway_without_any_state_does_not_listen(place: Callable[[], Gateway], api: ApiServer) -> None:
    api.leave()
    try:
        fresh = place()
        fresh.begin()
        wait_for(lambda: "LIVE" not in read_admin_page(fresh, "/ready") != "", "Envoy waits")
        assert not fresh.ready()
    finally:
        api.come_back()
    fresh.wait_until_ready()
    assert "envoy_cluster_upstream_rq" in httpx.get(f"http://127.0.0.1:{fresh.metrics_port}/stats/prometheus").text
    assert httpx.post(f"http://127.0.0.1:{fresh.metrics_port}/quitquitquit").status_code == 404


def read_admin_page(gate: Gateway, path: str) -> str:
    try:
        return gate.admin.get(path).text
    except httpx.TransportError:
        return ""


def test_the_xds_service_answers_only_its_own_pod(tmp_path: Path) -> None:
    service = xds_service.XdsService(tmp_path / "state.json")
    service.set_splits({"shoes": Split(Upstream("a", 80))})
    assert post_question(service, "127.0.0.1", b"{}").status_code == 200
    for sender, body, status, code in (
        ("10.1.2.3", b"{}", 403, "gateway.not-local"),
        ("127.0.0.1", b"[]", 400, "gateway.discovery-body"),
    ):
        answer = post_question(service, sender, body)
        assert (answer.status_code, answer.json()["code"]) == (status, code)


def post_question(service: xds_service.XdsService, sender: str, body: bytes) -> httpx.Response:
    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(xds_service.make_xds_app(service, lambda: True), client=(sender, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://xds") as client:
            return await client.post("/v3/discovery:clusters", content=body)

    return asyncio.run(send())


def test_a_damaged_last_state_is_not_used(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    shadow = Upstream("s", 80, kind="shadow")
    split = Split(Upstream("a", 80, "a.shop.svc", "a"), Upstream("b", 80), 0.3, "5a17", shadow, 0.5, LISTED)
    last_state.write_last_state(file, LastState({"shoes": split}, [Upstream("c", 80)]))
    assert last_state.read_last_state(file) == LastState({"shoes": split}, [Upstream("c", 80)])
    layout = Layout.begin({"stable": 400_000, "challenger-2": 600_000})
    tested = Split(Upstream("a", 80), salt="5a17", challengers=(None, Upstream("c", 80)), layout=layout)
    last_state.write_last_state(file, LastState({"shoes": tested}, []))
    assert last_state.read_last_state(file) == LastState({"shoes": tested}, [])
    # An earlier release knew no A/B test.
    stored = json.loads(file.read_text())
    for key in ("challengers", "layout"):
        del stored["splits"]["shoes"][key]
    file.write_text(json.dumps(stored))
    assert last_state.read_last_state(file) == LastState({"shoes": Split(Upstream("a", 80), salt="5a17")}, [])
    file.write_text(file.read_text()[:-20])
    with pytest.raises(IntegrityError) as unreadable:
        last_state.read_last_state(file)
    assert (unreadable.value.code, unreadable.value.fields["file"]) == ("gateway.state-unreadable", str(file))
    service = xds_service.XdsService(file)
    service.fall_back("there is no API server")
    assert not service.ready
