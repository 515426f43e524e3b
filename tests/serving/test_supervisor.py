"""The desired state carried out by real predictors and a real Envoy, and no process left behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

from endcap.deploy import (
    CanaryTarget,
    Deployment,
    ShadowTarget,
    Target,
    promote_arm,
    read_state,
    set_share,
    take_back,
)
from endcap.deploy.gateway_settings import GatewaySettings
from endcap.deploy.state import make_salt, write_state
from endcap.errors import EndcapError, NotFoundError, UserError
from endcap.experiments.splits import Arm, TrafficSplit, hash_salt, weigh_share
from endcap.store import Store, open_store
from endcap_serving.local.events import (
    GatewayFailed,
    PredictorEnded,
    PredictorFailed,
    PredictorReady,
    PredictorStarted,
    RoutesChanged,
    ServingEvent,
    StateUnreadable,
)
from endcap_serving.local.serve import serving
from tests.listening import find_listening, on_loopback_alone
from tests.serving.conftest import Shop, all_ended, children

MODELS = {"1": "vsknn", "2": "sequential-rules", "3": "popularity"}
SHOPPERS = [f"shopper-{number}" for number in range(300)]
E = TypeVar("E", bound=ServingEvent)


def desire(
    shop: Shop,
    stable: str,
    canary: str | None = None,
    share: float = 0.0,
    name: str = "shoes",
    shadow: str | None = None,
) -> None:
    """Write the state that `deploy` would write; a shadow gets every request."""
    state = Deployment(
        recommender=name,
        stable=Target(version=stable, package=shop.packages[MODELS[stable]]),
        canary=CanaryTarget(version=canary, package=shop.packages[MODELS[canary]], share=share) if canary else None,
        shadow=ShadowTarget(version=shadow, package=shop.packages[MODELS[shadow]], share=1.0) if shadow else None,
        salt=make_salt(name, canary or stable),
        terms=GatewaySettings(popular=(shop.ids[0], shop.ids[1])),
        changed=datetime.now(UTC),
    )
    write_state(state, shop.store)


class Server:
    """A running server: its address, its events, and who answers whom."""

    def __init__(self, address: str, events: list[ServingEvent]) -> None:
        self.address = address
        self.events = events

    def versions(self, shoppers: list[str]) -> dict[str, str]:
        """Which version answers each shopper; gateway and predictor must agree on the variant."""
        found = {}
        with httpx.Client(base_url=self.address, timeout=10) as client:
            for shopper in shoppers:
                body = {"instances": [{"items": [], "k": 1}]}
                answer = client.post("/v1/models/shoes:predict", json=body, headers={"x-endcap-shopper": shopper})
                assert answer.status_code == 200, answer.text
                (ranking,) = answer.json()["predictions"]
                assert ranking["variant"] != "fallback", "nobody shall notice"
                assert answer.headers["x-endcap-variant"] == ranking["variant"]
                found[shopper] = ranking["model_version"]
        return found

    def bring(self, shop: Shop, stable: str, canary: str, share: float) -> None:
        """To a state to start from, whatever the tests before have left."""
        desire(shop, stable, canary, share)
        deadline = time.monotonic() + 90
        while set(self.versions(SHOPPERS[:50]).values()) != {stable, canary}:
            assert time.monotonic() < deadline, self.events
            time.sleep(0.1)
        self.events.clear()

    def wait_for(self, kind: type[E], within: float = 90.0, **fields: object) -> E:
        """The event of this kind, with these fields, that comes after all that was waited for before."""
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            for number, event in enumerate(self.events):
                if isinstance(event, kind) and fields.items() <= vars(event).items():
                    del self.events[: number + 1]
                    return event
            time.sleep(0.02)
        raise AssertionError(f"no {kind.__name__} with {fields} in {within} s: {self.events}")


@pytest.fixture(scope="module")
def server(shop: Shop) -> Iterator[Server]:
    """Version 1 for all but a tenth, who get version 2; at the end, no process is left."""
    desire(shop, "1", "2", 0.1)
    events: list[ServingEvent] = []
    with serving(shop.store, "shoes", listener=events.append) as address:
        started = processes(shop)
        assert len(started) == 4, "two predictors, the gateway, the intake"
        server = Server(address, events)
        yield server
        started |= processes(shop)
    assert not processes(shop)
    assert all_ended(started)


def processes(shop: Shop) -> dict[int, str]:
    """This process's predictors and gateway."""
    place = shop.store.root.removeprefix("file://")
    return {pid: line for pid, line in children(os.getpid()).items() if place in line and "many" not in line}


@pytest.fixture
def traffic(server: Server) -> Iterator[Callable[[], list[int]]]:
    """Two clients that ask without a pause; the function ends them and gives the answers' statuses."""
    stop = threading.Event()
    statuses: list[int] = []

    def ask(number: int) -> None:
        body = {"instances": [{"items": [], "k": 1}]}
        with httpx.Client(base_url=server.address, timeout=30) as client:
            while not stop.is_set():
                headers = {"x-endcap-shopper": f"s{number}-{len(statuses)}"}
                try:
                    answer = client.post("/v1/models/shoes:predict", json=body, headers=headers)
                    listed = answer.headers.get("x-endcap-variant") == "fallback"
                    statuses.append(0 if listed else answer.status_code)
                except httpx.HTTPError:
                    statuses.append(0)
                time.sleep(0.01)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()

    def ended() -> list[int]:
        stop.set()
        for thread in threads:
            thread.join()
        return statuses

    yield ended
    ended()


def test_a_larger_share_keeps_its_shoppers_and_drops_no_request(
    server: Server, shop: Shop, traffic: Callable[[], list[int]]
) -> None:
    server.bring(shop, "1", "2", 0.1)
    tenth = server.versions(SHOPPERS)
    set_share("shoes", 0.3, shop.store)
    server.wait_for(RoutesChanged, stable="1", canary="2", share=0.3, within=60)
    third = server.versions(SHOPPERS)
    met = [{shopper for shopper, version in seen.items() if version == "2"} for seen in (tenth, third)]
    assert met[0] < met[1]
    # Four standard deviations of a binomial at 300 shoppers.
    assert abs(len(met[0]) - 30) < 21
    assert abs(len(met[1]) - 90) < 32
    statuses = traffic()
    assert set(statuses) == {200}
    assert len(statuses) > 100


@pytest.mark.slow
def test_a_dead_canarys_shoppers_get_stable_until_it_is_back(server: Server, shop: Shop) -> None:
    server.bring(shop, "1", "2", 0.1)
    set_share("shoes", 1.0, shop.store)
    server.wait_for(RoutesChanged, canary="2", share=1.0)
    (canary,) = [pid for pid, line in processes(shop).items() if "--variant canary" in line]
    os.kill(canary, signal.SIGKILL)
    assert_killed(server.wait_for(PredictorFailed, version="2", variant="canary", retry_in=0.0))
    server.wait_for(RoutesChanged, stable="1", canary=None, shadow=None)
    assert set(server.versions(SHOPPERS[:5]).values()) == {"1"}
    server.wait_for(RoutesChanged, canary="2", share=1.0)
    assert set(server.versions(SHOPPERS[:5]).values()) == {"2"}


def test_a_dead_stables_shoppers_get_the_list_until_it_is_back(server: Server, shop: Shop) -> None:
    desire(shop, "1")
    server.wait_for(RoutesChanged, stable="1", canary=None)
    with httpx.Client(base_url=server.address, timeout=10) as client:
        body = {"instances": [{"items": [], "k": 2}]}
        (stable,) = [pid for pid, line in processes(shop).items() if "--variant stable" in line]
        os.kill(stable, signal.SIGKILL)
        answer = client.post("/v1/models/shoes:predict", json=body)
        assert answer.headers["x-endcap-variant"] == "fallback"
        assert [one["item"] for one in answer.json()["predictions"][0]["items"]] == shop.ids[:2]
        server.wait_for(PredictorReady, version="1", variant="stable")
        server.wait_for(RoutesChanged, stable="1", canary=None)
        assert client.post("/v1/models/shoes:predict", json=body).headers["x-endcap-variant"] == "stable"


@pytest.mark.slow
def test_a_shadow_is_asked_what_others_are_and_nobody_notices_when_it_dies(
    server: Server, shop: Shop, traffic: Callable[[], list[int]]
) -> None:
    desire(shop, "1", shadow="3")
    server.wait_for(RoutesChanged, stable="1", canary=None, shadow="3", shadow_share=1.0)
    (shadow,) = [pid for pid, line in processes(shop).items() if "--variant shadow" in line]
    assert set(server.versions(SHOPPERS[:20]).values()) == {"1"}
    asked = answered(shop, "shadow")
    assert set(server.versions(SHOPPERS[:20]).values()) == {"1"}
    deadline = time.monotonic() + 60
    while answered(shop, "shadow") < asked + 20:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(shadow, signal.SIGKILL)
    assert set(server.versions(SHOPPERS[:50]).values()) == {"1"}
    assert_killed(server.wait_for(PredictorFailed, version="3", variant="shadow", retry_in=0.0))
    server.wait_for(RoutesChanged, shadow="3", shadow_share=1.0)
    desire(shop, "1")
    server.wait_for(PredictorEnded, version="3")
    assert set(traffic()) == {200}


def assert_killed(event: PredictorFailed | GatewayFailed) -> None:
    assert (event.error.code, event.error.fields["status"]) == ("serving.process-ended", -signal.SIGKILL)


def answered(shop: Shop, variant: str) -> int:
    """How many requests a variant's predictor has answered, by its own account."""
    (line,) = [line for line in processes(shop).values() if f"--variant {variant}" in line]
    port = line.split("--port ")[1].split()[0]
    text = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    counts = [line.split()[-1] for line in text.splitlines() if line.startswith("endcap_requests_total{")]
    return int(sum(map(float, counts)))


def test_nothing_listens_beyond_loopback_and_the_admin_page_on_no_port(server: Server, shop: Shop) -> None:
    server.bring(shop, "1", "2", 0.1)
    with on_loopback_alone():
        assert len(server.versions(SHOPPERS[:20])) == 20
    (envoy,) = [pid for pid, line in processes(shop).items() if "envoy" in line]
    assert {socket.port for socket in find_listening({envoy})} == {int(server.address.rpartition(":")[2])}
    folder = Path(f"/proc/{envoy}/cwd").readlink()
    modes = {file.name: file.stat().st_mode & 0o777 for file in [folder, folder.parent, *folder.iterdir()]}
    assert {name: mode for name, mode in modes.items() if mode & 0o077} == {}
    assert {"access.log", "envoy.log", "admin.sock", "routes.json"} <= set(modes)


def test_what_shoppers_do_reaches_the_intake_by_the_gateway(server: Server, shop: Shop) -> None:
    event = {"id": "e1", "time": "2026-01-01T12:00:00Z", "session": "s1", "item": shop.ids[0], "type": "view"}
    answer = httpx.post(f"{server.address}/v1/events", json=event)
    assert (answer.status_code, answer.json()) == (200, {"accepted": 1, "duplicates": 0})
    assert httpx.post(f"{server.address}/v1/events", json=event).json() == {"accepted": 0, "duplicates": 1}


@pytest.mark.slow
def test_versions_come_and_go_and_no_request_is_dropped(
    server: Server, shop: Shop, traffic: Callable[[], list[int]]
) -> None:
    server.bring(shop, "1", "2", 0.5)
    desire(shop, "1", "3", 1.0)
    server.wait_for(PredictorReady, version="3", variant="canary")
    server.wait_for(PredictorEnded, version="2")
    assert set(server.versions(SHOPPERS[:20]).values()) == {"3"}
    desire(shop, "3")
    server.wait_for(RoutesChanged, stable="3", canary=None)
    ended = {server.wait_for(PredictorEnded).version}
    assert set(server.versions(SHOPPERS[:20]).values()) == {"3"}
    assert set(traffic()) == {200}
    ended.add(server.wait_for(PredictorEnded).version)
    assert ended == {"1", "3"}, "the stable version before, and the canary that was promoted"
    assert len(processes(shop)) == 3


@pytest.mark.slow
def test_after_a_promotion_the_arms_keep_their_shoppers_and_the_rest_get_the_new_version(
    server: Server, shop: Shop, traffic: Callable[[], list[int]]
) -> None:
    server.bring(shop, "1", "2", 0.5)
    salt, terms = (getattr(read_state("shoes", shop.store), name) for name in ("salt", "terms"))
    canary = server.versions(SHOPPERS)
    assert canary == met(salt, {"canary": "2", "stable": "1"}, canary=0.5)
    promote_arm("shoes", "2", 0.1, terms, shop.store)
    server.wait_for(PredictorStarted, version="2", variant="stable")
    routes = server.wait_for(RoutesChanged)
    assert (routes.stable, routes.previous, routes.previous_share) == ("2", "1", 0.1), "no shopper in between"
    promoted = server.versions(SHOPPERS)
    assert promoted == met(salt, {"stable": "2", "previous": "1"}, previous=0.1)
    moved = {(canary[shopper], promoted[shopper]) for shopper in SHOPPERS if canary[shopper] != promoted[shopper]}
    assert moved == {("1", "2")}
    assert set(traffic()) == {200}
    os.kill(find_predictor(shop, "1"), signal.SIGKILL)
    assert_killed(server.wait_for(PredictorFailed, version="1", variant="previous", retry_in=0.0))
    server.wait_for(RoutesChanged, stable="2", previous=None)
    assert set(server.versions(SHOPPERS[:50]).values()) == {"2"}
    server.wait_for(RoutesChanged, stable="2", previous="1", previous_share=0.1)
    assert server.versions(SHOPPERS) == promoted
    take_back("shoes", "2", shop.store)
    server.wait_for(RoutesChanged, stable="1", canary=None, previous=None, within=60)
    assert set(server.versions(SHOPPERS[:50]).values()) == {"1"}
    server.wait_for(PredictorEnded, version="2")


def met(salt: str, versions: dict[Arm, str], canary: float = 0.0, previous: float = 0.0) -> dict[str, str]:
    """The version of each shopper's arm, by the hash that Envoy computes."""
    split = TrafficSplit(hash_salt(salt), canary=weigh_share(canary), previous=weigh_share(previous))
    return {shopper: versions[split.choose(shopper, salt)] for shopper in SHOPPERS}


def find_predictor(shop: Shop, version: str) -> int:
    """The process that serves a version."""
    (pid,) = [pid for pid, line in processes(shop).items() if f"--version {version} " in line]
    return pid


def test_a_dead_gateway_is_started_again_at_its_address(server: Server, shop: Shop) -> None:
    (envoy,) = [pid for pid, line in processes(shop).items() if "envoy" in line]
    os.kill(envoy, signal.SIGKILL)
    assert_killed(server.wait_for(GatewayFailed))
    server.wait_for(RoutesChanged)
    assert len(server.versions(SHOPPERS[:5])) == 5


def test_a_damaged_document_or_a_damaged_new_package_stops_nothing(server: Server, shop: Shop) -> None:
    before = server.versions(SHOPPERS[:5])
    file = Path(shop.store.root.removeprefix("file://")) / "deployments" / "shoes.json"
    good = file.read_text()
    stable = read_state("shoes", shop.store).stable.package
    file.write_text("{")
    assert server.wait_for(StateUnreadable, within=60).error.code == "deploy.state-damaged"
    file.write_text(good.replace(stable, f"{shop.store.root}/packages/shoes/none"))
    failed = server.wait_for(PredictorFailed, variant="stable", within=60)
    assert failed.error.code == "store.not-found"
    assert server.versions(SHOPPERS[:5]) == before
    file.write_text(good)


@contextmanager
def served_by_a_process(shop: Shop, name: str) -> Iterator[subprocess.Popen[str]]:
    """`endcap serve --json` in a process of its own, killed at the end if it still runs."""
    main = [sys.executable, "-c", "from endcap.cli.main import main; main()"]
    command = [*main, "serve", name, "--store", shop.store.root, "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_server_that_is_ended_leaves_no_process(shop: Shop, number: signal.Signals) -> None:
    desire(shop, "1", name="ended")
    with served_by_a_process(shop, "ended") as process:
        assert process.stdout
        address = next(event["address"] for event in map(json.loads, process.stdout) if event["event"] == "served")
        started = children(process.pid)
        assert len(started) == 3
        assert httpx.get(f"{address}/v2/health/live").status_code == 200
        process.send_signal(number)
        assert process.wait(15) == (0 if number == signal.SIGTERM else -signal.SIGKILL)
        assert all_ended(started)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_a_server_that_is_ended_while_it_starts_leaves_no_process(shop: Shop, number: signal.Signals) -> None:
    desire(shop, "1", "2", 0.5, name="ended")
    with served_by_a_process(shop, "ended") as process:
        assert process.stdout
        events = [json.loads(process.stdout.readline()) for _ in range(2)]
        assert [(one["event"], one["variant"]) for one in events] == [
            ("predictor-started", "stable"),
            ("predictor-started", "canary"),
        ]
        started = children(process.pid)
        assert set(started) == {one["pid"] for one in events}
        process.send_signal(number)
        assert process.wait(15) == (-signal.SIGKILL if number == signal.SIGKILL else 0)
        assert all_ended(started)


def test_without_a_deployment_there_is_nothing_to_serve(store: Store) -> None:
    with pytest.raises(NotFoundError) as nothing, serving(store, "hats"):
        pass
    assert nothing.value.code == "deploy.not-deployed"


def test_a_taken_port_is_said_before_anything_starts(shop: Shop) -> None:
    desire(shop, "1", name="taken")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(UserError) as taken, serving(shop.store, "taken", port=port):
            pass
        assert (taken.value.code, taken.value.fields["port"]) == ("serving.port-taken", port)


def test_a_damaged_package_is_said_to_be_one(shop: Shop, tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    with store.publish("packages/hats", "damaged") as draft:
        (draft.path / "spec.json").write_text("{}")
        damaged = draft.address
    target = Target(version="1", package=damaged)
    write_state(Deployment(recommender="hats", stable=target, salt="0", changed=datetime.now(UTC)), store)
    assert cause(store, "hats")["code"] == "registry.package-damaged"
    (store.fetch(damaged) / "spec.json").write_text("[]")
    assert cause(store, "hats")["code"] == "store.damaged"


def cause(store: Store, name: str) -> dict[str, Any]:
    """Why version 1 cannot be served."""
    with pytest.raises(EndcapError) as error, serving(store, name):
        pass
    fields = error.value.fields
    assert (error.value.code, fields["recommender"], fields["version"]) == ("serving.version-failed", name, "1")
    told: dict[str, Any] = fields["cause"]
    return told
