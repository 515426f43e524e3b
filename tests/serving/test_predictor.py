"""One predictor with an online store: what it looks up, follows, counts, bounds and turns away."""

from __future__ import annotations

import json
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest
from prometheus_client.parser import text_string_to_metric_families

from endcap.online import OnlineStore, RecentEvent, open_online
from endcap.rules import Catalogue, publish_catalogue
from endcap.spec.rules import Rules
from endcap_serving.local.predictors import find_free_port
from endcap_serving.predictor.surfaces import OFTEN
from tests.online.servers import RedisServer, SlowProxy
from tests.serving.conftest import NOON, Shop, running, wait_until_ready

PATH = "/v1/models/shoes:predict"
WEEK = timedelta(days=7)
OWNED = Rules.model_validate({"owned": {"types": ["purchase"]}})


@dataclass
class Running:
    client: httpx.Client
    port: int
    store: OnlineStore
    server: RedisServer
    proxy: SlowProxy
    log: Path

    def ask(self, status: int = 200, **instance: Any) -> dict[str, Any]:
        answer = self.client.post(PATH, json={"instances": [instance]})
        assert answer.status_code == status, answer.text
        (ranking,) = answer.json()["predictions"]
        assert isinstance(ranking, dict)
        return ranking

    def items(self, **instance: Any) -> list[str]:
        return [one["item"] for one in self.ask(**instance)["items"]]

    def metric(self, name: str, **labels: str) -> float:
        """The sum of the samples that have these labels."""
        return sum(
            sample.value
            for family in text_string_to_metric_families(self.client.get("/metrics").text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def lines(self, message: str) -> list[dict[str, Any]]:
        found = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in found if line["message"] == message]


def of_other_versions(shop: Shop, model: str) -> Path:
    """A package that differs in the version of NumPy that it says it was made with."""
    with shop.store.publish("packages/older", model) as draft:
        for file in shop.store.fetch(shop.packages[model]).rglob("*"):
            if file.is_file() and file.name != "manifest.json":
                place = draft.path / file.relative_to(shop.store.fetch(shop.packages[model]))
                place.parent.mkdir(exist_ok=True)
                shutil.copy(file, place)
        made_with = json.loads((draft.path / "environment.json").read_text())
        (draft.path / "environment.json").write_text(json.dumps({**made_with, "numpy": "1.0.0"}))
    return shop.store.fetch(draft.address)


@pytest.fixture(scope="module")
def predictor(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("predictor")
    server = RedisServer(folder / "redis")
    proxy = SlowProxy(server.port)
    port, log = find_free_port(), folder / "log"
    store = open_online(server.url, shop="demo", timeout=5.0)
    publish_catalogue(store, Catalogue(OWNED, read_time=int(time.time() * 1000)))
    options = {
        "--model-name": "shoes",
        "--package": str(of_other_versions(shop, "sequential-rules")),
        "--version": "12",
        "--host": "127.0.0.1",
        "--port": str(port),
        "--online": proxy.url,
        "--online-timeout": "1",
        "--refresh": "0.2",
    }
    words = [word for option in options.items() for word in option]
    with (
        running([sys.executable, "-m", "endcap_serving.predictor", *words], log) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client,
        store,
    ):
        wait_until_ready(client, process, log)
        yield Running(client, port, store, server, proxy, log)
    server.stop()


def eventually(holds: Callable[[], bool], patience: float = 30.0) -> bool:
    deadline = time.monotonic() + patience
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_recent_events_come_from_the_online_store(predictor: Running, shop: Shop) -> None:
    seen = [RecentEvent(shop.ids[5], NOON), RecentEvent(shop.ids[7], NOON + 60_000)]
    predictor.store.append({"customer:ann": seen, "session:ann|s1": seen[:1]}, keep=WEEK)
    assert predictor.items(customer="ann") == predictor.items(items=[shop.ids[5], shop.ids[7]])
    # A session's own events come before the customer's; a session without any is that of its customer.
    assert predictor.items(customer="ann", session="s1") == predictor.items(items=[shop.ids[5]])
    assert predictor.items(customer="ann", session="new") == predictor.items(customer="ann")
    # Neither another customer nor nobody sees it, who come with the same session's id.
    nothing = predictor.items(items=[])
    assert predictor.items(customer="bob", session="s1") == predictor.items(session="s1") == nothing
    # What the request brings counts, whatever the store has.
    assert predictor.items(customer="ann", items=[shop.ids[9]]) == predictor.items(items=[shop.ids[9]])


def test_what_a_customer_owns_is_left_out(predictor: Running, shop: Shop) -> None:
    free = predictor.items(customer="bea", items=[shop.ids[5]])
    predictor.store.add("owned", {"customer:bea": free[:2]}, keep=None)
    assert not set(free[:2]) & set(predictor.items(customer="bea", items=[shop.ids[5]]))


def test_a_list_of_the_last_batch_is_given_under_the_rules_of_now(predictor: Running, shop: Shop) -> None:
    wanted = [shop.ids[number] for number in (42, 17, 3)]
    row = json.dumps({"items": wanted, "scores": [3.0, 2.0, 1.0], "made": NOON}).encode()
    predictor.store.write("lists/shoes/12", "a", {"cleo": row})
    predictor.store.publish("lists/shoes/12", "a")
    assert predictor.items(customer="cleo", precomputed=True, k=3) == wanted
    predictor.store.add("owned", {"customer:cleo": wanted[:1]}, keep=None)
    assert predictor.items(customer="cleo", precomputed=True, k=2) == wanted[1:]
    # Who has none is ranked for.
    assert len(predictor.items(customer="nobody", precomputed=True, k=3)) == 3


def test_without_the_online_store_it_ranks_by_what_the_request_brings_and_says_so(
    predictor: Running, shop: Shop
) -> None:
    whole = predictor.items(items=[shop.ids[5]])
    before = predictor.metric("endcap_degraded_total", without="online-store")
    predictor.proxy.delay = 60.0
    began = time.monotonic()
    answer = predictor.client.post(PATH, json={"instances": [{"items": [shop.ids[5]], "customer": "ann"}]})
    assert time.monotonic() - began < 20
    (ranking,) = answer.json()["predictions"]
    assert [one["item"] for one in ranking["items"]] == whole
    assert (ranking["degraded"], answer.headers["x-endcap-degraded"]) == (["online-store"], "online-store")
    # For a while it is not asked at all: nobody else waits for it.
    away = predictor.ask(customer="ann")
    assert (away["degraded"], away["fallback"]["reason"]) == (["online-store"], "online-store-away")
    assert predictor.metric("endcap_fallbacks_total", reason="online-store-away") == 1
    # Who needs nothing of it is none the worse.
    answer = predictor.client.post(PATH, json={"instances": [{"items": [shop.ids[5]]}]})
    assert "degraded" not in answer.json()["predictions"][0]
    assert "x-endcap-degraded" not in answer.headers
    assert predictor.metric("endcap_degraded_total", without="online-store") == before + 2
    (line,) = predictor.lines("rankings are made without the online store")
    assert (line["code"], bool(line["error"])) == ("predictor.without-online-store", True)
    predictor.proxy.delay = 0.0
    assert eventually(lambda: "degraded" not in predictor.ask(customer="ann"))


def test_a_new_catalogue_is_followed_and_a_damaged_one_is_not(predictor: Running, shop: Shop) -> None:
    first = predictor.items(items=[shop.ids[5]])[0]
    items = pa.table({"item": shop.ids, "brand": [f"brand {number % 4}" for number in range(len(shop.ids))]})
    made = int(time.time() * 1000) - 90_000
    publish_catalogue(predictor.store, Catalogue(OWNED, items, frozenset([first]), made))
    assert eventually(lambda: first not in predictor.items(items=[shop.ids[5]]))
    kept = predictor.items(items=[shop.ids[5]])
    assert {shop.ids.index(item) % 4 for item in predictor.items(items=[], filter={"brand": "brand 1"})} == {1}
    assert eventually(lambda: 90 <= predictor.metric("endcap_catalogue_age_seconds") < 120)
    predictor.store.write("catalogue", "damaged", {"catalogue": b"no catalogue"})
    predictor.store.publish("catalogue", "damaged")
    assert eventually(lambda: predictor.metric("endcap_catalogue_refreshes_total", outcome="refused") > 0)
    assert predictor.items(items=[shop.ids[5]]) == kept
    line = predictor.lines("the published catalogue is refused")[0]
    assert (line["code"], bool(line["kept"])) == ("rules.catalogue-damaged", True)
    publish_catalogue(predictor.store, Catalogue(OWNED, read_time=made + 1))
    assert eventually(lambda: predictor.items(items=[shop.ids[5]])[0] == first)


def test_metrics_count_by_status_and_by_a_bounded_set_of_surfaces(predictor: Running) -> None:
    count = "endcap_requests_total"
    for _ in range(OFTEN):
        predictor.ask(items=[], k=1, surface="home")
    before = predictor.metric(count, status="200", surface="home"), predictor.metric(count, status="400")
    rankings, latency = predictor.metric("endcap_rankings_total"), predictor.metric("endcap_request_seconds_count")
    predictor.client.post(PATH, json={"instances": [{"items": [], "surface": "home"}, {"items": []}]})
    predictor.client.post(PATH, json={})
    assert predictor.metric(count, status="200", surface="home") == before[0] + 1
    assert predictor.metric(count, status="400") == before[1] + 1
    assert predictor.metric("endcap_rankings_total") == rankings + 2
    assert predictor.metric("endcap_request_seconds_count") == latency + 1
    assert predictor.metric("endcap_batch_requests_sum") >= rankings + 2
    assert predictor.metric("endcap_model_info", model="shoes", version="12", variant="stable") == 1
    series = len(_lines(predictor, "endcap_"))
    for number in range(100):
        odd = f'page {number} "\\\n'
        instances = [{"items": [], "k": 1, "surface": f"{odd}{at}"} for at in range(10)]
        predictor.client.post(PATH, json={"instances": instances})
        predictor.client.post(f"/v1/models/none-{number}:predict", json={})
        predictor.client.request(f"ODD{number}", f"/v2/models/{number}", headers={"x-endcap-variant": f"v{number}"})
    assert len(_lines(predictor, "endcap_")) <= series + 4  # `other`, and statuses


def _lines(predictor: Running, start: str) -> list[str]:
    return [line for line in predictor.client.get("/metrics").text.splitlines() if line.startswith(start)]


def test_an_answer_tells_which_ranking_it_is(predictor: Running) -> None:
    body = {"instances": [{"items": []}, {"items": [], "surface": "home"}]}
    answer = predictor.client.post(PATH, json=body, headers={"x-request-id": "call", "x-endcap-variant": "canary"})
    first, second = answer.json()["predictions"]
    token, numbers = answer.headers["x-endcap-ranking-id"].removesuffix(".0"), ("0", "1")
    assert (first["ranking_id"], second["ranking_id"]) == tuple(f"{token}.{number}" for number in numbers)
    assert (second["surface"], "surface" in first) == ("home", False)
    assert {one["variant"] for one in (first, second)} == {"canary"}
    assert "call" not in token


def test_heads_and_bodies_are_bounded(predictor: Running) -> None:
    answer = raw(predictor, b"POST %b HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999999\r\n\r\n" % PATH.encode())
    assert answer.startswith(b"HTTP/1.1 413")
    told = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert (told["code"], told["fields"]) == (
        "predictor.body-too-large",
        {"most": 16_777_216, "found": 99_999_999_999},
    )
    for path in (PATH, "/v2/models/none/infer"):
        pieces = b"100000\r\n" + b" " * 2**20 + b"\r\n"
        head = b"POST %b HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n" % path.encode()
        assert raw(predictor, head, *[pieces] * 17).startswith((b"HTTP/1.1 413", RESET))
    answer = raw(predictor, b"GET / HTTP/1.1\r\n", *[b"x-%d: %b\r\n" % (n, b"y" * 1000) for n in range(80)])
    assert answer.startswith((b"HTTP/1.1 431", RESET))
    assert raw(predictor, b"GET / HTTP/1.1\r\nx: ", *[b"y" * 1000] * 80).startswith((b"HTTP/1.1 431", RESET))
    assert predictor.ask(items=[])


RESET = b"(connection reset)"
"""What a sender meets that goes on sending what nobody reads: the answer may be lost then."""


def raw(predictor: Running, *parts: bytes) -> bytes:
    """What is answered to these bytes."""
    with socket.create_connection(("127.0.0.1", predictor.port), timeout=10) as connection:
        try:
            for part in parts:
                connection.sendall(part)
        except OSError:
            pass  # it need not read to the end what it refuses
        try:
            return b"".join(iter(lambda: connection.recv(65536), b""))
        except ConnectionResetError:
            return RESET


def test_models_are_not_unloaded_by_whoever_asks(predictor: Running) -> None:
    answer = predictor.client.post("/v2/repository/models/shoes/unload")
    assert (answer.status_code, answer.json()["code"]) == (404, "predictor.loading-closed")
    assert predictor.ask(items=[])


def test_a_package_made_with_other_versions_is_served_and_says_so(predictor: Running) -> None:
    differs = {"numpy": {"made_with": "1.0.0", "here": np.__version__}}
    told = predictor.client.get("/v2/models/shoes").json()
    assert (told["versions"], told["parameters"]) == (["12"], {"package_mismatch": differs})
    assert predictor.metric("endcap_package_mismatch", library="numpy", made_with="1.0.0") == 1
    (line,) = predictor.lines("the package was made with other versions")
    assert line["numpy"] == differs["numpy"]
